"""A second task for the proxy: which of two cues counts depends on where a cell is.

A variant is trained on the cue task as a trial is (:mod:`search.proxy.evaluation`), then on from
there on the halves task (:mod:`search.proxy.digits`): each half of the canvas has a cue of its own,
and a cell must match the cue of the *other* half. Digests of windows that are alike for all
positions (a pooled token, a fixed one) can tell that two cues disagree, but hardly hand each to the
half that needs it; that takes *routing*, by position or content. Learned window tokens are made for
it, so read this as "what can this network route within this budget", not as a forecast of accuracy
on images.

The cue task comes first because the halves task alone is a plateau: whether a short run leaves it
depends on the seed. What was learned there, that colours have to match, is kept alive by a share of
its canvases in every batch.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effvit.config import ConfigError, ModelConfig
from search.proxy.digits import Canvases, Split, Task, canvases
from search.proxy.evaluation import train_and_measure
from search.proxy.feed import validation_canvases
from search.proxy.network import ProxyNetwork
from search.proxy.recipe import SEARCH, ProxyRecipe, Scheduled
from search.proxy.scores import Scores, measure
from search.proxy.training import adamw, memory_errors, take_step, torch_threads

_SEEDS = 1_000_003  # canvases of this task are none of the cue task's of any usual seed
_VALIDATION_SEED = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoutingRecipe(Scheduled):
    """How a variant is trained on the halves task, and measured.

    Attributes:
        name: Name in records.
        cue: How it is trained on the cue task before; that may take several attempts.
        steps: Optimiser steps on the halves task.
        batch: Canvases a step.
        kept: Of these, canvases of the cue task.
        learning_rate: Peak of AdamW's learning rate.
        weight_decay: AdamW's weight decay.
        warm_up, warm_down: Shares of the steps in which the learning rate rises and falls.
        label_smoothing: Of the digit's class.
        recognition_weight: Weight of the recognition term; the relation term has 1.
        evaluation_canvases: Canvases measured on.
    """

    name: str = "routing"
    cue: ProxyRecipe = SEARCH
    steps: int = 100
    batch: int = 8
    kept: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.08
    warm_down: float = 0.4
    label_smoothing: float = 0.1
    recognition_weight: float = 1.0
    evaluation_canvases: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "evaluation_canvases"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.kept < self.batch:
            raise ConfigError(
                f"kept must be between 0 and batch {self.batch}, got {self.kept} "
                f"(nearest valid: {min(max(1, self.kept), self.batch - 1)})"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)


ROUTING = RoutingRecipe()
"""For ablations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoutingResult:
    """What a training on both tasks measured, on canvases of the validation digits.

    Attributes:
        routing: Share of cells with a right decision on match or background where the two cues
            disagree. Chance is 0.5; so is heeding both cues alike, and heeding one's own gives 0.
        relation: The same on the cue task, after both trainings.
        relation_before: The same before the halves task.
        recognition: Share of matching cells with the right digit, on canvases with two cues.
        recipe: Name of the recipe.
        steps: Optimiser steps on the halves task.
        seed: Seed that was asked for.
        attempts: Trainings on the cue task that it took.
        seconds: Wall time of everything. Not compared.
    """

    routing: float
    relation: float
    relation_before: float
    recognition: float
    recipe: str
    steps: int
    seed: int
    attempts: int
    seconds: float = dataclasses.field(compare=False)


def evaluate_routing(
    config: ModelConfig, recipe: RoutingRecipe = ROUTING, seed: int = 0, *, threads: int = 1
) -> RoutingResult:
    """Train a variant on the cue task, then on the halves task, and measure it.

    The same arguments give the same result, bit for bit, on one machine.

    Args:
        config: The variant at its design resolution, scaled as the proxy scales it.
        recipe: How to train.
        seed: Of initial values and of canvases.
        threads: CPU threads.

    Raises:
        ConfigError: The variant's family has no scaling rule, or a scaled value breaks a rule.
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    started = time.perf_counter()
    before, network = train_and_measure(config, recipe.cue, seed, threads)
    after = go_on(network, recipe, seed, threads=threads)
    with torch_threads(threads):
        cue = measure(network, validation_canvases(recipe.cue))
    return RoutingResult(
        routing=after.relation,
        relation=cue.relation,
        relation_before=before.relation,
        recognition=after.recognition,
        recipe=recipe.name,
        steps=recipe.steps,
        seed=seed,
        attempts=before.attempts,
        seconds=time.perf_counter() - started,
    )


def go_on(
    network: ProxyNetwork, recipe: RoutingRecipe, seed: int = 0, *, threads: int = 1
) -> Scores:
    """Train a network that has learned the cue task on the halves task, and measure it there.

    Args:
        network: It is changed.
        recipe: How to train.
        seed: Of canvases.
        threads: CPU threads.

    Raises:
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    with torch_threads(threads), memory_errors():
        _train_on(network, recipe, seed)
        return measure(network, routing_canvases(recipe.evaluation_canvases))


@functools.lru_cache(maxsize=1)
def routing_canvases(count: int) -> Canvases:
    """Compose what is measured on: the same for all variants, hence kept."""
    return canvases(Split.VALIDATION, count, _VALIDATION_SEED, task=Task.HALVES)


def _train_on(network: ProxyNetwork, recipe: RoutingRecipe, seed: int) -> None:
    """Train on the halves task, with a fresh optimiser.

    Raises:
        ProxyFailed: The loss is no finite number.
    """
    optimizer = adamw(network, recipe)
    network.train()
    for step, (part, chosen) in enumerate(routing_batches(recipe, seed)):
        take_step(
            network, optimizer, recipe.rate(step), part, chosen, recipe, f"{step} of {recipe.steps}"
        )


def routing_batches(
    recipe: RoutingRecipe, seed: int
) -> Iterator[tuple[Canvases, NDArray[np.int64]]]:
    """Canvases and which of them, step by step; those of the cue task come last."""
    part = _training(recipe, seed)
    halves = recipe.batch - recipe.kept
    first_kept = halves * recipe.steps
    for step in range(recipe.steps):
        yield (
            part,
            np.concatenate(
                [
                    np.arange(step * halves, (step + 1) * halves),
                    first_kept + np.arange(step * recipe.kept, (step + 1) * recipe.kept),
                ]
            ),
        )


def _training(recipe: RoutingRecipe, seed: int) -> Canvases:
    """All canvases of a training, each seen once: those of the halves task, then those kept."""
    halves, kept = (recipe.batch - recipe.kept) * recipe.steps, recipe.kept * recipe.steps
    parts = (
        canvases(Split.TRAIN, halves, _SEEDS + 2 * seed, task=Task.HALVES),
        canvases(Split.TRAIN, kept, _SEEDS + 2 * seed + 1),
    )
    return Canvases(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Canvases)
        )
    )
