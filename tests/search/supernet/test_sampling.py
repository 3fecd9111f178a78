"""Draws balanced over MACs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from effvit import ConfigError, model_cost
from search.supernet.sampling import BINS, BalancedSampler, largest, learns, smallest
from spaces import get_space

POOL = 200


def macs(sampler: BalancedSampler, count: int) -> list[int]:
    return [model_cost(config).macs for config in itertools.islice(sampler, count)]


def test_small_and_large_variants_are_as_likely_as_others() -> None:
    sampler = BalancedSampler(get_space("sepvit"), 0, POOL)
    uniform = np.array([model_cost(config).macs for config in sampler.pool], float)
    middle = np.sqrt(uniform.min() * uniform.max())  # half of the range of log MACs
    drawn = np.array(macs(sampler, 10 * BINS))
    assert 0.4 < (drawn < middle).mean() < 0.6
    assert (uniform < middle).mean() < (drawn < middle).mean() - 0.05


def test_the_same_seed_draws_the_same_and_another_others() -> None:
    space = get_space("sepvit")
    first, again, other = (
        [config.variant_id for config in itertools.islice(BalancedSampler(space, seed, POOL), 9)]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_all_keep_the_budget() -> None:
    sampler = BalancedSampler(get_space("sepvit"), 0, POOL, max_macs=3e9)
    assert max(macs(sampler, 3 * BINS)) <= 3e9
    assert all(sampler.fits(config) for config in sampler.pool)


def test_a_budget_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"none of 20 variants drawn .* keeps 1000 MACs"):
        BalancedSampler(get_space("sepvit"), 0, 20, max_macs=1e3)


def test_variants_that_cannot_learn_are_left_out_on_demand() -> None:
    space = get_space("sepvit")
    assert not all(map(learns, BalancedSampler(space, 0, POOL).pool))
    sampler = BalancedSampler(space, 0, POOL, learn=True)
    assert all(map(learns, sampler.pool))
    assert all(map(sampler.fits, sampler.pool))


@pytest.mark.parametrize("name", ["sepvit", "mobilevitv2"])
def test_no_neighbour_of_the_extremes_is_more_extreme(name: str) -> None:
    space = get_space(name)
    pool = space.sample_many(np.random.default_rng(0), 20)
    low, high = smallest(pool, space), largest(pool, space)
    smaller, larger = (
        [c for c in [*pool, *space.neighbours(extreme)] if learns(c)] for extreme in (low, high)
    )
    assert learns(low)
    assert all(model_cost(c).macs >= model_cost(low).macs for c in smaller)
    assert all(model_cost(c).macs <= model_cost(high).macs for c in larger)
