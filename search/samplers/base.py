"""What all samplers promise: valid, affordable, unseen, and the same again after a stop."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from effvit import ConfigError, ModelConfig
from search.blas import one_blas_thread
from search.samplers.bulk import Known, Numbered, Pool
from search.samplers.history import History, claim
from search.samplers.setting import Setting
from search.samplers.variation import Variation
from spaces.space import Space


class SpaceExhaustedError(ConfigError):
    """There is nothing left to propose within the budgets."""


class WholeSpaceSampler(BaseSampler):
    """An Optuna sampler whose proposals are made as a whole, not parameter by parameter."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.distributions = space.distributions()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space: a proposal is made as a whole."""
        del study, trial
        return self.distributions

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 - as in Optuna's interface
        """Never asked for, unless a sampler leaves something open."""
        del study, trial, param_distribution
        raise AssertionError(param_name)


class ArchitectureSampler(WholeSpaceSampler):
    """An Optuna sampler every proposal of which is worth its evaluation.

    A proposal is a valid network of the space, in canonical form, within the budgets, and not yet
    in the study: finished, failed, running in another worker or waiting. It depends on the run's
    seed, on how many networks the study holds and on what is known of them, not on trial numbers
    or on what this object has done before: a resumed run goes on as if it had never stopped.

    Several workers may share a study. A proposal is written into its trial at once; if another
    trial turns out to hold the same network, a new one is made.

    Attributes:
        bulks: Networks drawn at a time until one fits: the first ones do, unless budgets are tight.
    """

    bulks = (1_000, 10_000, 100_000, 1_000_000)

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.space = setting.space
        self.history = History(setting.space)
        self.variation = Variation(setting.space)
        self.distributions = setting.space.distributions()

    def saw(self, config: ModelConfig) -> None:
        """Remember a variant, which will not be proposed again."""
        self.history.tell(config)

    def has_seen(self, config: ModelConfig) -> bool:
        """Whether a variant is in the study, as far as it has been read, or was remembered."""
        return config in self.history

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a variant.

        Raises:
            SpaceExhaustedError: None is left.
        """
        del search_space
        if "fixed_params" in trial.system_attrs:
            return {}  # enqueued: Optuna takes the parameters from there
        self.history.read(study, trial.number)
        order = len(self.history)
        for attempt in itertools.count():
            # Two workers that ask at the same moment share all but the number, and get out of step.
            place = [order] if attempt == 0 else [order, trial.number, attempt]
            seeds = np.random.SeedSequence([self.setting.seed, *place])
            with one_blas_thread():
                config = self.propose(study, trial, seeds)
            params = self.variation.parameters(self.variation.choices(config))
            claim(study, trial, order, params)
            self.history.read(study, trial.number)
            if config not in self.history:
                return dict(params)
        raise AssertionError  # the loop has no end

    @abc.abstractmethod
    def propose(
        self, study: Study, trial: FrozenTrial, seeds: np.random.SeedSequence
    ) -> ModelConfig:
        """Make a proposal that :meth:`fits`; :attr:`history` has been read.

        Raises:
            SpaceExhaustedError: None is left.
        """

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 - as in Optuna's interface
        """Sample one parameter; only asked for what an enqueued trial leaves open."""
        seeds = np.random.SeedSequence([self.setting.seed, trial.number])
        sampler = RandomSampler(seed=int(seeds.generate_state(1)[0]))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def fits(self, configs: Sequence[ModelConfig]) -> list[bool]:
        """Say of each network of the space whether it is unseen and affordable."""
        affordable = self.setting.affordable(Known(configs))
        return [
            bool(within) and config not in self.history
            for config, within in zip(configs, affordable, strict=True)
        ]

    def first_fit(self, configs: Sequence[ModelConfig]) -> ModelConfig | None:
        """The first network that is unseen and affordable."""
        unseen = [config for config in configs if config not in self.history]
        fits = self.fits(unseen)
        return next((config for config, fit in zip(unseen, fits, strict=True) if fit), None)

    def draw(self, rng: np.random.Generator) -> ModelConfig:
        """Draw a network that fits, uniformly; the whole space is gone through if it is small.

        Raises:
            SpaceExhaustedError: None was found.
        """
        for pool in self._bulks(rng):
            for place in np.flatnonzero(self.setting.affordable(pool)):
                config = pool.config(int(place))
                if config not in self.history:
                    return config
        raise SpaceExhaustedError("no variant within the budgets is left")

    def _bulks(self, rng: np.random.Generator) -> Iterator[Pool]:
        """Networks in random order: all of a small space, and each once."""
        size, start = self.space.size(), 0
        order = rng.permutation(size) if size <= sum(self.bulks) else None
        for count in self.bulks:
            if order is None:
                yield Numbered(self.space, self.space.draw(rng, count))
            else:
                yield Numbered(self.space, order[start : start + count])
            start += count
