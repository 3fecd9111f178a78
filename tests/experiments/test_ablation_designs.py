"""Designs as arithmetic: how many rows, which levels, what stays apart."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effvit.config import ConfigError
from experiments.ablation.designs import (
    AddOne,
    Axes,
    Design,
    FractionalFactorial,
    FullFactorial,
    LeaveOneOut,
    OneFactor,
    Path,
    Setting,
    base_setting,
    is_factorial,
)

TWO: Axes = {"A": ("off", "on"), "B": ("off", "on"), "C": ("off", "on")}
MIXED: Axes = {"A": ("off", "on"), "B": ("low", "middle", "high")}

axes = st.dictionaries(
    st.sampled_from("ABCD"),
    st.integers(1, 3).map(lambda n: tuple(map(str, range(n)))),
    min_size=1,
)


def changed(row: Setting, other: Setting) -> int:
    """In how many factors two rows differ."""
    return sum(row[name] != other[name] for name in row)


@given(axes)
def test_numbers_of_rows(axes: Axes) -> None:
    levels = [len(names) for names in axes.values()]
    steps = sum(n - 1 for n in levels)
    product = 1
    for n in levels:
        product *= n
    assert len(OneFactor().settings(axes)) == 1 + steps
    assert len(Path().settings(axes)) == 1 + steps
    assert len(AddOne().settings(axes)) == 1 + len(axes)
    assert len(LeaveOneOut().settings(axes)) == 1 + len(axes)
    assert len(FullFactorial().settings(axes)) == product


@given(axes)
def test_rows_are_complete_and_differ_as_the_design_says(axes: Axes) -> None:
    one, path, full = (d.settings(axes) for d in (OneFactor(), Path(), FullFactorial()))
    for row in (*one, *path, *full):
        assert all(row[name] in levels for name, levels in axes.items())
    assert all(changed(row, one[0]) == 1 for row in one[1:])
    assert all(changed(a, b) == 1 for a, b in itertools.pairwise(path))
    assert len({tuple(row.items()) for row in full}) == len(full)
    assert one[0] == path[0] == full[0] == base_setting(axes)


def test_one_factor_goes_through_all_levels() -> None:
    rows = OneFactor().settings(MIXED)
    assert [(row["A"], row["B"]) for row in rows] == [
        ("off", "low"),
        ("on", "low"),
        ("off", "middle"),
        ("off", "high"),
    ]


def test_adding_and_leaving_out_use_the_last_level() -> None:
    assert AddOne().settings(MIXED)[2] == {"A": "off", "B": "high"}
    full, without_a, without_b = LeaveOneOut().settings(MIXED)
    assert full == {"A": "on", "B": "high"}
    assert (without_a, without_b) == ({"A": "off", "B": "high"}, {"A": "on", "B": "low"})


def test_a_path_keeps_what_the_rows_above_did() -> None:
    rows = Path().settings(TWO)
    assert [sum(level == "on" for level in row.values()) for row in rows] == [0, 1, 2, 3]


def test_half_of_a_full_factorial_is_balanced() -> None:
    """C = A x B: 4 of 8 rows, each pair of levels of two factors once."""
    rows = FractionalFactorial({"C": ("A", "B")}).settings(TWO)
    assert len(rows) == 2 ** (3 - 1)
    for first, second in itertools.combinations(TWO, 2):
        assert set(Counter((row[first], row[second]) for row in rows).values()) == {1}
    for row in rows:
        signs = {name: 1 if level == "on" else -1 for name, level in row.items()}
        assert signs["C"] == signs["A"] * signs["B"]


@pytest.mark.parametrize(
    ("axes", "generators", "message"),
    [
        (MIXED, {}, "'B' has 3"),
        (TWO, {"D": ("A",)}, "unknown generated factor 'D'"),
        (TWO, {"C": ("A", "D")}, "unknown generator 'D'"),
        (TWO, {"B": ("A",), "C": ("B",)}, "unknown generator 'B'"),
    ],
)
def test_fractions_that_cannot_be_are_refused(
    axes: Axes, generators: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        FractionalFactorial(generators).settings(axes)


@pytest.mark.parametrize(
    ("design", "factorial"),
    [(FullFactorial(), True), (FractionalFactorial({}), True), (Path(), False), (None, False)],
)
def test_effects_are_estimated_from_factorial_designs_only(
    design: Design | None, factorial: bool
) -> None:
    assert is_factorial(design) is factorial
