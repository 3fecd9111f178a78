"""Non-dominated sets and hypervolume, against definitions and an implementation of others."""

import itertools
import math

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.front import hypervolume, non_dominated

Points = list[tuple[float, ...]]

COORDINATE = st.one_of(st.integers(0, 4).map(float), st.floats(-2, 6), st.just(math.nan))
"""Whole numbers make ties, both in one coordinate and of whole points."""


def point_sets(
    low: int, high: int, coordinate: st.SearchStrategy[float]
) -> st.SearchStrategy[Points]:
    return st.integers(low, high).flatmap(
        lambda m: st.lists(st.tuples(*[coordinate] * m), max_size=12)
    )


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def is_number(point: tuple[float, ...]) -> bool:
    return not any(map(math.isnan, point))


def by_inclusion_exclusion(points: Points, reference: tuple[float, ...]) -> float:
    """Sum the signed volumes of the boxes that each subset of points has in common."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            corner = [max(values) for values in zip(*subset, strict=True)]
            box = math.prod(max(r - c, 0.0) for r, c in zip(reference, corner, strict=True))
            total += box if size % 2 else -box
    return total


@given(point_sets(1, 4, COORDINATE))
def test_front_is_what_nothing_dominates(points: Points) -> None:
    expected = [
        is_number(p) and not any(is_number(q) and dominates(q, p) for q in points) for p in points
    ]
    assert non_dominated(points).tolist() == expected


def test_equal_points_stay_together() -> None:
    assert non_dominated([(1, 2), (2, 1), (1, 2), (2, 2)]).tolist() == [True, True, True, False]


def test_front_of_nothing() -> None:
    assert non_dominated([]).tolist() == []
    assert non_dominated([(math.nan, 0.0)]).tolist() == [False]


@given(point_sets(2, 4, COORDINATE).map(lambda points: points[:7]))
def test_hypervolume_is_the_volume_of_the_union_of_boxes(points: Points) -> None:
    reference = (4.0,) * (len(points[0]) if points else 2)
    expected = by_inclusion_exclusion([p for p in points if is_number(p)], reference)
    assert hypervolume(points, reference) == pytest.approx(expected, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("dimension", [2, 3, 4])
def test_hypervolume_on_a_grid_is_a_count_of_cells(dimension: int) -> None:
    side = 6
    rng = np.random.default_rng(dimension)
    points = rng.integers(0, side, size=(9, dimension))
    cells = np.stack(np.meshgrid(*[np.arange(side)] * dimension, indexing="ij"), -1)
    covered = (cells[..., None, :] >= points).all(-1).any(-1)
    assert hypervolume(points, (side,) * dimension) == covered.sum()


@pytest.mark.parametrize("dimension", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 10, 60])
def test_hypervolume_agrees_with_moocore(dimension: int, count: int) -> None:
    rng = np.random.default_rng((dimension, count))
    points = rng.random((count, dimension))
    points[::3] = np.round(points[::3], 1)  # ties
    reference = [0.9] * dimension
    expected = moocore.hypervolume(points, ref=reference)
    assert hypervolume(points, reference) == pytest.approx(expected, rel=1e-12)


def test_hypervolume_counts_only_what_is_better_than_the_reference() -> None:
    assert hypervolume([], (1.0, 1.0)) == 0
    assert hypervolume([(1.0, 0.0), (2.0, -5.0), (math.nan, 0.0)], (1.0, 1.0)) == 0
    # 0.5 x 0.5, and a negative loss counts beyond 1: 0.25 x 1.5, of which 0.25 x 0.5 is shared.
    expected = 0.5 * 0.5 + 0.25 * 1.5 - 0.25 * 0.5
    assert hypervolume([(0.5, 0.5), (0.75, -0.5)], (1.0, 1.0)) == expected
