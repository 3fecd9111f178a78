"""Samplers: which variant is evaluated next. All are in one table, :data:`SAMPLERS`.

The workbench's own know the space and what can be computed without a trial; Optuna's work behind a
guard that gives them the same guarantees: valid, affordable, never seen, the same after a stop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optuna
from optuna.samplers import (
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from effvit.config import unknown_name
from search.samplers.base import ArchitectureSampler, SpaceExhaustedError
from search.samplers.evolution import EvolutionSampler
from search.samplers.guard import GuardedSampler, guarded
from search.samplers.setting import Objective, Setting, within
from search.samplers.surrogate import SurrogateSampler

__all__ = [
    "SAMPLERS",
    "ArchitectureSampler",
    "GuardedSampler",
    "Objective",
    "SamplerKind",
    "Setting",
    "SpaceExhaustedError",
    "quiet_optuna",
    "sampler_kind",
    "within",
]


@dataclasses.dataclass(frozen=True)
class SamplerKind:
    """A sampler that can be chosen.

    Attributes:
        make: Makes it for a search.
        purpose: What it is good for.
    """

    make: Callable[[Setting], ArchitectureSampler]
    purpose: str


SAMPLERS: dict[str, SamplerKind] = {
    "surrogate": SamplerKind(
        SurrogateSampler,
        "models what is measured, computes what is exact; fewest trials, tens of ms a proposal",
    ),
    "evolution": SamplerKind(
        EvolutionSampler,
        "neighbours and crossings of the front, screened; a few ms a proposal, any budget",
    ),
    "tpe": SamplerKind(
        guarded(lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True)),
        "tree-structured Parzen estimator, multivariate",
    ),
    "nsga2": SamplerKind(
        guarded(lambda seed: NSGAIISampler(seed=seed, population_size=24)),
        "genetic algorithm, non-dominated sorting and crowding",
    ),
    "nsga3": SamplerKind(
        guarded(lambda seed: NSGAIIISampler(seed=seed, population_size=24)),
        "genetic algorithm, reference points; for three objectives and more",
    ),
    "gp": SamplerKind(
        # Seconds an answer, and asked again it mostly gives the same one.
        guarded(lambda seed: GPSampler(seed=seed), patience=4),
        "Optuna's Gaussian process; seconds a proposal, for few and expensive trials",
    ),
    "qmc": SamplerKind(
        guarded(
            lambda seed: QMCSampler(seed=seed, scramble=True, warn_asynchronous_seeding=False),
            resumes=True,
        ),
        "low-discrepancy sequence; covers the space evenly, learns nothing",
    ),
    "random": SamplerKind(
        guarded(lambda seed: RandomSampler(seed=seed)), "independent random choices"
    ),
}


def sampler_kind(name: str) -> SamplerKind:
    """Look a sampler up.

    Raises:
        ConfigError: No such sampler; the message lists the known names.
    """
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    return SAMPLERS[name]


def quiet_optuna() -> None:
    """Keep Optuna's log lines off the screen; the run prints its own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
