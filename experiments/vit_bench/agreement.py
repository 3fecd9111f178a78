"""How readings rank the benchmark's architectures: tau, rho and paired differences, bootstrapped.

Resampled are architectures. A resample is a count for each of them; Kendall's tau of all resamples
follows from one matrix of pairs, so that thousands of them cost a matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.ranking import CONFIDENCE, RESAMPLES, Estimate, FloatArray, kendall, spearman

BASELINE = "params"
"""What every other reading is compared with."""


def draws(count: int, seed: int) -> FloatArray:
    """How often each of ``count`` architectures is in each resample, (resamples, count)."""
    generator = np.random.default_rng(seed)
    chosen = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return chosen.astype(np.float64)


def resampled_kendall(x: FloatArray, y: FloatArray, counts: FloatArray) -> FloatArray:
    """Kendall's tau-b in each resample.

    Args:
        x: (n,) values.
        y: (n,) values of the same architectures.
        counts: (resamples, n), from :func:`draws`.

    Returns:
        (resamples,), as :func:`experiments.ranking.kendall` has it of the resampled values; NaN
        where one of them is constant.
    """
    signs = [np.sign(sample[:, None] - sample[None, :]) for sample in (x, y)]
    agreed, *untied = (
        np.einsum("rn,rn->r", counts @ pairs, counts)
        for pairs in (signs[0] * signs[1], signs[0] ** 2, signs[1] ** 2)
    )
    under = np.sqrt(untied[0] * untied[1])
    found: FloatArray = np.full(len(counts), np.nan)
    np.divide(agreed, under, out=found, where=under > 0)
    return found


def interval(values: FloatArray) -> tuple[float, float]:
    """Percentiles of resampled values that hold 95 % of them."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def compare(readings: Mapping[str, FloatArray], truth: FloatArray, seed: int = 0) -> pd.DataFrame:
    """Rank agreement of readings with accuracies, and their difference to :data:`BASELINE`.

    Args:
        readings: (n,) values by name, the baseline among them; larger is taken for better.
        truth: (n,) accuracies.
        seed: Of the resamples, which all readings share.

    Returns:
        One row a reading: ``tau`` with its interval, ``rho``, and ``gain``, tau minus the
        baseline's, with the interval of that paired difference.
    """
    counts = draws(len(truth), seed)
    tau = {name: float(kendall(values, truth)) for name, values in readings.items()}
    spread = {name: resampled_kendall(v, truth, counts) for name, v in readings.items()}
    found = []
    for name, values in readings.items():
        gain = Estimate(tau[name] - tau[BASELINE], *interval(spread[name] - spread[BASELINE]))
        low, high = interval(spread[name])
        found.append(
            {
                "reading": name,
                "tau": tau[name],
                "tau_low": low,
                "tau_high": high,
                "rho": float(spearman(values, truth)),
                "gain": gain.value,
                "gain_low": gain.low,
                "gain_high": gain.high,
            }
        )
    table: pd.DataFrame = pd.DataFrame(found)
    return table


def ranks(values: NDArray[np.float64]) -> FloatArray:
    """Ranks of each column (n, k) from -1 to 1, ties at their mean."""
    found: FloatArray = pd.DataFrame(values).rank().to_numpy(np.float64)
    return (2 * found - 1) / len(found) - 1
