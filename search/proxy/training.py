"""Training a scaled variant on canvases, step by step; it can pause and go on bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effvit.config import ModelConfig
from search.proxy.digits import BACKGROUND, DIGITS, Canvases
from search.proxy.feed import as_input, batches
from search.proxy.network import ProxyNetwork, initialise
from search.proxy.recipe import ProxyRecipe
from search.proxy.scores import background_logit

BETAS: Final = (0.9, 0.99)
CLIP: Final = 1.0
BEGINNING_STEPS, BEGINNING_LOSS = 5, 0.5
"""See :class:`Beginning`."""


class ProxyFailed(RuntimeError):  # noqa: N818 - a state of a trial, named as one
    """A variant could not be trained: a loss that is no number, or not enough memory."""


Paused: TypeAlias = Mapping[str, Any]
"""What it takes to go on with a training, from :meth:`Training.pause`."""


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
            config: From :func:`search.proxy.scaling.proxy_config`.
            recipe: How; its steps are those of the whole training.
            seed: Of initial values and of canvases.
            paused: From :meth:`pause` of a training of the same arguments.
        """
        self._recipe = recipe
        self._seed = seed
        self.step = 0
        self.network = ProxyNetwork(config)
        initialise(self.network, seed)
        self._optimizer = adamw(self.network, recipe)
        self._beginning = Beginning(round(recipe.first_share * recipe.steps))
        if paused is not None:
            self.step = int(paused["step"])
            self.network.load_state_dict(paused["network"])
            self._optimizer.load_state_dict(paused["optimizer"])
            self._beginning.load(paused.get("beginning", {}))

    def pause(self) -> dict[str, Any]:
        """Return what it takes to go on; it shares memory with the training."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "beginning": self._beginning.pause(),
        }

    def advance(self, step: int) -> None:
        """Train until so many steps are done in all.

        Raises:
            ProxyFailed: The loss is no finite number.
        """
        self.network.train()
        recipe = self._recipe
        for part, chosen in itertools.islice(batches(recipe, self._seed), self.step, step):
            place = f"{self.step} of {recipe.steps}"
            first = self._beginning.goes_on(self.step)
            weight = recipe.first_recognition_weight if first else recipe.recognition_weight
            weights = Weights(recipe.label_smoothing, weight)
            rate = recipe.rate(self.step)
            relation = take_step(self.network, self._optimizer, rate, part, chosen, weights, place)
            self._beginning.saw(relation)
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


class Beginning:
    """The part of a training in which recognition weighs less, until the relation is found.

    Recognition is learned from the first step on, the relation after a plateau. More trainings
    leave it, and sooner, where recognition weighs less until then. The relation counts as found
    where its term, the mean of the last :data:`BEGINNING_STEPS` steps, is below
    :data:`BEGINNING_LOSS` nats; chance is 0.69.

    Args:
        limit: Steps that it lasts at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found = False
        self._last: deque[float] = deque(maxlen=BEGINNING_STEPS)

    def pause(self) -> dict[str, Any]:
        """Return what it takes to go on."""
        return {"found": self._found, "last": list(self._last)}

    def load(self, paused: Mapping[str, Any]) -> None:
        """Go on; a training that was paused by an older version had no such part."""
        self._found = bool(paused.get("found", True))
        self._last.extend(paused.get("last", ()))

    def goes_on(self, step: int) -> bool:
        """Whether a step, counted from 0, belongs to it."""
        return not self._found and step < self._limit

    def saw(self, relation: float) -> None:
        """Take in the relation term of a step."""
        self._last.append(relation)
        full = len(self._last) == BEGINNING_STEPS
        self._found = self._found or (full and bool(np.mean(self._last) < BEGINNING_LOSS))


@dataclasses.dataclass(frozen=True)
class Weights:
    """Of the terms of a step's loss; see :class:`LossWeights`."""

    label_smoothing: float
    recognition_weight: float


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
) -> float:
    """Go one step down the loss of some canvases.

    Args:
        network: What is trained.
        optimizer: Of all its parameters.
        rate: Learning rate.
        part: Canvases.
        chosen: Which of them.
        weights: Of the loss.
        place: Which step it is, for the error.

    Returns:
        The relation term, before the step.

    Raises:
        ProxyFailed: The loss is no finite number.
    """
    logits = network(as_input(part.images[chosen])).flatten(0, 1)
    relation, recognition = losses(logits, part, chosen, weights.label_smoothing)
    loss = relation + weights.recognition_weight * recognition
    descend(network, optimizer, rate, loss, place)
    return relation.item()


class Decayed(Protocol):
    """What a recipe says about the optimiser, besides its schedule."""

    @property
    def learning_rate(self) -> float:
        """Of AdamW, before the first step sets its own."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""


def adamw(network: nn.Module, recipe: Decayed) -> torch.optim.AdamW:
    """Make the optimiser of a network's parameters, which all of the proxy's tasks have."""
    return torch.optim.AdamW(
        network.parameters(),
        lr=recipe.learning_rate,
        betas=BETAS,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def descend(
    network: nn.Module, optimizer: torch.optim.Optimizer, rate: float, loss: Tensor, place: str
) -> None:
    """Go one step down a loss, with clipped gradients.

    Args:
        network: What is trained.
        optimizer: Of all its parameters.
        rate: Learning rate.
        loss: A scalar.
        place: Which step it is, for the error.

    Raises:
        ProxyFailed: The loss is no finite number.
    """
    if not math.isfinite(loss.item()):
        raise ProxyFailed(f"loss is {loss.item()} at step {place}")
    for group in optimizer.param_groups:
        group["lr"] = rate
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
        background_logit(logits)[scored], (targets[scored] == BACKGROUND).float()
    )
    recognition = F.cross_entropy(
        logits[:, :DIGITS][scored], classes[scored], label_smoothing=smoothing
    )
    return relation, recognition


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
