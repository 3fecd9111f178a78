"""Predictions: prices of work, what is learned beyond them, and where they end."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from effvit import ConfigError, ModelConfig, model_config, model_cost
from effvit.cost import Operator
from search.latency.predictor import MIN_SAMPLES, Coverage, LatencyPredictor, Prices
from search.latency.validation import kendall, median_error
from search.latency.work import COLUMNS, INDEX, KINDS, QUANTITIES, THIN, THIN_TAPS, model_work
from spaces import get_space, list_spaces

Array = NDArray[np.float64]


# --- work ---------------------------------------------------------------------------------------


def counted(config: ModelConfig) -> Array:
    """Work of one network, summed over its own breakdown."""
    work = np.zeros((len(KINDS), len(QUANTITIES)))
    for op in model_cost(config).operations:
        thin = op.operator is Operator.CONVOLUTION and op.macs <= THIN_TAPS * op.elements
        kind = THIN if thin else INDEX[op.operator]
        work[kind] += (1, op.params, op.macs, op.elements)
    return work.ravel()


@pytest.mark.parametrize("name", list_spaces())
def test_work_of_many_networks_is_that_of_each(name: str) -> None:
    configs = get_space(name).sample_many(np.random.default_rng(0), 20)
    work = model_work(configs)
    assert work.shape == (20, len(COLUMNS))
    for row, config in zip(work, configs, strict=True):
        different = np.flatnonzero(row != counted(config))
        assert not [COLUMNS[column] for column in different]


@pytest.mark.parametrize("name", ["swin_tiny", "mobilevit_s", "cswin_tiny"])
def test_work_of_families_without_a_space(name: str) -> None:
    config = model_config(name)
    assert np.array_equal(model_work([config, config])[1], counted(config))


def test_thin_convolutions_are_apart() -> None:
    work = dict(zip(COLUMNS, model_work([model_config("mobilevitv2_100")])[0], strict=True))
    # Depthwise 3 x 3 convolutions and the stem's 3 x 3 over 3 channels write what they multiply
    # by 9 and 27; the others sum over at least 32 channels.
    assert 9 <= work["thin_convolution macs"] / work["thin_convolution elements"] <= 81
    assert work["convolution macs"] / work["convolution elements"] > 81


# --- a machine whose prices are known -----------------------------------------------------------

PRICED = {"linear macs": 3e-9, "layer_norm elements": 5e-8, "matmul calls": 0.01}


def machine(work: Array, noise: float = 0.0, seed: int = 0) -> Array:
    """Ratios that a machine of known prices measures."""
    prices = np.array([PRICED.get(name, 0.0) for name in COLUMNS])
    factor = np.exp(noise * np.random.default_rng(seed).standard_normal(len(work)))
    ratios: Array = (0.02 + work @ prices) * factor
    return ratios


@pytest.fixture(scope="module")
def work() -> Array:
    return model_work(get_space("sepvit").sample_many(np.random.default_rng(1), 200))


@pytest.fixture(scope="module")
def noisy(work: Array) -> LatencyPredictor:
    return LatencyPredictor(work[:120], machine(work[:120], noise=0.03))


def test_prices_are_found(work: Array) -> None:
    prices = Prices(work, machine(work))
    assert prices.parts(work).sum(axis=1) == pytest.approx(machine(work), rel=1e-6)
    assert (prices.prices >= 0).all()


def test_networks_left_out_are_predicted_within_the_noise(
    work: Array, noisy: LatencyPredictor
) -> None:
    prediction = noisy.predict_work(work[120:])
    truth = machine(work[120:])
    # 120 networks measured with 3 % noise tell a dozen prices well below 3 %.
    assert median_error(prediction.ratio, truth) < 0.015
    assert kendall(prediction.ratio, truth) > 0.97
    # Half of normal deviations are below 0.67 standard deviations.
    assert 0.67 * 0.03 * 0.7 < noisy.error < 0.67 * 0.03 * 1.5


def test_the_interval_holds_new_measurements(work: Array, noisy: LatencyPredictor) -> None:
    prediction = noisy.predict_work(work[120:])
    measured = machine(work[120:], noise=0.03, seed=5)
    inside = (prediction.low <= measured) & (measured <= prediction.high)
    assert 0.85 <= inside.mean() <= 1.0
    # 1.96 standard deviations of 3 %, and a little for the prices themselves.
    assert prediction.high / prediction.ratio == pytest.approx(np.exp(1.96 * 0.03), rel=0.03)


def test_the_rest_is_learned_where_prices_do_not_hold(work: Array) -> None:
    # Where windows are many, a machine that overlaps work is faster than the sum of prices says.
    share = work[:, COLUMNS.index("matmul elements")] / work.sum(axis=1)
    bent = machine(work) * np.exp(-4.0 * share / share.max())
    only_prices = Prices(work[:120], bent[:120]).parts(work[120:]).sum(axis=1)
    learned = LatencyPredictor(work[:120], bent[:120]).predict_work(work[120:]).ratio
    assert median_error(learned, bent[120:]) < 0.6 * median_error(only_prices, bent[120:])


def test_order_of_the_table_does_not_matter_and_nothing_is_random(work: Array) -> None:
    ratios = machine(work, noise=0.03)
    first, second = (LatencyPredictor(work[:60], ratios[:60]).predict_work(work) for _ in range(2))
    assert np.array_equal(first.ratio, second.ratio)
    assert np.array_equal(first.inside, second.inside)


def test_too_few_networks_are_an_error(work: Array) -> None:
    few = MIN_SAMPLES - 1
    with pytest.raises(ConfigError, match=f"needs {MIN_SAMPLES} measured networks, .* has {few}"):
        LatencyPredictor(work[:few], machine(work[:few]))


# --- where predictions end ----------------------------------------------------------------------


def test_most_networks_of_the_space_are_inside(work: Array, noisy: LatencyPredictor) -> None:
    assert noisy.predict_work(work[120:]).inside.mean() > 0.7


def test_slower_and_faster_than_all_measured_is_outside(work: Array) -> None:
    ratios = machine(work)
    middle = np.argsort(ratios)[20:-20]
    coverage = Coverage(work[middle], ratios[middle])
    outer = np.argsort(ratios)[[0, -1]]
    assert not coverage.holds(work[outer], ratios[outer]).any()


def test_unseen_work_is_outside(work: Array, noisy: LatencyPredictor) -> None:
    inside = int(np.flatnonzero(noisy.predict_work(work).inside)[0])
    strange = work[[inside]].copy()
    strange[0, COLUMNS.index("hardswish elements")] += 1
    assert not noisy.predict_work(strange).inside[0]


def test_shares_say_where_time_goes(work: Array) -> None:
    predictor = LatencyPredictor(work, machine(work))
    shares = predictor.shares(work)
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "linear macs"
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
