"""Two further tasks of the proxy: where the cue is, and what texture a cell has.

A variant is trained on the cue task as a trial is (:mod:`search.proxy.evaluation`), gets fresh
readings, and is trained on. What it learned may help or be in the way, as with a pre-trained
backbone; what is measured is how far it comes within the budget.

- *Localisation*: every cell tells how many rows and columns away the cue lies. Like the relation it
  asks cells to hear from afar, but for a place instead of one bit.
- *Texture*: every cell tells which grating it shows (:mod:`search.proxy.textures`). No cell needs
  another.

``python -m experiments.run proxy_tasks`` says what each task sees of a network, ``task_audit`` how
well the mean of some of them ranks variants.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from effvit.config import ConfigError, ModelConfig
from search.proxy.digits import CELLS, GRID, IGNORED, Canvases, Split, canvases
from search.proxy.evaluation import ProxyResult, train_and_measure
from search.proxy.feed import as_input
from search.proxy.network import ProxyNetwork, draw
from search.proxy.recipe import ProxyRecipe, Scheduled
from search.proxy.routing import ROUTING as ROUTING_RECIPE
from search.proxy.routing import RoutingRecipe, go_on
from search.proxy.tasks import CUE, LOCALISATION, ROUTING, TASKS, TEXTURE
from search.proxy.textures import CLASSES as TEXTURES
from search.proxy.textures import textures
from search.proxy.training import adamw, descend, memory_errors, torch_threads

_SEEDS = 2_000_003  # canvases of these tasks are none of the other tasks' of any usual seed
_VALIDATION_SEED = 1
_EVALUATION_BATCH = 50
_OFFSETS = 2 * GRID - 1  # from five rows above to five below


class TransferTask(enum.Enum):
    """A task that is learned after the cue task."""

    LOCALISATION = LOCALISATION
    TEXTURE = TEXTURE


@dataclasses.dataclass(frozen=True)
class Examples:
    """Canvases with questions about each cell.

    Attributes:
        images: (n, 96, 96, 3) intensities from 0 to 255.
        answers: (n, 36, questions), each from 0 to ``choices - 1``; ``IGNORED`` is not scored.
        choices: How many answers each question has.
    """

    images: NDArray[np.uint8]
    answers: NDArray[np.int64]
    choices: int


def examples(task: TransferTask, split: Split, count: int, seed: int) -> Examples:
    """Compose canvases of a task; the same seed gives the same, bit for bit."""
    if task is TransferTask.TEXTURE:
        return texture_examples(*textures(split, count, seed))
    return localisation_examples(canvases(split, count, seed))


def localisation_examples(part: Canvases) -> Examples:
    """Ask of canvases with one cue where it is."""
    return Examples(part.images, _offsets(part.targets), _OFFSETS)


def texture_examples(images: NDArray[np.uint8], classes: NDArray[np.int64]) -> Examples:
    """Ask of canvases of textures, (n, 96, 96, 3) and (n, 36), which one a cell shows."""
    return Examples(images, classes[..., None], TEXTURES)


def _offsets(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows and columns from each cell to the cue's first cell, counted from 0, (n, 36, 2)."""
    cue = targets == IGNORED
    first = cue.argmax(1)
    rows, columns = (place[:, None] for place in np.divmod(first, GRID))
    down, across = np.divmod(np.arange(CELLS), GRID)
    offsets = np.stack([rows - down, columns - across], axis=-1) + GRID - 1
    offsets[cue] = IGNORED
    return offsets


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferRecipe(Scheduled):
    """How a variant is trained on further tasks, each from where the cue task ended.

    Attributes:
        name: Name in records.
        routing: How it is trained on the cue task before, and on the routing task beside these.
        steps: Optimiser steps on each task.
        batch: Canvases a step.
        learning_rate: Peak of AdamW's learning rate.
        weight_decay: AdamW's weight decay.
        warm_up, warm_down: Shares of the steps in which the learning rate rises and falls.
        label_smoothing: Of every answer.
        evaluation_canvases: Canvases measured on.
    """

    name: str = "transfer"
    routing: RoutingRecipe = ROUTING_RECIPE
    steps: int = 60
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.08
    warm_down: float = 0.4
    label_smoothing: float = 0.1
    evaluation_canvases: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluation_canvases"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")

    @classmethod
    def following(cls, cue: ProxyRecipe) -> TransferRecipe:
        """In the proportions of :data:`TRANSFER` to a search's training on the cue task."""
        longer = cue.steps / TRANSFER.routing.cue.steps
        more = cue.evaluation_canvases / TRANSFER.routing.cue.evaluation_canvases

        def scaled(count: int, factor: float) -> int:
            return max(1, round(count * factor))

        routing = dataclasses.replace(
            TRANSFER.routing,
            name=cue.name,
            cue=cue,
            steps=scaled(TRANSFER.routing.steps, longer),
            evaluation_canvases=scaled(TRANSFER.routing.evaluation_canvases, more),
        )
        return dataclasses.replace(
            TRANSFER,
            name=cue.name,
            routing=routing,
            steps=scaled(TRANSFER.steps, longer),
            evaluation_canvases=scaled(TRANSFER.evaluation_canvases, more),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)


TRANSFER = TransferRecipe()


def work(cue: ProxyRecipe, tasks: Sequence[str]) -> float:
    """Canvases that a training on some tasks sees, as a multiple of those of the cue task."""
    further = TransferRecipe.following(cue)
    other = further.steps * further.batch
    seen = {
        CUE: cue.steps * cue.batch,
        ROUTING: further.routing.steps * further.routing.batch,
        LOCALISATION: other,
        TEXTURE: other,
    }
    return sum(seen[task] for task in tasks) / seen[CUE]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferResult:
    """What a variant learned of all tasks.

    Attributes:
        cue: Of the cue task, before the others.
        routing: See :class:`search.proxy.routing.RoutingResult`.
        localisation: Share of cells with both the right row and column of the cue.
        texture: Share of cells with the right texture; chance is 0.1. These three are None where
            the task was not learned.
        recipe: Name of the recipe.
        seconds: Wall time of everything. Not compared.
    """

    cue: ProxyResult
    routing: float | None = None
    localisation: float | None = None
    texture: float | None = None
    recipe: str
    seconds: float = dataclasses.field(compare=False)


def evaluate_transfer(
    config: ModelConfig,
    recipe: TransferRecipe = TRANSFER,
    seed: int = 0,
    tasks: Sequence[str] = TASKS,
    *,
    threads: int = 1,
) -> TransferResult:
    """Train a variant on the cue task, then from there on other tasks, and measure it.

    The same arguments give the same result, bit for bit, on one machine.

    Args:
        config: The variant at its design resolution, scaled as the proxy scales it.
        recipe: How to train.
        seed: Of initial values and of canvases.
        tasks: Which, the cue task first.
        threads: CPU threads.

    Raises:
        ConfigError: The variant's family has no scaling rule, or a scaled value breaks a rule.
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    started = time.perf_counter()
    cue, network = train_and_measure(config, recipe.routing.cue, seed, threads)
    further = learn_all(network, tasks[1:], recipe, seed, threads=threads)
    return TransferResult(
        cue=cue, **further, recipe=recipe.name, seconds=time.perf_counter() - started
    )


def learn_all(
    network: ProxyNetwork,
    tasks: Sequence[str],
    recipe: TransferRecipe,
    seed: int,
    *,
    threads: int = 1,
) -> dict[str, float]:
    """As :func:`learn`, on several tasks, on each from where the network is now; it stays so."""
    return {
        task: learn(copy.deepcopy(network), task, recipe, seed, threads=threads) for task in tasks
    }


def learn(
    network: ProxyNetwork, task: str, recipe: TransferRecipe, seed: int, *, threads: int = 1
) -> float:
    """Train a network on one of the further tasks; return its share of right validation cells.

    Args:
        network: From the cue task; it is changed.
        task: Its name, of :data:`search.proxy.tasks.TASKS`.
        recipe: How to train.
        seed: Of canvases, and of the readings' initial values.
        threads: CPU threads.

    Raises:
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    if task == ROUTING:
        return go_on(network, recipe.routing, seed, threads=threads).relation
    with torch_threads(threads), memory_errors():
        return transfer(network, TransferTask(task), recipe, seed)


def transfer(network: ProxyNetwork, task: TransferTask, recipe: TransferRecipe, seed: int) -> float:
    """Train a network on a further task; return the share of validation cells it gets right.

    Args:
        network: From the cue task; it is changed.
        task: The task.
        recipe: How to train.
        seed: Of the readings' initial values and of canvases.

    Raises:
        ProxyFailed: The loss is no finite number.
    """
    part = examples(task, Split.TRAIN, recipe.steps * recipe.batch, _SEEDS + seed)
    measured_on = _validation(task, recipe.evaluation_canvases)
    replace_readings(network, part.answers.shape[-1] * part.choices, seed)
    _train(network, part, recipe)
    return share_right(network, measured_on)


@functools.lru_cache(maxsize=len(TransferTask))
def _validation(task: TransferTask, count: int) -> Examples:
    """What a task is measured on: the same for all variants, hence kept."""
    return examples(task, Split.VALIDATION, count, _VALIDATION_SEED)


def replace_readings(network: ProxyNetwork, outputs: int, seed: int) -> None:
    """Give a network's head fresh readings, of another number of outputs."""
    network.readings = nn.ModuleList(
        nn.Linear(reading.in_features, outputs)
        for reading in network.readings
        if isinstance(reading, nn.Linear)
    )
    for name, tensor in network.readings.named_parameters():
        if tensor.ndim > 1:
            draw(f"{name} {outputs}", tensor, seed)
        else:
            nn.init.zeros_(tensor)


def _train(network: ProxyNetwork, part: Examples, recipe: TransferRecipe) -> None:
    optimizer = adamw(network, recipe)
    network.train()
    for step in range(recipe.steps):
        chosen = slice(step * recipe.batch, (step + 1) * recipe.batch)
        loss = F.cross_entropy(
            _answer_logits(network, part, chosen).flatten(0, -2),
            torch.from_numpy(part.answers[chosen]).flatten(),
            ignore_index=IGNORED,
            label_smoothing=recipe.label_smoothing,
        )
        descend(network, optimizer, recipe.rate(step), loss, f"{step} of {recipe.steps}")


def _answer_logits(network: ProxyNetwork, of: Examples, chosen: slice) -> Tensor:
    """(canvases, 36, questions, choices)."""
    logits: Tensor = network(as_input(of.images[chosen])).unflatten(-1, (-1, of.choices))
    return logits


@torch.inference_mode()
def share_right(network: ProxyNetwork, of: Examples) -> float:
    """Share of scored cells all of whose questions are answered rightly."""
    network.eval()
    starts = range(0, len(of.images), _EVALUATION_BATCH)
    chosen = [slice(start, start + _EVALUATION_BATCH) for start in starts]
    given = torch.cat([_answer_logits(network, of, part).argmax(-1) for part in chosen])
    answers = torch.from_numpy(of.answers)
    scored = (answers != IGNORED).all(-1)
    return float((given == answers).all(-1)[scored].double().mean())
