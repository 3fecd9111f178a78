"""What a sampler is told about a search: where variants come from and what counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection

from effvit import ConfigError
from effvit.cost import CostArrays
from search.samplers.bulk import Pool
from spaces.space import Space

FloatArray: TypeAlias = NDArray[np.float64]

Mask: TypeAlias = NDArray[np.bool_]

Affordable: TypeAlias = Callable[[Pool], Mask]
"""Says of each network whether it is within all budgets."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """One value that trials report, beyond the direction that the study knows.

    Attributes:
        name: What it is.
        log: Whether ratios count instead of differences; values are then positive.
        exact: The values (n,) of networks from their closed-form costs, where these decide it:
            such an objective is computed, never guessed.
    """

    name: str
    log: bool = False
    exact: Callable[[CostArrays], NDArray[np.int64] | FloatArray] | None = None

    def losses(self, values: FloatArray, direction: StudyDirection) -> FloatArray:
        """Values as losses, to be minimised, on the scale on which differences count."""
        scaled = np.log(values) if self.log else values
        return -scaled if direction is StudyDirection.MAXIMIZE else scaled


@dataclasses.dataclass(frozen=True)
class Setting:
    """A search as a sampler sees it.

    Attributes:
        space: Where variants come from.
        affordable: Says of each network whether it is within all budgets.
        seed: The run's seed.
        objectives: What trials report, in the study's order; none if nothing is known of them.
    """

    space: Space
    affordable: Affordable
    seed: int
    objectives: tuple[Objective, ...] = ()

    def objectives_of(self, directions: Sequence[StudyDirection]) -> tuple[Objective, ...]:
        """The objectives of a study.

        Raises:
            ConfigError: The study has another number of them.
        """
        if not self.objectives:
            return tuple(Objective(f"value_{index}") for index in range(len(directions)))
        if len(self.objectives) != len(directions):
            raise ConfigError(
                f"the study must have the {len(self.objectives)} objectives "
                f"{', '.join(o.name for o in self.objectives)}, got {len(directions)} directions"
            )
        return self.objectives


def unlimited(pool: Pool) -> Mask:
    """Find all networks within the budgets, of which there are none."""
    return np.ones(len(pool), dtype=bool)


def within(pool: Pool, max_macs: int | None, max_params: int | None) -> Mask:
    """Say of each network whether its closed-form cost is within the limits."""
    fits = unlimited(pool)
    if max_macs is not None:
        fits &= pool.costs.macs <= max_macs
    if max_params is not None:
        fits &= pool.costs.params <= max_params
    return fits
