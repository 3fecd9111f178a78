"""What samplers share that learn from the trials so far and know the space."""

from __future__ import annotations

import abc
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from effvit import ModelConfig, model_costs
from search.samplers.archive import Archive
from search.samplers.base import ArchitectureSampler
from search.samplers.bulk import Numbered, draw_pool, spread
from search.samplers.features import COSTS, Candidates, Features
from search.samplers.setting import FloatArray, Objective, Setting
from spaces.axes import Choices

_START = 2**32 - 1
"""Keeps random numbers of the start apart from those of proposals, which are counted from 0."""


class LearningSampler(ArchitectureSampler):
    """A sampler that begins evenly over the range of MACs, then learns.

    Attributes:
        design: As many networks are known before learning begins.
        learns_from: And as many evaluated ones.
        litters: Sets of neighbours kept, so that they are not made again.
        pool_size: Networks drawn to choose the first ones from.
        larger_pools: And so many where too few of these are within the budgets,
        choice: fewer than so many for each of the first ones.
    """

    design = 16
    learns_from = 4
    litters = 300
    pool_size = 4000
    larger_pools = (100_000, 1_000_000)
    choice = 10

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._archive: Archive | None = None
        self._costs: dict[ModelConfig, FloatArray] = {}
        self._litters: dict[ModelConfig, Candidates | None] = {}
        # Now: what is affordable may become clearer as the run goes on, and one that is resumed
        # must begin with the same networks.
        self._start = self._begin()

    def propose(
        self, study: Study, trial: FrozenTrial, seeds: np.random.SeedSequence
    ) -> ModelConfig:
        """Begin with the design; then :meth:`choose`, or draw if that finds nothing."""
        del trial
        rng = np.random.default_rng(seeds)
        evaluated = len(self.history.evaluated)
        if len(self.history) < self.design or evaluated < self.learns_from:
            return self.first_fit(self._start) or self.draw(rng)
        return self.choose(study, self._archive_of(study), rng) or self.draw(rng)

    @abc.abstractmethod
    def choose(
        self, study: Study, archive: Archive, rng: np.random.Generator
    ) -> ModelConfig | None:
        """Make a proposal that fits from what has been evaluated; None if none is found."""

    # --- the beginning --------------------------------------------------------------------------

    @functools.cached_property
    def pool(self) -> Numbered:
        """Networks drawn at the start, the same ones for a seed; budgets are not checked."""
        rng = np.random.default_rng([self.setting.seed, _START])
        return draw_pool(self.space, rng, self.pool_size)

    def _begin(self) -> list[ModelConfig]:
        """Affordable networks that cover the range of log MACs evenly, in order of proposal."""
        rng = np.random.default_rng([self.setting.seed, _START, 1])
        for pool in self._pools(rng):
            within = np.flatnonzero(self.setting.affordable(pool))
            if len(within) >= self.choice * self.design:
                break
        if len(within) == 0:
            return []
        chosen = spread(np.log(pool.costs.macs[within]), self.design, rng)
        return [pool.config(int(place)) for place in within[chosen]]

    def _pools(self, rng: np.random.Generator) -> Iterator[Numbered]:
        """Pools to begin from, each larger than the one before."""
        yield self.pool
        if len(self.pool) < self.space.size():
            for count in self.larger_pools:
                yield draw_pool(self.space, rng, count)

    # --- what is known --------------------------------------------------------------------------

    @functools.cached_property
    def features(self) -> Features:
        """The encoding."""
        return Features(self.space, self.pool.costs)

    def candidates(self, study: Study, made: Mapping[ModelConfig, Choices]) -> Candidates:
        """Encode networks, given with choices that make them, with the losses that are exact."""
        configs = list(made)
        costs = model_costs(configs)
        of_costs = self.features.of_costs(costs)
        losses = np.full((len(configs), len(study.directions)), np.nan)
        for column, objective, direction in self._objectives(study):
            if objective.exact is not None:
                values = np.asarray(objective.exact(costs), dtype=np.float64)
                losses[:, column] = objective.losses(values, direction)
        return Candidates(configs, self.features.joined(made.values(), of_costs), losses)

    def litter(self, study: Study, config: ModelConfig) -> Candidates | None:
        """Unseen networks one change away; None if there are none."""
        if config not in self._litters:
            if len(self._litters) >= self.litters:
                self._litters.clear()
            near = self.variation.neighbours(config)
            self._litters[config] = self.candidates(study, near) if near else None
        litter = self._litters[config]
        return litter and litter.some(self.unseen(litter.configs))

    def unseen(self, configs: Sequence[ModelConfig]) -> NDArray[np.int64]:
        """Places of the networks that the study does not hold."""
        return np.flatnonzero([config not in self.history for config in configs])

    def best(self, candidates: Candidates, scores: FloatArray) -> ModelConfig | None:
        """The candidate with the highest score of those that fit."""
        order = np.argsort(-scores, kind="stable")
        for some in (order[:1], order[1:]):  # the first one does almost always
            found = self.first_fit([candidates.configs[index] for index in some])
            if found is not None:
                row = candidates.rows[candidates.configs.index(found)]
                self._costs[found] = row[-COSTS:]
                return found
        return None

    def _archive_of(self, study: Study) -> Archive:
        """Everything that has been evaluated."""
        if self._archive is None:
            self._archive = Archive(self.features.width, len(study.directions))
        new = self.history.evaluated[len(self._archive) :]
        if new:
            configs = [found.config for found in new]
            values = np.array([found.values for found in new])
            losses = np.empty_like(values)
            for column, objective, direction in self._objectives(study):
                losses[:, column] = objective.losses(values[:, column], direction)
            orders = [found.order for found in new]
            # Not the choices of the proposal: a resumed run does not know them.
            choices = map(self.variation.choices, configs)
            rows = self.features.joined(choices, self._costs_of(configs))
            self._archive.add(configs, orders, rows, losses)
        return self._archive

    def _costs_of(self, configs: Sequence[ModelConfig]) -> FloatArray:
        """The encoded costs of networks, remembered from their proposal where it was here."""
        others = [config for config in configs if config not in self._costs]
        if others:
            computed = self.features.of_costs(model_costs(others))
            self._costs.update(zip(others, computed, strict=True))
        return np.array([self._costs.pop(config) for config in configs])

    def _objectives(self, study: Study) -> Iterator[tuple[int, Objective, StudyDirection]]:
        objectives = self.setting.objectives_of(study.directions)
        return zip(itertools.count(), objectives, study.directions, strict=False)
