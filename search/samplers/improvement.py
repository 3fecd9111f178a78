"""Expected hypervolume improvement of independent guesses, in closed form. All is minimised."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
Strip: TypeAlias = tuple[Interval, Interval]

LOWEST = float("-inf")
MAX_OBJECTIVES = 3


def free_boxes(points: FloatArray, limit: Sequence[float]) -> FloatArray:
    """Cut what no point dominates, below a limit, into boxes.

    In three dimensions a sweep over the last one (after Lacour, Klamroth, Fonseca, "A box
    decomposition algorithm to compute the hypervolume indicator", 2017): a strip of the plane lives
    from the point that makes it to the point that cuts it.

    Args:
        points: (n, m), m from 1 to :data:`MAX_OBJECTIVES`.
        limit: The worst values that count, one for each dimension.

    Returns:
        (boxes, m, 2), disjoint boxes as intervals, some open at minus infinity: 1 box in one
        dimension, at most n + 1 in two and 2 n + 1 in three.
    """
    inside = points[(points < np.asarray(limit)).all(axis=1)]
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    if len(limit) == 1:
        return np.array([[(LOWEST, min([limit[0], *inside[:, 0].tolist()]))]])
    strips = _Strips(limit[0], limit[1])
    if len(limit) == 2:
        for x, y in inside.tolist():
            strips.add(x, y)
        return np.array(strips.some())
    return np.array(_sweep(strips, inside, limit[2]))


def _sweep(
    strips: _Strips, points: FloatArray, limit: float
) -> list[tuple[Interval, Interval, Interval]]:
    born = dict.fromkeys(strips.some(), LOWEST)
    finished = []
    for x, y, z in points.tolist():
        gone, made = strips.add(x, y)
        for strip in gone:
            start = born.pop(strip)
            if start < z:
                finished.append((*strip, (start, z)))
        born.update(dict.fromkeys(made, z))
    return finished + [(*strip, (start, limit)) for strip, start in born.items()]


class _Strips:
    """What points of a plane leave free, in upright strips from left to right."""

    def __init__(self, right: float, top: float) -> None:
        self._left = [LOWEST]
        self._top = [top]
        self._right = right

    def some(self, start: int = 0, end: int | None = None) -> list[Strip]:
        """The strips, or a range of them."""
        rights = [*self._left[1:], self._right][start:end]
        strips = zip(self._left[start:end], rights, self._top[start:end], strict=True)
        return [((left, right), (LOWEST, top)) for left, right, top in strips]

    def add(self, x: float, y: float) -> tuple[list[Strip], list[Strip]]:
        """Let a point cut; return the strips that it ends and those that it makes."""
        start = bisect.bisect_right(self._left, x) - 1
        if self._top[start] <= y:
            return [], []
        end = start + 1
        while end < len(self._top) and self._top[end] >= y:
            end += 1
        gone = self.some(start, end)
        rest = 1 if self._left[start] < x else 0  # what is left of the point stays as it is
        self._left[start:end] = [*self._left[start : start + rest], x]
        self._top[start:end] = [*self._top[start : start + rest], y]
        return gone, self.some(start, start + rest + 1)


def expected_improvement(mean: FloatArray, deviation: FloatArray, boxes: FloatArray) -> FloatArray:
    """Expected volume that a new point adds to what is dominated.

    For independent normal guesses it is the sum over boxes of the product over dimensions of the
    expected length of the box above the point (Yang, Emmerich, Deutz, Baeck, "Efficient computation
    of expected hypervolume improvement using box decomposition algorithms", 2019, section 4).

    Args:
        mean: (n, m), guessed values.
        deviation: (n, m), their standard deviations; 0 where a value is known.
        boxes: From :func:`free_boxes`.

    Returns:
        (n,).
    """
    lengths = np.ones((len(boxes), len(mean)))
    for dimension in range(mean.shape[1]):
        ends, places = np.unique(boxes[:, dimension], return_inverse=True)
        places = places.reshape(-1, 2)
        below = _expected_below(mean[:, dimension], deviation[:, dimension], ends[:, None])
        lengths *= below[places[:, 1]] - below[places[:, 0]]
    total: FloatArray = lengths.sum(axis=0)
    return total


def _expected_below(mean: FloatArray, deviation: FloatArray, ends: FloatArray) -> FloatArray:
    """Expected distance of normal guesses (n,) below ends (k, 1), 0 where above: (k, n)."""
    distance = np.where(np.isneginf(ends), 0.0, ends) - mean
    if not deviation.any():
        expected = np.maximum(distance, 0.0)
    else:
        scale = np.maximum(deviation, np.finfo(np.float64).tiny ** 0.5)
        z = distance / scale
        density = np.exp(-np.square(z) / 2) * (scale / np.sqrt(2 * np.pi))
        expected = distance * special.ndtr(z) + density
    return np.where(np.isneginf(ends), 0.0, expected)
