"""Candidates in bulk: the side of a search that costs nothing is exhausted, not sampled."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from effvit import ModelConfig, model_costs
from effvit.cost import ArrayLedger, CostArrays
from spaces.counted import Numbers
from spaces.space import Space

IntArray = NDArray[np.int64]


class Pool(abc.ABC):
    """Networks of a space with their closed-form costs, both made when they are asked for."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of networks."""

    @abc.abstractmethod
    def config(self, place: int) -> ModelConfig:
        """One of the networks, by its place from 0."""

    @property
    @abc.abstractmethod
    def costs(self) -> CostArrays:
        """One entry a network."""

    @property
    def configs(self) -> list[ModelConfig]:
        """All networks."""
        return [self.config(place) for place in range(len(self))]


@dataclasses.dataclass(frozen=True)
class Known(Pool):
    """Networks whose configurations there are."""

    networks: Sequence[ModelConfig]

    def __len__(self) -> int:
        return len(self.networks)

    def config(self, place: int) -> ModelConfig:
        """See the base class."""
        return self.networks[place]

    @functools.cached_property
    def costs(self) -> CostArrays:
        """See the base class."""
        return model_costs(self.networks) if self.networks else ArrayLedger(0).total()


@dataclasses.dataclass(frozen=True, eq=False)
class Numbered(Pool):
    """Networks by their numbers in a space: costed without a configuration, which takes longest."""

    space: Space
    numbers: Numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def config(self, place: int) -> ModelConfig:
        """See the base class."""
        return self.space.unrank(int(self.numbers[place]))

    @functools.cached_property
    def costs(self) -> CostArrays:
        """See the base class."""
        return self.space.costs(self.numbers)


def draw_pool(space: Space, rng: np.random.Generator, count: int) -> Numbered:
    """Draw distinct networks uniformly.

    Args:
        space: Where they come from.
        rng: Draws them.
        count: How many; the whole space if it has no more.

    Returns:
        The pool, in random order.
    """
    size = space.size()
    if size <= 4 * count:  # a permutation is cheaper than rejecting repetitions
        return Numbered(space, rng.permutation(size)[:count])
    drawn = space.draw(rng, count)
    while True:
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)]
        if len(drawn) == count:
            return Numbered(space, drawn)
        drawn = np.concatenate([drawn, space.draw(rng, count - len(drawn))])


def spread(values: NDArray[np.float64], count: int, rng: np.random.Generator) -> IntArray:
    """Choose entries that cover a range evenly.

    The range is cut into ``count`` bins of equal width; each gives a random one of its entries,
    an empty one the nearest entry to its middle that is left.

    Args:
        values: (n,), such as logarithms of MACs.
        count: How many to choose.
        rng: Chooses within bins.

    Returns:
        At most ``count`` distinct indices, in an order whose beginnings cover the range as well.
    """
    count = min(count, len(values))
    edges = np.linspace(values.min(), values.max(), count + 1)
    order = np.argsort(values, kind="stable")
    begins, ends = (np.searchsorted(values[order], edges, side) for side in ("left", "right"))
    left = np.ones(len(values), dtype=bool)
    chosen = []
    for bin_ in _bisecting(count):
        inside = order[begins[bin_] : ends[bin_ + 1]]
        inside = inside[left[inside]]
        if len(inside):
            index = int(rng.choice(inside))
        else:
            distance = np.abs(values - (edges[bin_] + edges[bin_ + 1]) / 2)
            index = int(np.argmin(np.where(left, distance, np.inf)))
        left[index] = False
        chosen.append(index)
    return np.array(chosen, dtype=np.int64)


def _bisecting(count: int) -> list[int]:
    """The numbers 0 to ``count - 1``, ends first, then the middles of the largest gaps."""
    bits = max(count - 1, 1).bit_length()
    reverse = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    ordered = [0, count - 1, *(number for number in reverse if number < count)]
    return list(dict.fromkeys(ordered))[:count]
