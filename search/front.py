"""Non-dominated sets, layers of them, and exact hypervolume. Everything is to be minimised."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def non_dominated(points: ArrayLike) -> BoolArray:
    """Mark the points that no other point dominates.

    A point dominates another if it is nowhere worse and somewhere better; equal points do not
    dominate each other, so ties stay. A point with a NaN is never on the front.

    Up to three dimensions this takes O(n log n) steps (Kung, Luccio, Preparata, "On finding the
    maxima of a set of vectors", J. ACM 1975, section 2), above that O(n f) for a front of f.

    Args:
        points: (n, m), to be minimised.

    Returns:
        (n,), True on the front.
    """
    values = np.asarray(points, dtype=np.float64)
    mask = np.zeros(len(values), dtype=bool)
    numbers = np.flatnonzero(~np.isnan(values).any(axis=1)) if len(values) else mask.nonzero()[0]
    if len(numbers) == 0:
        return mask
    # Distinct points in dictionary order: nothing is dominated by what comes later.
    distinct, places = np.unique(values[numbers], axis=0, return_inverse=True)
    mask[numbers] = _first_layer(distinct)[places.reshape(-1)]
    return mask


def _first_layer(values: FloatArray) -> BoolArray:
    """:func:`non_dominated` of distinct points in dictionary order."""
    dimension = values.shape[1]
    if dimension == 1:
        first: BoolArray = np.arange(len(values)) == 0
        return first
    if dimension == 2:
        best = np.minimum.accumulate(values[:, 1])
        return np.append(True, best[1:] < best[:-1])
    if dimension == 3:
        stairs = _Stairs()
        return np.array([stairs.add(y, z) for _, y, z in values.tolist()], dtype=bool)
    return _first_layer_by_peeling(values)


def _first_layer_by_peeling(values: FloatArray) -> BoolArray:
    """The same in any dimension: what the first of the rest dominates goes, again and again."""
    front = np.zeros(len(values), dtype=bool)
    rest = np.arange(len(values))
    while len(rest):
        front[rest[0]] = True
        first = values[rest[0], 1:]
        rest = rest[(values[rest, 1:] < first).any(axis=1)]
    return front


class _Stairs:
    """The non-dominated points of a plane, in ascending order of the first coordinate."""

    def __init__(self) -> None:
        self.x: list[float] = []
        self.y: list[float] = []

    def add(self, x: float, y: float) -> bool:
        """Take a point in unless one that is there is nowhere worse; say whether it was taken."""
        place = bisect.bisect_right(self.x, x)
        if place and self.y[place - 1] <= y:
            return False
        start, end = self._covered(x, y)
        self.x[start:end] = [x]
        self.y[start:end] = [y]
        return True

    def _covered(self, x: float, y: float) -> tuple[int, int]:
        """Range of the points that a new one is nowhere worse than."""
        start = end = bisect.bisect_left(self.x, x)
        while end < len(self.y) and self.y[end] >= y:
            end += 1
        return start, end

    def gain(self, x: float, y: float, limit: tuple[float, float]) -> float:
        """Area that a point would add to what the stairs dominate up to a limit."""
        place = bisect.bisect_right(self.x, x)
        height = self.y[place - 1] if place else limit[1]
        area, left = 0.0, x
        for next_x, next_y in zip(self.x[place:], self.y[place:], strict=True):
            if height <= y:
                break
            area += (next_x - left) * (height - y)
            left, height = next_x, next_y
        return area + (limit[0] - left) * (height - y) if height > y else area


def layers(points: ArrayLike) -> NDArray[np.int64]:
    """Rank points by non-domination: 0 for the front, 1 for the front of the rest, and so on.

    Args:
        points: (n, m), to be minimised, without NaN.

    Returns:
        (n,) ranks; equal points have equal ranks.
    """
    values = np.asarray(points, dtype=np.float64)
    ranks = np.full(len(values), -1, dtype=np.int64)
    for rank in itertools.count():
        rest = np.flatnonzero(ranks < 0)
        if len(rest) == 0:
            break
        ranks[rest[non_dominated(values[rest])]] = rank
    return ranks


def crowding(points: ArrayLike) -> FloatArray:
    """Crowding distance of the points of a front (Deb et al., NSGA-II, 2002, section III-B).

    Args:
        points: (n, m).

    Returns:
        (n,), the sum over dimensions of the distance between both neighbours, as a share of the
        range; infinite at the ends of a dimension.
    """
    values = np.asarray(points, dtype=np.float64)
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ends = column[order[0]], column[order[-1]]
        spread = ends[1] - ends[0] or 1.0
        distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
        distance[(column == ends[0]) | (column == ends[1])] = np.inf
    return distance


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume that a set dominates, up to a reference point; exact.

    Up to three dimensions by a sweep over the last one that keeps the area of a plane's stairs
    (Fonseca, Paquete, Lopez-Ibanez, "An improved dimension-sweep algorithm for the hypervolume
    indicator", CEC 2006); above that, slices of one dimension less are summed.

    Args:
        points: (n, m), to be minimised; points that are nowhere better than the reference, or hold
            a NaN, add nothing.
        reference: The worst values that count, one for each dimension.

    Returns:
        The volume, 0 for an empty set.
    """
    limit = np.asarray(reference, dtype=np.float64)
    values = np.asarray(points, dtype=np.float64).reshape(-1, len(limit))
    values = values[(values < limit).all(axis=1)]
    return _volume(values[non_dominated(values)], limit)


def _volume(values: FloatArray, limit: FloatArray) -> float:
    if len(values) == 0:
        return 0.0
    if len(limit) == 1:
        return float(limit[0] - values[:, 0].min())
    values = values[np.argsort(values[:, -1], kind="stable")]
    heights = np.diff(np.append(values[:, -1], limit[-1]))
    if len(limit) == 2:
        return float((limit[0] - values[:, 0]) @ heights)
    if len(limit) == 3:
        return float(_areas(values[:, :2], limit[:2]) @ heights)
    volume = 0.0
    for index, height in enumerate(heights.tolist()):
        if height > 0:
            below = values[: index + 1, :-1]
            volume += height * _volume(below[non_dominated(below)], limit[:-1])
    return volume


def _areas(points: FloatArray, limit: FloatArray) -> FloatArray:
    """Area that the first 1, 2, ... points of a plane dominate."""
    stairs = _Stairs()
    corner = (float(limit[0]), float(limit[1]))
    gains = []
    for x, y in points.tolist():
        gains.append(stairs.gain(x, y, corner))
        stairs.add(x, y)
    return np.cumsum(gains)
