"""Filling a table: which networks are measured, and measuring them until there are enough."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from effvit import ModelConfig, model_costs
from effvit.backends import BackendError
from search.latency.meter import LatencyMeter
from search.latency.protocol import FloatArray, LatencyProtocol
from search.latency.store import LatencyTable, Role, Sample
from spaces.space import Space

TABLE_PROTOCOL = LatencyProtocol(seconds=0.6, warm_window=2)
"""Short: many networks measured roughly say more about prices than few measured well."""

HELD_OUT_PROTOCOL = LatencyProtocol(seconds=2.0)

POOL = 3000
"""Networks drawn at random, of which the measured ones are chosen."""

TABLE_SEED, HELD_OUT_SEED = 1, 2


def table_variants(space: Space, count: int) -> list[ModelConfig]:
    """Choose the networks of a table; the first of them are a table of their own.

    The smallest and the largest, the published ones, and then in turn one drawn uniformly from the
    space and one from an even spread over the logarithm of MACs: a search spends its time on small
    networks, of which uniform draws hold few.

    Args:
        space: Where from.
        count: How many; fewer if the space or the pool has no more.

    Returns:
        Different networks in a fixed order.
    """
    rng = np.random.default_rng(TABLE_SEED)
    drawn = space.sample_many(rng, POOL)
    ends = [_extreme(space, drawn, sign) for sign in (1.0, -1.0)]
    pool = [*ends, *drawn]
    spread = [pool[index] for index in _evenly(np.log(_macs(pool)), count, rng)]
    mixed = itertools.chain.from_iterable(zip(drawn, spread, strict=False))
    chosen = {
        config.variant_id: config
        for config in itertools.chain(ends, space.published().values(), mixed, drawn)
    }
    return list(itertools.islice(chosen.values(), count))


def held_out_variants(space: Space, count: int, table: Sequence[ModelConfig]) -> list[ModelConfig]:
    """Draw networks uniformly from the space that are not in the table; all different."""
    known = {config.variant_id for config in table}
    drawn = space.sample_many(np.random.default_rng(HELD_OUT_SEED), POOL)
    others = {config.variant_id: config for config in drawn if config.variant_id not in known}
    return list(itertools.islice(others.values(), count))


def _macs(configs: Sequence[ModelConfig]) -> FloatArray:
    return model_costs(configs).macs.astype(np.float64)


def _extreme(space: Space, drawn: Sequence[ModelConfig], sign: float) -> ModelConfig:
    """Descend from neighbour to neighbour to the fewest MACs (``sign`` 1) or the most (-1)."""
    best = drawn[int(np.argmin(sign * _macs(drawn)))]
    while True:
        near = [best, *space.neighbours(best)]
        nearest = near[int(np.argmin(sign * _macs(near)))]
        if nearest == best:
            return best
        best = nearest


def _evenly(values: FloatArray, count: int, rng: np.random.Generator) -> list[int]:
    """Indices of different values near to evenly spaced ones, in random order."""
    left = np.ones(len(values), dtype=bool)
    chosen = []
    for target in rng.permutation(np.linspace(values.min(), values.max(), count)):
        distance = np.where(left, np.abs(values - target), np.inf)
        index = int(np.argmin(distance))
        if not left[index]:
            break
        left[index] = False
        chosen.append(index)
    return chosen


def measure_into(
    table: LatencyTable,
    role: Role,
    variants: Sequence[ModelConfig],
    meter: LatencyMeter,
    seconds: float,
    progress: Callable[[int, str], None],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Measure what a table lacks of some networks, until its time is over.

    Args:
        table: Open for writing.
        role: Role of the samples.
        variants: Networks to measure, the most important first.
        meter: What measures them.
        seconds: After so long no further network is begun.
        progress: Called with how many of the networks are in the table, and what failed of late.
        clock: Seconds.

    Returns:
        How many of the networks are in the table now.
    """
    known = {sample.model_config.variant_id for sample in table.of_role(role)}
    done = sum(config.variant_id in known for config in variants)
    progress(done, "")
    start = begun = clock()
    for config in _missing(variants, known):
        if begun - start >= seconds:
            break
        failure = ""
        try:
            latency = meter.measure(config)
        except (MemoryError, RuntimeError, BackendError) as error:
            failure = f"{config.variant_id}: {error}"
        ended = clock()
        if not failure:
            table.append(Sample.of(role, config, latency, meter.reference_ms, ended - begun))
            done += 1
        begun = ended
        progress(done, failure)
    return done


def _missing(variants: Sequence[ModelConfig], known: set[str]) -> Iterator[ModelConfig]:
    return (config for config in variants if config.variant_id not in known)
