"""Means, paired differences, Holm's correction and contrasts against known values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.ablation.designs import Axes, FractionalFactorial, FullFactorial
from experiments.ablation.effects import aliased, effects, term_name, terms, weights
from experiments.ablation.significance import (
    Difference,
    Scores,
    corrected,
    difference,
    holm,
    mean,
    paired,
    seeds_to_resolve,
    share,
)

TWO: Axes = {"A": ("off", "on"), "B": ("off", "on")}
THREE: Axes = {**TWO, "C": ("off", "on")}
MIXED: Axes = {"A": ("off", "on"), "B": ("low", "middle", "high")}


# --- means and differences ----------------------------------------------------------------------


def test_mean_with_students_interval() -> None:
    """1, 2, 3: sd 1, t(0.975, 2 degrees of freedom) = 4.302653."""
    found = mean([1.0, 2.0, 3.0])
    assert found is not None
    half = 4.302653 * 1 / 3**0.5
    assert (found.value, found.seeds) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_the_interval_of_a_share_stays_within_0_and_1() -> None:
    """0.9 and 1: sd 0.0707, so 0.95 +- 12.7 * 0.05 uncut."""
    found = share([0.9, 1.0])
    assert found is not None
    assert (found.value, found.low) == pytest.approx((0.95, 0.315), abs=1e-3)
    assert found.high == 1.0
    assert share([]) is None


def test_one_seed_has_a_mean_but_no_interval_and_no_p() -> None:
    found = difference([0.25])
    assert found == Difference(0.25, None, None, 1)
    assert not found.significant
    assert mean([]) is None


def test_seeds_that_would_resolve_a_difference() -> None:
    """1, 2, 3: mean 2, sd 1; 2 sqrt(3) = 3.46 < t(2) = 4.30, but 2 sqrt(4) = 4 > t(3) = 3.18."""
    found = difference([1.0, 2.0, 3.0])
    assert found is not None
    assert seeds_to_resolve(found) == 4
    weak = difference([-1.0, 0.001, 1.0])
    assert weak is not None
    assert seeds_to_resolve(weak) is None
    assert seeds_to_resolve(Difference(0.25, None, None, 1)) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8))
def test_p_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    after = {seed: pair[0] for seed, pair in enumerate(pairs)}
    before = {seed: pair[1] for seed, pair in enumerate(pairs)}
    gaps = np.array([a - b for a, b in pairs])
    found = paired(after, before)
    assert found is not None
    assert found.value == pytest.approx(gaps.mean(), abs=1e-12)
    if gaps.std() > 1e-6:
        assert found.p == pytest.approx(stats.ttest_rel(*np.array(pairs).T).pvalue, rel=1e-6)


def test_only_seeds_that_both_rows_have_are_paired() -> None:
    found = paired({0: 0.9, 1: 0.7, 2: 0.5}, {1: 0.6, 2: 0.3, 3: 0.0})
    assert found is not None
    assert found.seeds == 2
    assert found.value == pytest.approx(((0.7 - 0.6) + (0.5 - 0.3)) / 2)
    assert paired({0: 0.9}, {1: 0.9}) is None


def test_rows_that_are_one_network_do_not_differ() -> None:
    same = {0: 0.8, 1: 0.7}
    found = paired(same, same)
    assert found is not None
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, None)
    constant = difference([0.1, 0.1])
    assert constant is not None
    assert constant.p == 0


# --- Holm ---------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """Sorted .01, .02, .03, .9 become 4 x .01, 3 x .02, 2 x .03 and 1 x .9."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([2 * 0.03, 4 * 0.01, 0.9, 3 * 0.02])


def test_holm_never_falls_and_never_exceeds_one() -> None:
    """Sorted .01, .011, .6 become .03, max(.03, 2 x .011), .6; and 2 x .6 is cut to 1."""
    assert holm([0.011, 0.01, 0.6]) == pytest.approx([0.03, 0.03, 0.6])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])


def test_what_has_no_p_is_no_comparison() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]
    differences = corrected([None, difference([1.0, 1.1, 0.9]), difference([0.5])])
    assert differences[0] is None
    assert differences[1] is not None
    assert differences[1].p_holm == differences[1].p
    assert differences[2] is not None
    assert differences[2].p_holm is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_p_and_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert adjusted is not None
        assert p <= adjusted <= min(1.0, len(p_values) * p) + 1e-12


# --- effects ------------------------------------------------------------------------------------


def model(a: int, b: int) -> float:
    """A response with main effects 3 and 5 at the other's base level, and 2 more together."""
    return 10 + 3 * a + 5 * b + 2 * a * b


def test_effects_of_a_known_response() -> None:
    """Mean of A's effect over B: 3 + 2 / 2; half of what B changes in A's effect: 2 / 2."""
    settings = FullFactorial().settings(TWO)
    response = [model(row["A"] == "on", row["B"] == "on") for row in settings]
    scores: list[Scores] = [{0: y, 1: y + 0.5} for y in response]  # seeds shift all rows alike
    found = effects(settings, TWO, 2, {"score": scores}, {"macs": [100, 120, 110, 170]})
    named = {(term_name(e.term, TWO), e.on): e.estimate for e in found}
    sizes = {key: estimate.value for key, estimate in named.items() if estimate}
    assert sizes == pytest.approx(
        {
            ("A", "score"): 3 + 2 / 2,
            ("B", "score"): 5 + 2 / 2,
            ("A x B", "score"): 2 / 2,
            ("A", "macs"): (110 + 170 - 100 - 120) / 2,
            ("B", "macs"): (120 + 170 - 100 - 110) / 2,
            ("A x B", "macs"): (170 - 120 - 110 + 100) / 2,
        }
    )
    exact = named["A", "macs"]
    assert exact is not None
    assert (exact.low, exact.p, exact.seeds) == (None, None, 0)


def test_effects_use_the_seeds_that_all_rows_have() -> None:
    settings = FullFactorial().settings({"A": ("off", "on")})
    scores: list[Scores] = [{0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 2: 5.0}]
    (found,) = effects(settings, {"A": ("off", "on")}, 1, {"score": scores}, {})
    assert found.estimate is not None
    assert (found.estimate.value, found.estimate.seeds) == (((2 - 1) + (5 - 3)) / 2, 2)
    (none,) = effects(settings, {"A": ("off", "on")}, 1, {"score": [{0: 1.0}, {1: 1.0}]}, {})
    assert none.estimate is None


def test_levels_beyond_two_are_compared_with_the_base() -> None:
    """B: middle - low, high - low; with A: half of what A changes in them."""
    settings = FullFactorial().settings(MIXED)
    names = [term_name(term, MIXED) for term in terms(MIXED, 2)]
    assert names == ["A", "B middle", "B high", "A x B middle", "A x B high"]
    response = np.array([1.0, 2.0, 4.0, 11.0, 13.0, 18.0])  # off: low, middle, high; then on
    sizes = [float(weights(settings, MIXED, term) @ response) for term in terms(MIXED, 2)]
    assert sizes == pytest.approx(
        [
            ((11 - 1) + (13 - 2) + (18 - 4)) / 3,
            ((2 - 1) + (13 - 11)) / 2,
            ((4 - 1) + (18 - 11)) / 2,
            ((13 - 11) - (2 - 1)) / 2,
            ((18 - 11) - (4 - 1)) / 2,
        ]
    )


def test_what_a_fraction_cannot_tell_apart_is_named() -> None:
    """C = A x B: every main effect is one with the interaction of the other two."""
    settings = FractionalFactorial({"C": ("A", "B")}).settings(THREE)
    found = {
        term_name(term, THREE): [term_name(alias, THREE) for alias in aliases]
        for term, aliases in aliased(settings, THREE, 2).items()
    }
    assert found == {"A": ["B x C"], "B": ["A x C"], "C": ["A x B"]}


@given(st.integers(1, 3))
def test_contrasts_of_a_full_factorial_ignore_a_common_shift(order: int) -> None:
    settings = FullFactorial().settings(THREE)
    for term in terms(THREE, order):
        assert weights(settings, THREE, term).sum() == pytest.approx(0)
        assert np.abs(weights(settings, THREE, term)).sum() == pytest.approx(2)
