"""The guess that spares hopeless variants their measurement."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from search.latency import LatencyGuess

Array = NDArray[np.float64]


def costs(count: int, seed: int = 0) -> Array:
    return np.exp(np.random.default_rng(seed).uniform(5, 12, size=(count, 3)))


def power_law(x: Array) -> Array:
    return 1e-4 * x[:, 0] ** 0.5 * x[:, 1] ** 0.3 * x[:, 2] ** 0.1


def test_guess_follows_a_power_law() -> None:
    guess = LatencyGuess()
    known, new = costs(60), costs(20, seed=1)
    for features, ms in zip(known, power_law(known), strict=True):
        guess.add(features, float(ms))
    predicted = guess.predict(new)
    assert predicted is not None
    # The ridge shrinks slopes by about 1 %, of logs that spread over 1 to 2.
    assert np.abs(np.log(predicted / power_law(new))).max() < 0.05


def test_guess_needs_some_measurements_first() -> None:
    guess = LatencyGuess()
    x = costs(LatencyGuess.MIN_POINTS)
    for features in x[:-1]:
        guess.add(features, 1.0)
    assert guess.predict(x) is None
    guess.add(x[-1], 1.0)
    assert guess.predict(x) == pytest.approx(np.ones(len(x)))


def test_guess_bears_costs_that_do_not_vary() -> None:
    guess = LatencyGuess()
    x = costs(20)
    x[:, 1] = 7.0
    for features in x:
        guess.add(features, 3.0)
    assert guess.predict(x) == pytest.approx(np.full(len(x), 3.0))
