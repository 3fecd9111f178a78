"""Models of what is expensive: expected hypervolume improvement over networks of the space."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from sklearn.gaussian_process.kernels import Kernel

from effvit import ConfigError, ModelConfig
from search.front import layers, non_dominated
from search.samplers.archive import Archive
from search.samplers.features import Candidates, joined
from search.samplers.gaussian import GaussianProcess, fit_kernel, standard
from search.samplers.improvement import MAX_OBJECTIVES, expected_improvement, free_boxes
from search.samplers.learning import LearningSampler
from search.samplers.setting import FloatArray, Setting


class SurrogateSampler(LearningSampler):
    """Models the objectives that are not exact, and proposes what should improve the front most.

    A Gaussian process for each such objective is fitted to the trials so far; exact objectives are
    computed. The candidate with the largest expected hypervolume improvement is proposed: of
    networks drawn uniformly, the neighbours of members of the front, and what a climb from the best
    of these through their neighbours finds.

    Trials that run count with the values that the models expect of them, so that several proposals
    at once differ (the "believer" of Ginsbourger, Le Riche, Carraro, "Kriging is well-suited to
    parallelize optimization", 2010).

    Scales are fitted anew whenever the trials have become :attr:`growth` times as many, and always
    to the first ones of a schedule: a resumed run finds the same ones.

    Attributes:
        uniform: Candidates drawn from the pool.
        members: Members of the front whose neighbours are candidates.
        climbs: Candidates from which a climb starts.
        steps: Most steps of a climb.
        growth: See above.
        fitted: Trials to which scales are fitted, at most.
        remembered: Trials to which the models are fitted, at most; the best layers are kept.
        margin: Of the reference point beyond the worst values, in ranges of the front.
    """

    design = 12
    pool_size = 2000
    uniform = 500
    members = 12
    climbs = 3
    steps = 6
    growth = 1.3
    fitted = 150
    remembered = 400
    margin = 0.1

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._kernels: dict[tuple[int, int], Kernel] = {}
        self._drawn: Candidates | None = None

    def choose(
        self, study: Study, archive: Archive, rng: np.random.Generator
    ) -> ModelConfig | None:
        """Propose the candidate of the largest expected improvement."""
        if len(study.directions) > MAX_OBJECTIVES:
            raise ConfigError(
                f"sampler surrogate takes at most {MAX_OBJECTIVES} objectives, "
                f"got {len(study.directions)} (nearest valid: evolution)"
            )
        running = list(dict.fromkeys(self.history.pending.values()))
        choices = {config: self.variation.choices(config) for config in running}
        expected = self.candidates(study, choices) if running else None
        belief = _Belief(archive, self._models(study, archive), expected, self.margin)
        start = joined([*self._near_front(study, archive, rng), self._uniform(study, rng)])
        if start is None:
            return None
        scores = belief(start)
        found, scored = [start], [scores]
        for place in np.argsort(-scores, kind="stable")[: self.climbs]:
            at, height = start.configs[place], float(scores[place])
            for _ in range(self.steps):
                near = self.litter(study, at)
                if near is None:
                    break
                found.append(near)
                scored.append(belief(near))
                top = int(np.argmax(scored[-1]))
                if scored[-1][top] <= height:
                    break
                at, height = near.configs[top], float(scored[-1][top])
        candidates = joined(found)
        assert candidates is not None  # there was something to start from
        return self.best(candidates, np.concatenate(scored))

    # --- candidates -----------------------------------------------------------------------------

    def _near_front(
        self, study: Study, archive: Archive, rng: np.random.Generator
    ) -> list[Candidates | None]:
        """Unseen neighbours of random members of the front."""
        members = archive.front
        if len(members) > self.members:
            members = rng.choice(members, self.members, replace=False)
        return [self.litter(study, archive.configs[member]) for member in members]

    def _uniform(self, study: Study, rng: np.random.Generator) -> Candidates | None:
        """Unseen networks of the pool."""
        if self._drawn is None:
            made = {config: self.variation.choices(config) for config in self.pool.configs}
            self._drawn = self.candidates(study, made)
        unseen = self.unseen(self._drawn.configs)
        count = min(self.uniform, len(unseen))
        return self._drawn.some(rng.choice(unseen, count, replace=False) if count else unseen)

    # --- models ---------------------------------------------------------------------------------

    def _models(self, study: Study, archive: Archive) -> list[GaussianProcess | None]:
        """A model for each objective; None for those that are exact."""
        kept = self._kept(archive)
        models: list[GaussianProcess | None] = []
        for column, objective in enumerate(self.setting.objectives_of(study.directions)):
            if objective.exact is not None:
                models.append(None)
                continue
            losses = archive.losses[:, column]
            kernel = self._kernel(archive.rows, losses, column)
            models.append(GaussianProcess(kernel, archive.rows[kept], losses[kept]))
        return models

    def _kept(self, archive: Archive) -> NDArray[np.int64]:
        """Trials that the models are fitted to, in their order."""
        if len(archive) <= self.remembered:
            return np.arange(len(archive))
        best = np.argsort(layers(archive.losses), kind="stable")
        return np.sort(best[: self.remembered])

    def _kernel(self, rows: FloatArray, losses: FloatArray, column: int) -> Kernel:
        """Scales for an objective from the first trials of the schedule, fitted once."""
        size = self.learns_from
        while math.ceil(self.growth * size) <= len(rows):
            size = math.ceil(self.growth * size)
        if (column, size) not in self._kernels:
            chosen = np.unique(np.linspace(0, size - 1, self.fitted).round().astype(np.int64))
            mean, spread = standard(losses[chosen])
            self._kernels[column, size] = fit_kernel(rows[chosen], (losses[chosen] - mean) / spread)
        return self._kernels[column, size]


class _Belief:
    """What is believed of networks that have not been evaluated.

    Args:
        archive: What has been.
        models: One for each objective, None where it is exact.
        running: What is being evaluated, if anything is.
        margin: As in :class:`SurrogateSampler`.
    """

    def __init__(
        self,
        archive: Archive,
        models: list[GaussianProcess | None],
        running: Candidates | None,
        margin: float,
    ) -> None:
        self._models = models
        losses = archive.losses
        if running is not None:
            losses = np.vstack([losses, self._guess(running)[0]])
        front = losses[non_dominated(losses)]
        spread = np.ptp(front, axis=0)
        limit = losses.max(axis=0) + margin * np.where(spread > 0, spread, 1.0)
        self._boxes = free_boxes(front, limit.tolist())

    def __call__(self, candidates: Candidates) -> FloatArray:
        """Expected improvement (n,) of the hypervolume."""
        return expected_improvement(*self._guess(candidates), self._boxes)

    def _guess(self, candidates: Candidates) -> tuple[FloatArray, FloatArray]:
        """Means and standard deviations (n, m) of the losses."""
        mean = candidates.losses.copy()
        deviation = np.zeros_like(mean)
        for column, model in enumerate(self._models):
            if model is not None:
                mean[:, column], deviation[:, column] = model(candidates.rows)
        return mean, deviation
