"""Samplers: Optuna's, each behind a guard that proposes only what is worth evaluating."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from effvit import ConfigError, ModelConfig, model_costs
from effvit.config import unknown_name
from spaces import InvalidVariant
from spaces.space import Space


@dataclasses.dataclass(frozen=True)
class SamplerKind:
    """A sampler that can be chosen.

    Attributes:
        make: Makes it from a seed.
        purpose: What it is good for.
        resumes: Whether it keeps its place in the study. Then it has one seed for the whole run.
    """

    make: Callable[[int], BaseSampler]
    purpose: str
    resumes: bool = False


SAMPLERS: dict[str, SamplerKind] = {
    "tpe": SamplerKind(
        lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True),
        "tree-structured Parzen estimator, multivariate; best below a few hundred trials",
    ),
    "nsga2": SamplerKind(
        lambda seed: NSGAIISampler(seed=seed, population_size=24),
        "genetic algorithm, non-dominated sorting and crowding",
    ),
    "nsga3": SamplerKind(
        lambda seed: NSGAIIISampler(seed=seed, population_size=24),
        "genetic algorithm, reference points; for three objectives and more",
    ),
    "gp": SamplerKind(
        lambda seed: GPSampler(seed=seed),
        "Gaussian process; seconds a proposal, for few and expensive trials",
    ),
    "qmc": SamplerKind(
        lambda seed: QMCSampler(seed=seed, scramble=True, warn_asynchronous_seeding=False),
        "low-discrepancy sequence; covers the space evenly, learns nothing",
        resumes=True,
    ),
    "random": SamplerKind(lambda seed: RandomSampler(seed=seed), "independent random choices"),
}


def sampler_kind(name: str) -> SamplerKind:
    """Look a sampler up.

    Raises:
        ConfigError: No such sampler; the message lists the known names.
    """
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    return SAMPLERS[name]


class GuardedSampler(BaseSampler):
    """Lets a sampler propose, and passes on only valid, affordable and unseen variants.

    Every trial of the study is then worth its evaluation: what the wrapped sampler proposes is
    rejected until it fits; after :attr:`patience` rejections a neighbour of its last valid proposal
    is taken, and at last a uniform draw from the affordable part of the space.

    The wrapped sampler is made anew for each trial from the run's seed and the trial's number, so
    a resumed run goes on as if it had never stopped, instead of repeating its first draws. One
    that keeps its place in the study itself has the run's seed alone.
    """

    patience = 30
    bulk = 2000
    bulk_draws = 100

    def __init__(
        self,
        kind: SamplerKind,
        space: Space,
        affordable: Callable[[Sequence[ModelConfig]], Sequence[bool]],
        seed: int,
    ) -> None:
        """Guard a sampler.

        Args:
            kind: The sampler to wrap.
            space: Where variants come from.
            affordable: Says of each configuration whether it is within all budgets.
            seed: The run's seed.
        """
        self._kind = kind
        self._space = space
        self._affordable = affordable
        self._seed = seed
        self._inner: BaseSampler = kind.make(seed)
        self._seen: set[str] = set()
        self._distributions = space.distributions()

    def saw(self, config: ModelConfig) -> None:
        """Remember a variant, which will not be proposed again."""
        self._seen.add(config.variant_id)

    def has_seen(self, config: ModelConfig) -> bool:
        """Whether a variant was remembered."""
        return config.variant_id in self._seen

    def seed_for(self, number: int) -> int:
        """Seed for one trial, from the run's seed and the trial's number."""
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the wrapped sampler for this trial."""
        self._inner = self._kind.make(
            self._seed if self._kind.resumes else self.seed_for(trial.number)
        )
        self._inner.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the wrapped sampler."""
        self._inner.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space: a proposal is judged as a whole."""
        del study, trial
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a variant."""
        del search_space
        if "fixed_params" in trial.system_attrs:
            return {}  # enqueued: Optuna takes the parameters from there
        last: ModelConfig | None = None
        for _ in range(self.patience):
            config = self._decode(self._propose(study, trial))
            if config is None:
                continue
            last = config
            if self._fits([config])[0]:
                return self._space.encode(config)
        rng = np.random.default_rng(self.seed_for(trial.number))
        near = self._first_fit(self._shuffled(self._space.neighbours(last), rng)) if last else None
        return self._space.encode(near or self._draw(rng))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 - as in Optuna's interface
        """Sample one parameter; only asked for what an enqueued trial leaves open."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def _propose(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        space = self._inner.infer_relative_search_space(study, trial)
        known = {name: d for name, d in space.items() if name in self._distributions}
        params = self._inner.sample_relative(study, trial, known)
        for name, distribution in self._distributions.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, distribution)
        return params

    def _decode(self, params: Mapping[str, Any]) -> ModelConfig | None:
        try:
            return self._space.decode(params)
        except InvalidVariant:
            return None

    def _fits(self, configs: Sequence[ModelConfig]) -> list[bool]:
        unseen = [config.variant_id not in self._seen for config in configs]
        return [a and b for a, b in zip(unseen, self._affordable(configs), strict=True)]

    def _first_fit(self, configs: Sequence[ModelConfig]) -> ModelConfig | None:
        fits = self._fits(configs) if configs else []
        return next((config for config, fit in zip(configs, fits, strict=True) if fit), None)

    @staticmethod
    def _shuffled(configs: Sequence[ModelConfig], rng: np.random.Generator) -> list[ModelConfig]:
        return [configs[index] for index in rng.permutation(len(configs))]

    def _draw(self, rng: np.random.Generator) -> ModelConfig:
        for configs in self._bulks(rng):
            found = self._first_fit(configs)
            if found is not None:
                return found
        raise SpaceExhaustedError("no variant within the budgets is left")

    def _bulks(self, rng: np.random.Generator) -> Iterator[list[ModelConfig]]:
        """Draw from the space in bulk: all of it in random order if it is small."""
        size = self._space.size()
        if size > self.bulk * self.bulk_draws:
            for _ in range(self.bulk_draws):
                yield self._space.sample_many(rng, self.bulk)
            return
        order = rng.permutation(size)
        for start in range(0, size, self.bulk):
            yield [self._space.unrank(int(rank)) for rank in order[start : start + self.bulk]]


class SpaceExhaustedError(ConfigError):
    """There is nothing left to propose within the budgets."""


def within(
    configs: Sequence[ModelConfig], max_macs: int | None, max_params: int | None
) -> list[bool]:
    """Say of each configuration whether its closed-form cost is within the limits."""
    if not configs or (max_macs is None and max_params is None):
        return [True] * len(configs)
    costs = model_costs(configs)
    fits = np.ones(len(configs), dtype=bool)
    if max_macs is not None:
        fits &= costs.macs <= max_macs
    if max_params is not None:
        fits &= costs.params <= max_params
    return [bool(fit) for fit in fits]


def quiet_optuna() -> None:
    """Keep Optuna's log lines off the screen; the run prints its own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
