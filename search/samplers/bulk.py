"""Candidates in bulk: the side of a search that costs nothing is exhausted, not sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from effvit import ModelConfig, model_costs
from effvit.cost import CostArrays
from spaces.space import Space

IntArray = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Pool:
    """Networks with their closed-form costs.

    Attributes:
        configs: Distinct networks.
        costs: One entry a network.
    """

    configs: Sequence[ModelConfig]
    costs: CostArrays

    def __len__(self) -> int:
        return len(self.configs)


def draw_pool(space: Space, rng: np.random.Generator, count: int) -> Pool:
    """Draw distinct networks uniformly and cost them.

    Args:
        space: Where they come from.
        rng: Draws them.
        count: How many; the whole space if it has no more.

    Returns:
        The pool, in random order.
    """
    size = space.size()
    if size <= 4 * count:  # a permutation is cheaper than rejecting repetitions
        ranks = rng.permutation(size)[:count]
        configs = [space.unrank(int(rank)) for rank in ranks]
    else:
        configs = list(dict.fromkeys(space.sample_many(rng, count)))
    return Pool(configs, model_costs(configs))


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
    left = np.ones(len(values), dtype=bool)
    chosen = []
    for bin_ in _bisecting(count):
        inside = left & (values >= edges[bin_]) & (values <= edges[bin_ + 1])
        if inside.any():
            index = int(rng.choice(np.flatnonzero(inside)))
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
