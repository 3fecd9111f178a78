"""All samplers that are compared: the workbench's table, Optuna's as installed, plain mutation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.front import non_dominated
from search.samplers import SAMPLERS, Setting
from search.samplers.base import WholeSpaceSampler
from spaces import InvalidVariant
from spaces.axes import Value
from spaces.space import Space

ALL = 1000
"""Evaluations of a search."""

MANY = 1000
"""More searches of a problem than anyone asks for."""


@dataclasses.dataclass(frozen=True)
class Rival:
    """A sampler that is compared.

    Attributes:
        make: Makes it for a search.
        own: Whether it is the workbench's own; the others are rivals.
        limit: Evaluations of its searches; fewer for samplers that take long.
        seeds: Searches of a problem at most, likewise.
    """

    make: Callable[[Setting], BaseSampler]
    own: bool = False
    limit: int = ALL
    seeds: int = MANY


class PlainMutation(WholeSpaceSampler):
    """The rival to beat: random changes of non-dominated parents, and a set of what was seen.

    It begins with :attr:`start` uniform valid networks. Then each axis of a random parent of the
    front is drawn anew with probability one over the number of axes, until the result is valid and
    not seen.
    """

    start = 20

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space)
        self._rng = np.random.default_rng(seed)
        self._seen: set[Any] = set()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose."""
        del trial, search_space
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        front = np.flatnonzero(non_dominated([trial.values for trial in trials]))
        while True:
            if len(trials) < self.start:
                params = self.space.encode(self.space.sample(self._rng))
            else:
                params = self._mutated(trials[int(self._rng.choice(front))].params)
            try:
                config = self.space.decode(params)
            except InvalidVariant:
                continue
            if config not in self._seen:
                self._seen.add(config)
                return dict(params)

    def _mutated(self, params: dict[str, Any]) -> dict[str, Value]:
        rate = 1 / len(self.distributions)
        return {
            name: self._drawn(distribution) if self._rng.random() < rate else params[name]
            for name, distribution in self.distributions.items()
        }

    def _drawn(self, distribution: BaseDistribution) -> Value:
        if isinstance(distribution, IntDistribution):
            steps = (distribution.high - distribution.low) // distribution.step + 1
            return distribution.low + distribution.step * int(self._rng.integers(steps))
        assert isinstance(distribution, CategoricalDistribution)
        return str(distribution.choices[int(self._rng.integers(len(distribution.choices)))])


RIVALS: dict[str, Rival] = {
    "surrogate": Rival(SAMPLERS["surrogate"].make, own=True, limit=200),
    "evolution": Rival(SAMPLERS["evolution"].make, own=True),
    "mutation": Rival(lambda setting: PlainMutation(setting.space, setting.seed)),
    "random": Rival(lambda setting: RandomSampler(seed=setting.seed)),
    "nsga2": Rival(lambda setting: NSGAIISampler(seed=setting.seed)),
    "nsga3": Rival(lambda setting: NSGAIIISampler(seed=setting.seed)),
    "tpe": Rival(lambda setting: TPESampler(seed=setting.seed), limit=100),
    "tpe multivariate": Rival(
        lambda setting: TPESampler(seed=setting.seed, multivariate=True), limit=200
    ),
    "gp": Rival(lambda setting: GPSampler(seed=setting.seed), limit=50, seeds=3),
    "guarded random": Rival(SAMPLERS["random"].make, limit=100),
    "guarded nsga2": Rival(SAMPLERS["nsga2"].make, limit=200),
    "guarded tpe multivariate": Rival(SAMPLERS["tpe"].make, limit=100),
}
"""Names without "guarded" are Optuna's samplers as installed, on the space's axes: what breaks a
rule of the space is a failed trial, and a repetition is evaluated again."""
