"""Rank agreement: known values, ties, intervals."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.ranking import (
    binned_kendall,
    estimate,
    kendall,
    less_another,
    one_and_the_others,
    pair_by_pair,
    partial_kendall,
    spearman,
    top_regret,
)


def test_kendall_counts_pairs() -> None:
    # Of 6 pairs, one is turned round: (5 - 1) / 6.
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])
    assert kendall(x, y) == pytest.approx(4 / 6)


def test_kendall_with_a_tie_divides_by_untied_pairs() -> None:
    # Pairs: 3; one tied in y. tau-b = 2 / sqrt(3 * 2).
    assert kendall(np.array([1.0, 2, 3]), np.array([1.0, 2, 2])) == pytest.approx(2 / math.sqrt(6))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_statistics_are_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, float).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of constant samples
        taus, rhos = stats.kendalltau(x, y), stats.spearmanr(x, y)
    assert kendall(x, y) == pytest.approx(taus.statistic, nan_ok=True)
    assert spearman(x, y) == pytest.approx(rhos.statistic, nan_ok=True)
    stacked = kendall(np.stack([x, x[::-1]]), np.stack([y, y[::-1]]))
    assert stacked.tolist() == pytest.approx([float(kendall(x, y))] * 2, nan_ok=True)


def test_agreement_with_a_constant_is_not_defined() -> None:
    constant, y = np.ones(4), np.arange(4.0)
    assert math.isnan(kendall(constant, y))
    assert math.isnan(spearman(constant, y))


def test_spearman_of_any_rising_relation_is_one() -> None:
    x = np.arange(6.0)
    assert spearman(x, np.exp(x)) == pytest.approx(1.0)


def test_partial_tau_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 30))
    xy, xz, yz = kendall(x, y), kendall(x, z), kendall(y, z)
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_kendall(x, y, z) == pytest.approx(expected)


def test_partial_tau_takes_out_what_the_third_explains() -> None:
    rng = np.random.default_rng(1)
    size = rng.normal(size=200)
    x, y = size + 0.3 * rng.normal(size=(2, 200))
    assert kendall(x, y) > 0.6
    assert abs(partial_kendall(x, y, size)) < 0.15


def test_partial_tau_is_not_defined_where_the_third_explains_all() -> None:
    x = np.arange(5.0)
    assert math.isnan(partial_kendall(x, x, x))


def test_the_interval_holds_the_value_and_shrinks_with_more_variants() -> None:
    rng = np.random.default_rng(2)

    def interval(count: int) -> float:
        x = rng.normal(size=count)
        found = estimate(kendall, x, x + rng.normal(size=count))
        assert found.low < found.value < found.high
        return found.high - found.low

    assert interval(80) < 0.75 * interval(20)


def test_the_same_seed_gives_the_same_interval() -> None:
    x, y = np.random.default_rng(3).normal(size=(2, 12))
    assert estimate(kendall, x, y) == estimate(kendall, x, y)
    assert estimate(kendall, x, y) != estimate(kendall, x, y, seed=1)


def test_tau_within_bins_counts_only_pairs_of_a_bin() -> None:
    x = np.array([1.0, 2, 3, 4, 5])
    y = np.array([2.0, 1, 9, 7, 8])
    bins = np.array([0.0, 0, 1, 1, 1])
    # One pair of the first bin disagrees; of the second's three two disagree, one agrees.
    assert binned_kendall(x, y, bins) == pytest.approx((1 - 3) / 4)
    assert binned_kendall(x, y, np.zeros(5)) == pytest.approx(kendall(x, y))


def test_tau_within_bins_of_one_variant_each_is_not_defined() -> None:
    x = np.arange(4.0)
    assert math.isnan(binned_kendall(x, x, x))


def test_regret_is_what_the_best_of_the_chosen_lacks() -> None:
    x = np.array([5.0, 4, 3, 2, 1])
    y = np.array([0.1, 0.6, 0.2, 0.9, 0.3])
    assert top_regret(x, y, 2) == pytest.approx(0.9 - 0.6)
    assert top_regret(x, y, 4) == 0
    assert top_regret(np.stack([x, -x]), np.stack([y, y]), 2) == pytest.approx([0.3, 0.0])


def test_a_statistic_that_no_resample_defines_has_no_interval() -> None:
    constant = np.ones(6)
    found = estimate(kendall, constant, np.arange(6.0))
    assert all(math.isnan(value) for value in (found.value, found.low, found.high))


def test_ceilings_by_hand() -> None:
    a, b, c = np.array([1.0, 2, 3]), np.array([1.0, 2, 4]), np.array([3.0, 1, 2])
    # Of three pairs a and b agree in all; c agrees with each of them in one.
    assert pair_by_pair(a, b, c) == pytest.approx((1 - 1 / 3 - 1 / 3) / 3)
    # b and c have the mean 2, 1.5, 3, a and c 2, 1.5, 2.5: each agrees with the third in two pairs.
    # a and b have the mean 1, 2, 3.5, which agrees with c in one.
    assert one_and_the_others(a, b, c) == pytest.approx((1 / 3 + 1 / 3 - 1 / 3) / 3)


def test_a_reading_and_a_seed_are_compared_by_the_same_other_seeds() -> None:
    a, b, x = np.array([1.0, 2, 3]), np.array([1.0, 3, 2]), np.array([1.0, 2, 4])
    # By b, x agrees in two pairs of three, as a does; by a, x agrees in all, b in two of three.
    assert less_another(x, a, b) == pytest.approx((0 + 2 / 3) / 2)
    assert less_another(a, a, a) == 0


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(8)), st.permutations(range(8)), st.permutations(range(8)))
def test_with_two_seeds_each_is_the_other_ones_reference(
    x: list[int], a: list[int], b: list[int]
) -> None:
    reading, *seeds = (np.array(sample, float) for sample in (x, a, b))
    mean = (kendall(reading, seeds[0]) + kendall(reading, seeds[1])) / 2
    expected = mean - one_and_the_others(*seeds)
    assert less_another(reading, *seeds) == pytest.approx(expected)
