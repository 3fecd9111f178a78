"""Optuna's samplers, each behind a guard that passes on only what is worth evaluating."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from effvit import ModelConfig
from search.samplers.base import ArchitectureSampler
from search.samplers.setting import Setting
from spaces import InvalidVariant

PATIENCE: Final = 30
"""How often a sampler that draws is asked for one trial."""


class GuardedSampler(ArchitectureSampler):
    """Lets another sampler propose, and passes on only valid, affordable and unseen variants.

    What the wrapped sampler proposes is rejected until it fits; after so many rejections a
    neighbour of its last valid proposal is taken, and at last a uniform draw from the affordable
    part of the space.

    The wrapped sampler is made anew for each trial, from the run's seed and the place of the
    proposal, instead of repeating its first draws in a resumed run. One that keeps its place in the
    study itself has the run's seed alone.
    """

    def __init__(
        self,
        setting: Setting,
        make: Callable[[int], BaseSampler],
        *,
        resumes: bool = False,
        patience: int = PATIENCE,
    ) -> None:
        """Guard a sampler.

        Args:
            setting: The search.
            make: Makes the sampler to wrap from a seed.
            resumes: Whether it keeps its place in the study.
            patience: How often it is asked for one trial.
        """
        super().__init__(setting)
        self._patience = patience
        self._make = make
        self._resumes = resumes
        self._inner: BaseSampler = make(setting.seed)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the wrapped sampler."""
        self._inner.after_trial(study, trial, state, values)

    def propose(
        self, study: Study, trial: FrozenTrial, seeds: np.random.SeedSequence
    ) -> ModelConfig:
        """Let the wrapped sampler propose until something fits."""
        seed = self.setting.seed if self._resumes else int(seeds.generate_state(1)[0])
        self._inner = self._make(seed)
        self._inner.before_trial(study, trial)
        last: ModelConfig | None = None
        for _ in range(self._patience):
            config = self._decode(self._ask(study, trial))
            if config is None:
                continue
            last = config
            if self.fits([config])[0]:
                return config
        rng = np.random.default_rng(seeds)
        near = self.space.neighbours(last) if last else []
        found = self.first_fit([near[index] for index in rng.permutation(len(near))])
        return found or self.draw(rng)

    def _ask(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        space = self._inner.infer_relative_search_space(study, trial)
        known = {name: d for name, d in space.items() if name in self.distributions}
        params = self._inner.sample_relative(study, trial, known)
        for name, distribution in self.distributions.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, distribution)
        return params

    def _decode(self, params: Mapping[str, Any]) -> ModelConfig | None:
        try:
            return self.space.decode(params)
        except InvalidVariant:
            return None


def guarded(
    make: Callable[[int], BaseSampler], *, resumes: bool = False, patience: int = PATIENCE
) -> Callable[[Setting], ArchitectureSampler]:
    """How a guarded sampler is made for a search; arguments as for :class:`GuardedSampler`."""
    return lambda setting: GuardedSampler(setting, make, resumes=resumes, patience=patience)
