"""Non-dominated sets and exact hypervolume. Everything here is to be minimised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points that no other point dominates.

    A point dominates another if it is nowhere worse and somewhere better; equal points do not
    dominate each other, so ties stay. A point with a NaN is never on the front.

    Args:
        points: (n, m), to be minimised.

    Returns:
        (n,), True on the front.
    """
    values = np.asarray(points, dtype=np.float64)
    mask = np.zeros(len(values), dtype=bool)
    if len(values) == 0:
        return mask
    candidates = np.flatnonzero(~np.isnan(values).any(axis=1))
    # In this order nothing is dominated by what comes later, so one pass over the front suffices.
    order = sorted(candidates, key=lambda row: tuple(values[row]))
    front: list[int] = []
    for row in map(int, order):
        rivals = values[front]
        worse = (rivals <= values[row]).all(axis=1) & (rivals < values[row]).any(axis=1)
        if not worse.any():
            front.append(row)
    mask[front] = True
    return mask


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume that a set dominates, up to a reference point; exact.

    Sweeps the last dimension and sums slices of one dimension less (the dimension-sweep of
    Fonseca, Paquete and Lopez-Ibanez, CEC 2006, without its bookkeeping).

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
    return _sweep(values[non_dominated(values)], limit)


def _sweep(values: FloatArray, limit: FloatArray) -> float:
    if len(values) == 0:
        return 0.0
    if len(limit) == 1:
        return float(limit[0] - values[:, 0].min())
    values = values[np.argsort(values[:, -1], kind="stable")]
    ends = np.append(values[1:, -1], limit[-1])
    volume = 0.0
    for index, (start, end) in enumerate(zip(values[:, -1], ends, strict=True)):
        if end > start:
            below = values[: index + 1, :-1]
            volume += (end - start) * _sweep(below[non_dominated(below)], limit[:-1])
    return float(volume)
