"""Evolution among architectures: mutation and crossover in the space, screened before they cost."""

from __future__ import annotations

import numpy as np
from optuna.study import Study

from effvit import ModelConfig
from search.samplers.archive import Archive
from search.samplers.features import Candidates, joined
from search.samplers.learning import LearningSampler
from search.samplers.setting import FloatArray


class EvolutionSampler(LearningSampler):
    """A genetic algorithm without generations over all feasible trials so far.

    A parent wins a tournament by non-domination, then crowding distance (Deb et al., NSGA-II,
    2002). Its children are all of its neighbours in the space, or crossings with a parent near it
    among the objectives. One child of several families is evaluated: exact objectives are computed,
    the others guessed from what changes of the axes have done to them so far (ridge regression,
    with noise as large as its errors, so that it also tries what it does not expect), and the child
    wins that gets farthest beyond the front.

    Attributes:
        parents: Parents are at least so many: where the front has fewer, the next layers follow.
        families: Parents of whose children one is evaluated.
        crossing: Share of the families that come from crossings.
        crossings: Most children of two parents.
        mates: Parents nearest to the first one of which one is the second.
        penalty: Of the ridge regression, for each squared unit of a slope.
        noise: Of a guess, in standard deviations of the regression's errors.
        patience: Rounds of families tried before a network is drawn at random.
    """

    parents = 8
    families = 2
    crossing = 0.2
    crossings = 6
    mates = 5
    penalty = 1.0
    noise = 0.5
    patience = 20

    def choose(
        self, study: Study, archive: Archive, rng: np.random.Generator
    ) -> ModelConfig | None:
        """Propose the most promising child of some parents."""
        parents = _Parents(archive, self.parents)
        guess = _Regression(archive, self.penalty, self.noise)
        for _ in range(self.patience):
            broods, losses = [], []
            for _ in range(self.families):
                parent = parents.tournament(rng)
                brood = self._children(study, archive, parents, parent, rng)
                if brood is not None:
                    broods.append(brood)
                    losses.append(guess(brood, parent, rng))
            children = joined(broods)
            if children is not None:
                scores = beyond(np.vstack(losses), archive.losses[archive.front])
                found = self.best(children, scores)
                if found is not None:
                    return found
        return None

    def _children(
        self,
        study: Study,
        archive: Archive,
        parents: _Parents,
        parent: int,
        rng: np.random.Generator,
    ) -> Candidates | None:
        """Unseen children of a parent; None if there are none."""
        config = archive.configs[parent]
        if rng.random() >= self.crossing:
            return self.litter(study, config)
        mate = archive.configs[parents.mate(parent, self.mates, rng)]
        made = self.variation.crossings(config, mate, self.crossings, rng)
        unseen = {child: made[child] for child in made if child not in self.history}
        return self.candidates(study, unseen) if unseen else None


class _Parents:
    """The best trials so far, among which parents are chosen.

    Args:
        archive: All of them.
        least: How many parents there are at least, if there are as many trials.
    """

    def __init__(self, archive: Archive, least: int) -> None:
        self._pool, self._rank, self._distance = archive.parents(least)
        spread = np.ptp(archive.losses[self._pool], axis=0)
        self._places = archive.losses[self._pool] / np.where(spread > 0, spread, 1)

    def tournament(self, rng: np.random.Generator) -> int:
        """The better of two random parents."""
        first, second = rng.integers(len(self._pool), size=2)
        better = (-self._rank[first], self._distance[first])
        wins = better >= (-self._rank[second], self._distance[second])
        return int(self._pool[first if wins else second])

    def mate(self, parent: int, count: int, rng: np.random.Generator) -> int:
        """One of those nearest to a parent among the objectives; itself if there are no others."""
        own = int(np.searchsorted(self._pool, parent))
        apart = np.square(self._places - self._places[own]).sum(axis=1)
        apart[own] = np.inf
        near = np.argsort(apart, kind="stable")[: min(count, len(apart) - 1)]
        return int(self._pool[rng.choice(near)]) if len(near) else parent


class _Regression:
    """Linear effects of the features on all losses, fitted to an archive.

    Attributes:
        error: (m,), root mean square error on the archive.
    """

    def __init__(self, archive: Archive, penalty: float, noise: float) -> None:
        self._archive = archive
        self._noise = noise
        rows = archive.rows - archive.rows.mean(axis=0)
        losses = archive.losses - archive.losses.mean(axis=0)
        gram = rows.T @ rows + penalty * np.eye(rows.shape[1])
        self._slopes = np.linalg.solve(gram, rows.T @ losses)
        self.error = np.sqrt(np.square(losses - rows @ self._slopes).mean(axis=0))

    def __call__(self, children: Candidates, parent: int, rng: np.random.Generator) -> FloatArray:
        """Losses (n, m) of children: their parent's, and what the differences to it do."""
        change = children.rows - self._archive.rows[parent]
        guessed = self._archive.losses[parent] + change @ self._slopes
        guessed += rng.normal(scale=self._noise, size=guessed.shape) * self.error
        return np.where(np.isnan(children.losses), guessed, children.losses)


def beyond(losses: FloatArray, front: FloatArray) -> FloatArray:
    """How far points are beyond a front: 0 on it, negative where they are dominated.

    The additive epsilon indicator of Zitzler et al. (2003) for single points: the least over the
    front of the most that a point is better in any objective, in units of the front's range.

    Args:
        losses: (n, m).
        front: (f, m).

    Returns:
        (n,).
    """
    spread = np.ptp(front, axis=0)
    better = (front - losses[:, None]) / np.where(spread > 0, spread, 1)
    distance: FloatArray = better.max(axis=2).min(axis=1)
    return distance
