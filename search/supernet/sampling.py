"""Variants balanced over MACs: a uniform draw of a space hardly ever is small, or large."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from effvit import ConfigError, ModelConfig, model_cost, model_costs
from search.proxy.scaling import cells_meet, proxy_config
from spaces.space import Space

POOL = 768
"""Variants drawn uniformly, from which the balanced ones are chosen."""

MAX_ROUNDS = 8
"""Pools drawn until enough variants keep the budget."""

BINS = 12
"""Intervals of equal width of the logarithm of MACs."""


class BalancedSampler:
    """Draws variants so that all sizes are as likely, each as often as its size is rare.

    Intervals of log MACs are drawn in random order, each once a round; in an interval, its variants
    of the pool in random order. Nothing comes twice before its interval is used up.

    Args:
        space: Where the pool is drawn, uniformly.
        seed: Same seed, same draws.
        pool: Size of the pool.
        max_macs: Budget that all keep, if any.
        learn: Whether only variants are drawn that can learn the relation.

    Raises:
        ConfigError: No variant of as many draws as the pool is large is one to draw.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        pool: int = POOL,
        max_macs: float | None = None,
        *,
        learn: bool = False,
    ) -> None:
        self._rng = np.random.default_rng((seed, 11))
        self._limit = math.inf if max_macs is None else max_macs
        self._learn = learn
        self.pool = self._drawn(space, pool)
        macs = np.log(model_costs(self.pool).macs.astype(np.float64))
        self._members = [np.flatnonzero(_bin(macs) == index) for index in range(BINS)]

    def fits(self, config: ModelConfig) -> bool:
        """Whether a variant is one that may be drawn."""
        return bool(model_cost(config).macs <= self._limit) and self._learns(config)

    def _learns(self, config: ModelConfig) -> bool:
        return not self._learn or learns(config)

    def _drawn(self, space: Space, count: int) -> list[ModelConfig]:
        """Draw distinct variants that fit, until there are enough or few are left."""
        found: dict[str, ModelConfig] = {}
        for _ in range(MAX_ROUNDS):
            numbers = space.draw(self._rng, count)
            for number in numbers[space.costs(numbers).macs <= self._limit]:
                config = space.unrank(int(number))
                if self._learns(config):
                    found.setdefault(config.variant_id, config)
            if len(found) >= count or not found:
                break
        if not found:
            also = " and can learn the relation" if self._learn else ""
            raise ConfigError(
                f"none of {count} variants drawn of space {space.name} keeps {self._limit:g} MACs"
                f"{also}: allow more"
            )
        return list(found.values())[:count]

    def __iter__(self) -> Iterator[ModelConfig]:
        """Draw without end."""
        filled = [number for number, members in enumerate(self._members) if len(members)]
        orders: dict[int, list[int]] = {}
        while True:
            for number in self._rng.permutation(filled):
                if not orders.get(number):
                    orders[number] = self._rng.permutation(self._members[number]).tolist()
                yield self.pool[orders[number].pop()]


def _bin(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of each value's interval, 0 to ``BINS - 1``."""
    low, high = values.min(), values.max()
    share = (values - low) / max(high - low, np.finfo(np.float64).tiny)
    numbers: NDArray[np.int64] = np.minimum((share * BINS).astype(np.int64), BINS - 1)
    return numbers


def learns(config: ModelConfig) -> bool:
    """Whether a variant can learn the relation: its distant cells meet."""
    return cells_meet(proxy_config(config))


def smallest(configs: Sequence[ModelConfig], space: Space) -> ModelConfig:
    """Find the network with the fewest MACs that learns, of equals with the fewest parameters.

    From the smallest of ``configs`` on, it goes to the smallest neighbour until none is smaller.
    """
    return _extreme(configs, space, 1)


def largest(configs: Sequence[ModelConfig], space: Space) -> ModelConfig:
    """Find the network with the most MACs, as :func:`smallest` does the smallest."""
    return _extreme(configs, space, -1)


def _extreme(configs: Sequence[ModelConfig], space: Space, sign: int) -> ModelConfig:
    best, cost = _least(list(filter(learns, configs)), sign)
    while True:
        near, near_cost = _least([best, *filter(learns, space.neighbours(best))], sign)
        if near_cost >= cost:
            return best
        best, cost = near, near_cost


def _least(configs: Sequence[ModelConfig], sign: int) -> tuple[ModelConfig, tuple[int, int]]:
    costs = model_costs(configs)
    keys = [
        (sign * int(macs), sign * int(params))
        for macs, params in zip(costs.macs, costs.params, strict=True)
    ]
    index = min(range(len(keys)), key=keys.__getitem__)
    return configs[index], keys[index]
