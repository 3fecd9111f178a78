"""The accuracy proxy: train a scaled variant on embedded digits for seconds, measure what it does.

One run trains the variant (:mod:`search.proxy_network`) on canvases (:mod:`search.digits`) whose
cells it must classify: which digit, if its colour is the cue's, else background. Two things are
learned at once, and reported apart. The *relation*, whether a cell matches the cue, needs windows
to communicate. The *recognition* of the digit does not. ``accuracy`` is the share of cells where
both are right; see :class:`ProxyResult`.

What makes short runs tell variants apart:

- Every cell is supervised, in two terms: match or not (binary cross entropy of background against
  all digits), and the digit's class in all cells, matching or not.
- Cues are filled blocks, in the first part of the training large ones: without that, whether a run
  finds the relation at all depends on the seed.
- All variants of one seed see the same canvases in the same order, and share the initial values of
  the tensors they share.
- The learning rate falls linearly to zero.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effvit.config import ConfigError, ModelConfig
from search.digits import (
    BACKGROUND,
    DIGITS,
    Canvases,
    Split,
    canvases,
    cue_distance,
    held_out_canvases,
)
from search.proxy_network import ProxyNetwork, initialise
from search.proxy_scaling import cells_meet, proxy_config

MAX_ATTEMPTS = 3
"""Runs of one evaluation, each with a seed of its own, until the relation is found."""

RELATION_FOUND = 0.6
"""Relation from which it counts as found. Chance is 0.5, and stuck runs stay within 0.05 of it."""

RUNG_SHARE = 1 / 4
"""Share of the evaluation's canvases that an unfinished training is measured on."""

_ATTEMPT_SEEDS = 7919  # seeds of later attempts: seed + attempt * this
_VALIDATION_SEED = 1
_TEST_SEED = 2
_EVALUATION_BATCH = 50
BETAS = (0.9, 0.99)
CLIP = 1.0
_FAR = 3  # cells from the cue; 3 x 3 convolutions of the last but one stage reach one or two
_PIXEL_MEAN, _PIXEL_SCALE = 30.0, 128.0  # about zero mean and unit deviation where there is ink


class ProxyFailed(RuntimeError):  # noqa: N818 - a state of a trial, named as one
    """A variant could not be trained: a loss that is no number, or not enough memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxyRecipe:
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
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    def rate(self, step: int) -> float:
        """Learning rate of a step (0 to ``steps - 1``)."""
        progress = (step + 0.5) / self.steps
        return self.learning_rate * trapezoid(progress, self.warm_up, self.warm_down)


def trapezoid(progress: float, warm_up: float, warm_down: float) -> float:
    """Share of the peak's learning rate: linear up, flat, linear down to zero.

    Args:
        progress: Of the training, 0 to 1.
        warm_up: Share of it in which the rate rises.
        warm_down: Share of it in which the rate falls.
    """
    return min(1.0, progress / warm_up, (1.0 - progress) / warm_down)


SEARCH = ProxyRecipe(name="search", steps=120)
"""For each trial of a search."""

FULL = ProxyRecipe(name="full", steps=200, batch=8, evaluation_canvases=400)
"""For the finalists, with several seeds."""

RECIPES: dict[str, ProxyRecipe] = {recipe.name: recipe for recipe in (SEARCH, FULL)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxyResult:
    """What a run measured, on cells of canvases with 2 x 2 cues.

    Attributes:
        accuracy: Share of cells with a right decision on match or background and, where the cell
            matches, the right digit. Knowing every digit but never the relation gives 0.5; knowing
            the relation but guessing digits gives 0.55.
        relation: Share of cells with a right decision on match or background; 0.5 is chance.
        recognition: Share of matching cells with the right digit, whatever the decision on match;
            0.1 is chance. Needs no communication between windows.
        relation_near, relation_far: The relation of cells beside the cue, and of those three or
            more cells away from it: what neighbours hand on, and what has to come from afar.
        relation_found: Whether the relation was found, see :data:`RELATION_FOUND`.
        recipe: Name of the recipe.
        steps: Optimiser steps of each attempt.
        seed: Seed that was asked for.
        attempts: Runs that it took; more than one where the relation was not found before. The
            best of them is reported.
        seconds: Wall time of all attempts, composition of canvases included. Not compared.
    """

    accuracy: float
    relation: float
    recognition: float
    relation_near: float
    relation_far: float
    relation_found: bool
    recipe: str
    steps: int
    seed: int
    attempts: int
    seconds: float = dataclasses.field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)


Paused: TypeAlias = Mapping[str, Any]
"""What it takes to go on with a training, from :meth:`Training.pause`."""


def evaluate(
    config: ModelConfig,
    recipe: ProxyRecipe = SEARCH,
    seed: int = 0,
    *,
    threads: int = 1,
    paused: Paused | None = None,
) -> ProxyResult:
    """Train a variant and measure it on canvases of the validation digits.

    The same arguments give the same result, bit for bit, on one machine. Where the relation is not
    found although the variant can communicate between windows, training is repeated with another
    seed, at most :data:`MAX_ATTEMPTS` times in all.

    Args:
        config: The variant at its design resolution; it is scaled by
            :func:`search.proxy_scaling.proxy_config`.
        recipe: How to train.
        seed: Of initial values and of canvases.
        threads: CPU threads.
        paused: From :func:`evaluate_rung` of the same variant, recipe and seed; it saves time.

    Raises:
        ConfigError: The variant's family has no scaling rule, or a scaled value breaks a rule.
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    return train_and_measure(config, recipe, seed, threads, paused)[0]


def evaluate_rung(
    config: ModelConfig,
    recipe: ProxyRecipe,
    seed: int,
    steps: int,
    paused: Paused | None = None,
    *,
    threads: int = 1,
) -> tuple[ProxyResult, Paused]:
    """Train a variant in part, and measure it on :data:`RUNG_SHARE` of the canvases.

    Arguments and errors as for :func:`evaluate`, besides ``steps``, where to pause; the recipe's
    are those of the whole training, and ``paused`` is from an earlier rung.

    Returns:
        What was measured, and what it takes to go on.
    """
    started = time.perf_counter()
    with torch_threads(threads), memory_errors():
        training = Training(proxy_config(config), recipe, seed, paused)
        training.advance(steps)
        scores = measure(training.network, validation_canvases(recipe, RUNG_SHARE))
    result = _result(scores, dataclasses.replace(recipe, steps=steps), seed, 1, started)
    return result, training.pause()


def evaluate_test(
    config: ModelConfig, recipe: ProxyRecipe = FULL, seed: int = 0, *, threads: int = 1
) -> tuple[ProxyResult, ProxyResult]:
    """Train a variant and measure it on validation and test digits: once, for the final report.

    Arguments and errors as for :func:`evaluate`.

    Returns:
        What :func:`evaluate` returns, and the same network measured on the test digits. Among
        repeated attempts the validation digits choose.
    """
    started = time.perf_counter()
    result, network = train_and_measure(config, recipe, seed, threads)
    held_out = held_out_canvases(recipe.evaluation_canvases, _TEST_SEED)
    with torch_threads(threads):
        scores = measure(network, held_out)
    return result, dataclasses.replace(
        result, **dataclasses.asdict(scores), seconds=time.perf_counter() - started
    )


@dataclasses.dataclass(frozen=True)
class Scores:
    """Shares of cells, as in :class:`ProxyResult`."""

    accuracy: float
    relation: float
    recognition: float
    relation_near: float
    relation_far: float


def train_and_measure(
    config: ModelConfig,
    recipe: ProxyRecipe,
    seed: int,
    threads: int,
    paused: Paused | None = None,
) -> tuple[ProxyResult, ProxyNetwork]:
    """Train, again with another seed while the relation is not found; keep the best.

    Arguments and errors as for :func:`evaluate`.
    """
    started = time.perf_counter()
    scaled = proxy_config(config)
    limit = MAX_ATTEMPTS if cells_meet(scaled) else 1
    validation = validation_canvases(recipe)
    tried: list[tuple[Scores, ProxyNetwork]] = []
    with torch_threads(threads), memory_errors():
        for attempt in range(limit):
            begun = paused if attempt == 0 else None
            network = train(scaled, recipe, seed + attempt * _ATTEMPT_SEEDS, begun)
            tried.append((measure(network, validation), network))
            if tried[-1][0].relation >= RELATION_FOUND:
                break
    scores, network = max(tried, key=lambda pair: pair[0].accuracy)
    return _result(scores, recipe, seed, len(tried), started), network


def _result(
    scores: Scores, recipe: ProxyRecipe, seed: int, attempts: int, started: float
) -> ProxyResult:
    return ProxyResult(
        **dataclasses.asdict(scores),
        relation_found=scores.relation >= RELATION_FOUND,
        recipe=recipe.name,
        steps=recipe.steps,
        seed=seed,
        attempts=attempts,
        seconds=time.perf_counter() - started,
    )


# --- data ---------------------------------------------------------------------------------------


def validation_canvases(recipe: ProxyRecipe, share: float = 1.0) -> Canvases:
    """Compose the canvases measured on, or the first of them: the last few are kept in memory."""
    return _validation_canvases(max(1, round(recipe.evaluation_canvases * share)))


@functools.lru_cache(maxsize=2)
def _validation_canvases(count: int) -> Canvases:
    return canvases(Split.VALIDATION, count, _VALIDATION_SEED)


def training_canvases(recipe: ProxyRecipe, seed: int) -> tuple[Canvases, Canvases]:
    """Compose the canvases of the two parts of a training; the last few are kept in memory."""
    total = min(recipe.steps * recipe.batch, recipe.distinct_canvases)
    first = max(1, min(total - 1, round(total * recipe.first_share)))
    return _training_canvases(seed, first, total - first, recipe.first_cues, recipe.later_cues)


@functools.lru_cache(maxsize=2)
def _training_canvases(
    seed: int, first: int, later: int, first_cues: tuple[int, ...], later_cues: tuple[int, ...]
) -> tuple[Canvases, Canvases]:
    return (
        canvases(Split.TRAIN, first, 2 * seed, cue_sides=first_cues),
        canvases(Split.TRAIN, max(1, later), 2 * seed + 1, cue_sides=later_cues),
    )


def batches(recipe: ProxyRecipe, seed: int) -> Iterator[tuple[Canvases, np.ndarray[Any, Any]]]:
    """Canvases and which of them, step by step: each part in random order, again and again."""
    rng = np.random.default_rng((seed, 3))
    switch = round(recipe.steps * recipe.first_share)
    parts = zip(training_canvases(recipe, seed), (switch, recipe.steps - switch), strict=True)
    for part, steps in parts:
        needed = steps * recipe.batch
        rounds = max(1, math.ceil(needed / len(part)))
        order = np.concatenate([rng.permutation(len(part)) for _ in range(rounds)])
        for step in range(steps):
            yield part, order[step * recipe.batch : (step + 1) * recipe.batch]


def as_input(images: np.ndarray[Any, Any]) -> Tensor:
    """Turn images (B, 96, 96, 3) from 0 to 255 into (B, 3, 96, 96), stored channels last."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return pixels.sub_(_PIXEL_MEAN).div_(_PIXEL_SCALE)


# --- training -----------------------------------------------------------------------------------


class Training:
    """A training that can pause after any step and go on, in another process as well.

    It goes on bit for bit: weights, buffers and the optimiser's state are kept, the learning rate
    and the canvases of a step follow from its number.

    Attributes:
        network: The network as trained so far.
        step: Steps done.
    """

    def __init__(
        self,
        config: ModelConfig,
        recipe: ProxyRecipe,
        seed: int,
        paused: Paused | None = None,
    ) -> None:
        """Begin, or go on.

        Args:
            config: From :func:`search.proxy_scaling.proxy_config`.
            recipe: How; its steps are those of the whole training.
            seed: Of initial values and of canvases.
            paused: From :meth:`pause` of a training of the same arguments.
        """
        self._recipe = recipe
        self._seed = seed
        self.step = 0
        self.network = ProxyNetwork(config)
        initialise(self.network, seed)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=recipe.learning_rate,
            betas=BETAS,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        if paused is not None:
            self.step = int(paused["step"])
            self.network.load_state_dict(paused["network"])
            self._optimizer.load_state_dict(paused["optimizer"])

    def pause(self) -> dict[str, Any]:
        """Return what it takes to go on; it shares memory with the training."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def advance(self, step: int) -> None:
        """Train until so many steps are done in all.

        Raises:
            ProxyFailed: The loss is no finite number.
        """
        self.network.train()
        recipe = self._recipe
        for part, chosen in itertools.islice(batches(recipe, self._seed), self.step, step):
            take_step(
                self.network,
                self._optimizer,
                recipe.rate(self.step),
                part,
                chosen,
                recipe,
                f"{self.step} of {recipe.steps}",
            )
            self.step += 1


def train(
    config: ModelConfig, recipe: ProxyRecipe, seed: int, paused: Paused | None = None
) -> ProxyNetwork:
    """Train a scaled variant to the end; arguments as for :class:`Training`.

    Raises:
        ProxyFailed: The loss is no finite number.
    """
    training = Training(config, recipe, seed, paused)
    training.advance(recipe.steps)
    return training.network


class LossWeights(Protocol):
    """What a recipe says about the loss."""

    @property
    def label_smoothing(self) -> float:
        """Of the digit's class."""

    @property
    def recognition_weight(self) -> float:
        """Weight of the recognition term; the relation term has 1."""


def take_step(
    network: ProxyNetwork,
    optimizer: torch.optim.Optimizer,
    rate: float,
    part: Canvases,
    chosen: np.ndarray[Any, Any],
    weights: LossWeights,
    place: str,
) -> None:
    """Go one step down the loss of some canvases.

    Args:
        network: What is trained.
        optimizer: Of all its parameters.
        rate: Learning rate.
        part: Canvases.
        chosen: Which of them.
        weights: Of the loss.
        place: Which step it is, for the error.

    Raises:
        ProxyFailed: The loss is no finite number.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    logits = network(as_input(part.images[chosen])).flatten(0, 1)
    relation, recognition = losses(logits, part, chosen, weights.label_smoothing)
    loss = relation + weights.recognition_weight * recognition
    if not math.isfinite(loss.item()):
        raise ProxyFailed(f"loss is {loss.item()} at step {place}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()


def losses(
    logits: Tensor, part: Canvases, chosen: np.ndarray[Any, Any], smoothing: float
) -> tuple[Tensor, Tensor]:
    """Relation and recognition terms for logits (B * 36, 11)."""
    targets = torch.from_numpy(part.targets[chosen]).flatten()
    classes = torch.from_numpy(part.classes[chosen]).flatten()
    scored = targets >= 0
    relation = F.binary_cross_entropy_with_logits(
        _background_logit(logits)[scored], (targets[scored] == BACKGROUND).float()
    )
    recognition = F.cross_entropy(
        logits[:, :DIGITS][scored], classes[scored], label_smoothing=smoothing
    )
    return relation, recognition


def _background_logit(logits: Tensor) -> Tensor:
    """Log odds of background against all digits, for logits (..., 11)."""
    return logits[..., BACKGROUND] - logits[..., :DIGITS].logsumexp(-1)


def measure(network: ProxyNetwork, measured_on: Canvases) -> Scores:
    """Share of right decisions over all scored cells."""
    return scores_of(predict(network, measured_on), measured_on)


@torch.inference_mode()
def predict(network: ProxyNetwork, of: Canvases) -> Tensor:
    """Logits of all cells (n * 36, 11)."""
    network.eval()
    starts = range(0, len(of), _EVALUATION_BATCH)
    parts = [network(as_input(of.images[start : start + _EVALUATION_BATCH])) for start in starts]
    return torch.cat(parts).flatten(0, 1)


def scores_of(logits: Tensor, of: Canvases) -> Scores:
    """Share of right decisions, given the logits of all cells (n * 36, 11)."""
    decisions = _decisions(logits, of.targets)
    return Scores(**{name: float(right.double().mean()) for name, right in decisions.items()})


def _decisions(logits: Tensor, of: np.ndarray[Any, Any]) -> dict[str, Tensor]:
    """Whether each decision is right, by the field of :class:`Scores` that is their share.

    Args:
        logits: (B * 36, 11).
        of: Targets of the cells (B, 36).
    """
    targets, distance = (torch.from_numpy(x).flatten() for x in (of, cue_distance(of)))
    background = targets == BACKGROUND
    relation = (_background_logit(logits) > 0) == background
    digit = logits[:, :DIGITS].argmax(1) == targets
    scored = targets >= 0
    return {
        "accuracy": (relation & (background | digit))[scored],
        "relation": relation[scored],
        "recognition": digit[scored & ~background],
        "relation_near": relation[distance == 1],
        "relation_far": relation[distance >= _FAR],
    }


# --- surroundings -------------------------------------------------------------------------------


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch on so many CPU threads, then on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn the ways in which memory runs out into :class:`ProxyFailed`."""
    try:
        yield
    except MemoryError as error:
        raise ProxyFailed("out of memory") from error
    except RuntimeError as error:
        text = str(error).lower()
        if "out of memory" not in text and "can't allocate memory" not in text:
            raise
        raise ProxyFailed("out of memory") from error
