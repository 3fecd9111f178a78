"""What an audit trains: which variants, with which recipes and seeds."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from effvit import ModelConfig
from experiments.measure import Task
from search.proxy import SEARCH, ProxyRecipe
from search.proxy.scaling import family_steps
from search.supernet.sampling import BalancedSampler
from spaces.space import Space

VARIANTS = {"sepvit": 40, "hybrid": 24, "mobilevitv2": 16, "efficientvit": 16}
"""Random ones of each space, beside the published ones that are small enough."""

MAX_MACS = {"sepvit": 2.5e9, "hybrid": 2.5e9, "mobilevitv2": 1.5e9, "efficientvit": 0.8e9}
"""Of all: a core trains these three times in an hour, not all that the space holds."""

QUICK_VARIANTS, QUICK_STEPS = 6, 4

REFERENCE_SEEDS = (100, 101, 102)
"""Of the longer training that proxies are held against: three a variant."""

REFERENCE_LENGTH = 2
"""Steps of the longer training, as a multiple of a search's."""

SEARCH_SEEDS = (0,)
"""Of the short training, as a trial of a search has it."""

VARIANT_SEED = 29
"""Of the draw of variants; the supernet draws its own with others."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        variants: By their label.
        search: Recipe of a trial of a search.
        reference: Recipe of the longer training.
    """

    variants: dict[str, ModelConfig]
    search: ProxyRecipe
    reference: ProxyRecipe

    def tasks(self) -> list[Task]:
        """All trainings: recipe by recipe, seed by seed, variant by variant."""
        seeds = ((self.reference, REFERENCE_SEEDS[:1]), (self.search, SEARCH_SEEDS))
        order = (*seeds, (self.reference, REFERENCE_SEEDS[1:]))
        return [
            Task(label, config, recipe, seed)
            for recipe, chosen in order
            for seed in chosen
            for label, config in self.variants.items()
        ]


def plan(space: Space, seed: int, *, quick: bool = False) -> Plan:
    """Say what an audit of a space trains.

    Random variants are balanced over MACs; published ones come first.

    Args:
        space: The space.
        seed: Of the draw of variants, beside :data:`VARIANT_SEED`.
        quick: A few variants and steps, to see whether all runs.
    """
    limit = MAX_MACS.get(space.name)
    sampler = BalancedSampler(space, VARIANT_SEED + seed, max_macs=limit)
    published = {name: config for name, config in space.published().items() if sampler.fits(config)}
    count = QUICK_VARIANTS if quick else VARIANTS.get(space.name, QUICK_VARIANTS)
    drawn = itertools.islice(_others(sampler, published.values()), count)
    random = {f"random_{number}": config for number, config in enumerate(drawn)}
    steps = QUICK_STEPS if quick else family_steps(space.unrank(0).family, SEARCH.steps)
    canvases = 20 if quick else SEARCH.evaluation_canvases
    search = dataclasses.replace(SEARCH, steps=steps, evaluation_canvases=canvases)
    return Plan(
        variants={**published, **random},
        search=search,
        reference=dataclasses.replace(
            search,
            name="reference",
            steps=REFERENCE_LENGTH * steps,
            evaluation_canvases=3 * canvases // 2,
        ),
    )


def _others(drawn: Iterable[ModelConfig], known: Iterable[ModelConfig]) -> Iterator[ModelConfig]:
    """Variants drawn that are not among the known ones, each once."""
    seen = {config.variant_id for config in known}
    for config in drawn:
        if config.variant_id not in seen:
            seen.add(config.variant_id)
            yield config
