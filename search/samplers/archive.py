"""Evaluated networks as arrays, with the front kept up to date trial by trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from effvit import ModelConfig
from search.front import crowding, layers
from search.samplers.setting import FloatArray


class Archive:
    """What has been evaluated so far, sorted by the order of proposals.

    Args:
        features: Length d of a network's row.
        objectives: How many losses, m, there are.

    Attributes:
        configs: The networks, n of them.
        rows: (n, d), encoded.
        losses: (n, m), to be minimised.
        front: Indices of those that nothing dominates, ascending.
    """

    def __init__(self, features: int, objectives: int) -> None:
        self.configs: list[ModelConfig] = []
        self.rows: FloatArray = np.empty((0, features))
        self.losses: FloatArray = np.empty((0, objectives))
        self.front: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._orders: list[int] = []

    def __len__(self) -> int:
        return len(self.configs)

    def add(
        self,
        configs: Sequence[ModelConfig],
        orders: Sequence[int],
        rows: FloatArray,
        losses: FloatArray,
    ) -> None:
        """Take evaluated networks in."""
        first = len(self)
        self.configs += configs
        self._orders += orders
        self.rows = np.vstack([self.rows, rows])
        self.losses = np.vstack([self.losses, losses])
        for index in range(first, len(self)):
            self._join_front(index)
        if any(a > b for a, b in zip(self._orders[max(first - 1, 0) :], orders, strict=False)):
            self._sort()

    def _join_front(self, index: int) -> None:
        new, old = self.losses[index], self.losses[self.front]
        if ((old <= new).all(axis=1) & (old < new).any(axis=1)).any():
            return
        stays = ~((new <= old).all(axis=1) & (new < old).any(axis=1))
        self.front = np.append(self.front[stays], index)

    def _sort(self) -> None:
        """Sort by order, then losses: what came late is put where it would have been."""
        order = np.lexsort((*self.losses.T[::-1], self._orders))
        self.configs = [self.configs[index] for index in order]
        self._orders = [self._orders[index] for index in order]
        self.rows, self.losses = self.rows[order], self.losses[order]
        self.front = np.flatnonzero(np.isin(order, self.front))

    def parents(self, least: int) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
        """The front, and as many layers below it as it takes to have enough.

        Args:
            least: How many are enough.

        Returns:
            Indices, the rank of each (0 on the front) and its crowding distance within its rank.
        """
        if len(self.front) >= least:
            rank = np.zeros(len(self.front), dtype=np.int64)
            return self.front, rank, crowding(self.losses[self.front])
        ranks = layers(self.losses)
        sizes = np.bincount(ranks).cumsum()
        last = int(np.searchsorted(sizes, min(least, len(self))))
        chosen = np.flatnonzero(ranks <= last)
        distance = np.empty(len(chosen))
        for layer in range(last + 1):
            members = ranks[chosen] == layer
            distance[members] = crowding(self.losses[chosen[members]])
        return chosen, ranks[chosen], distance
