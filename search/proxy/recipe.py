"""How the proxy trains: a search's recipe and the finalists'."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from effvit.config import ConfigError


class Schedule(Protocol):
    """Steps, and how the learning rate goes over them; see :class:`ProxyRecipe`."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""

    @property
    def learning_rate(self) -> float:
        """The peak."""

    @property
    def warm_up(self) -> float:
        """Share of the steps in which it rises."""

    @property
    def warm_down(self) -> float:
        """Share of the steps in which it falls."""


class Scheduled:
    """A recipe with a schedule."""

    def rate(self: Schedule, step: int) -> float:
        """Learning rate of a step (0 to ``steps - 1``)."""
        progress = (step + 0.5) / self.steps
        return self.learning_rate * trapezoid(progress, self.warm_up, self.warm_down)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxyRecipe(Scheduled):
    """How the proxy trains and measures.

    Attributes:
        name: Name in records.
        steps: Optimiser steps.
        batch: Canvases a step.
        learning_rate: Peak of AdamW's learning rate.
        weight_decay: AdamW's weight decay.
        warm_up: Share of the steps in which the learning rate rises linearly.
        warm_down: Share of the steps in which it falls linearly to zero, at the end.
        label_smoothing: Of the digit's class.
        recognition_weight: Weight of the recognition term; the relation term has 1.
        first_recognition_weight: The same until the relation is found, or the first part is over.
            See :class:`search.proxy.training.Beginning`.
        retry_recognition_weight: The same of trainings that are repeated since the relation was
            not found; see :meth:`repeated`.
        first_cues: Sides in cells of the cues in the first part of the training.
        first_share: That part, as a share of the canvases.
        later_cues: Sides of the cues after that. Evaluation always has 2.
        distinct_canvases: Training canvases composed at most; longer runs see some again.
        evaluation_canvases: Canvases measured on.
    """

    name: str
    steps: int
    batch: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warm_up: float = 0.08
    warm_down: float = 0.4
    label_smoothing: float = 0.1
    recognition_weight: float = 1.0
    first_recognition_weight: float = 1.0
    retry_recognition_weight: float = 1.0
    first_cues: tuple[int, ...] = (4,)
    first_share: float = 0.5
    later_cues: tuple[int, ...] = (2, 3)
    distinct_canvases: int = 3200
    evaluation_canvases: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "distinct_canvases", "evaluation_canvases"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warm_up", "warm_down", "first_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        for name in ("first_recognition_weight", "retry_recognition_weight"):
            if not getattr(self, name) >= 0:
                value = getattr(self, name)
                raise ConfigError(f"{name} must be 0 or more, got {value} (nearest valid: 0)")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    def repeated(self) -> ProxyRecipe:
        """The recipe of a training that is repeated: it begins with the relation."""
        weight = self.retry_recognition_weight
        return dataclasses.replace(self, first_recognition_weight=weight)


def trapezoid(progress: float, warm_up: float, warm_down: float) -> float:
    """Share of the peak's learning rate: linear up, flat, linear down to zero.

    Args:
        progress: Of the training, 0 to 1.
        warm_up: Share of it in which the rate rises.
        warm_down: Share of it in which the rate falls.
    """
    return min(1.0, progress / warm_up, (1.0 - progress) / warm_down)


RELATION_FIRST = 0.2
"""Weight of recognition, until the relation is found, in trainings that are repeated.

With 1, recognition, which is learned from the first step on, keeps some from the relation, and
which ones is the seed's doing more than the variant's. Trained with less from the start on, all
variants find it, but it costs steps of recognition, and short trainings then rank variants worse:
hence only repeated trainings have it."""

SEARCH = ProxyRecipe(name="search", steps=120, retry_recognition_weight=RELATION_FIRST)
"""For each trial of a search."""

FULL = ProxyRecipe(
    name="full",
    steps=200,
    batch=8,
    retry_recognition_weight=RELATION_FIRST,
    evaluation_canvases=400,
)
"""For the finalists, with several seeds."""

RECIPES: dict[str, ProxyRecipe] = {recipe.name: recipe for recipe in (SEARCH, FULL)}
