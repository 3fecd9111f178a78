"""A space's supernet: trained once or loaded, then a score for any variant in a moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from effvit.config import ModelConfig
from search.supernet.inheriting import Inherited, inherit
from search.supernet.sharing import family_rules
from search.supernet.store import Identity, load, save
from search.supernet.training import RECIPE, Paths, SupernetRecipe, Trained, train_supernet
from spaces.space import Space

FILE = "supernet.safetensors"
"""Name of a supernet in its folder."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How inherited scores rank a sample that was also trained on its own.

    Attributes:
        kendall_tau, spearman_rho: Rank correlations; NaN where all scores are equal.
        variants: Size of the sample.
    """

    kendall_tau: float
    spearman_rho: float
    variants: int

    def statement(self) -> str:
        """The agreement in words, for reports."""
        return (
            f"inherited and stand-alone accuracy of {self.variants} variants agree with Kendall's "
            f"tau {self.kendall_tau:.2f} (Spearman's rho {self.spearman_rho:.2f})"
        )


class Supernet:
    """Weights of which every variant of a space is a slice. Made by :meth:`obtain`."""

    def __init__(self, trained: Trained, recipe: SupernetRecipe, seed: int) -> None:
        self._trained = trained
        self._recipe = recipe
        self._seed = seed

    @classmethod
    def obtain(
        cls,
        space: Space,
        folder: Path,
        *,
        recipe: SupernetRecipe = RECIPE,
        seed: int = 0,
        max_macs: float | None = None,
        threads: int = 1,
        after_step: Callable[[int], None] | None = None,
    ) -> Supernet:
        """Load the supernet of a space from a folder; train it first where there is none.

        Args:
            space: The space.
            folder: Where it is kept, as :data:`FILE`.
            recipe: How it is trained.
            seed: Same arguments, same weights, bit for bit on one machine.
            max_macs: Budget of the variants that are trained, if any.
            threads: CPU threads of the training.
            after_step: Called with the number of steps done while training.

        Raises:
            ConfigError: The family shares no weights by name, or the folder holds another supernet.
            ProxyFailed: The training failed.
        """
        family_rules(space.unrank(0).family)
        paths = Paths.of(space, seed, max_macs)
        identity = Identity.of(space, paths, recipe, seed, max_macs)
        path = folder / FILE
        if path.exists():
            return cls(load(identity, path), recipe, seed)
        trained = train_supernet(paths, recipe, seed, threads=threads, after_step=after_step)
        folder.mkdir(parents=True, exist_ok=True)
        save(trained, identity, path)
        return cls(trained, recipe, seed)

    def score(self, config: ModelConfig, *, threads: int = 1) -> Inherited:
        """Measure a variant with the weights that it inherits.

        Raises:
            ConfigError: It is none of the supernet's space.
        """
        return inherit(config, self._trained, self._recipe, self._seed, threads=threads)


def agreement(inherited: Sequence[float], alone: Sequence[float]) -> Agreement:
    """Compare scores of a supernet with those of variants trained on their own.

    Args:
        inherited: Scores of the supernet, more is better.
        alone: Scores of the same variants, each trained by itself.

    Raises:
        ValueError: Fewer than two variants, or not as many of both.
    """
    if len(inherited) != len(alone) or len(alone) < 2:
        raise ValueError(
            f"rank agreement needs two or more pairs, got {len(inherited)} and {len(alone)} scores"
        )
    pair = np.asarray(inherited), np.asarray(alone)
    tau = float(stats.kendalltau(*pair).statistic)
    return Agreement(tau, float(stats.spearmanr(*pair).statistic), len(alone))
