"""What a variant is worth with the weights that it inherits: no training of its own."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from effvit.config import ModelConfig
from search.proxy.feed import as_input, training_canvases, validation_canvases
from search.proxy.network import ProxyNetwork
from search.proxy.routing import routing_batches, routing_canvases
from search.proxy.scaling import proxy_config
from search.proxy.scores import Scores, measure, predict, scores_of
from search.proxy.training import losses, torch_threads
from search.supernet.training import SupernetRecipe, Trained, parts

CANVASES = 100
"""Validation canvases that a variant is measured on: a hundred or so milliseconds."""

CALIBRATION = 48
"""Training canvases from which batch norms collect their statistics."""


STEP = 3
"""Work of a training step, as a multiple of the forward pass alone."""


def equivalent_steps(tasks: int, batch: int) -> int:
    """Training steps that are about as much work as measuring a variant.

    Args:
        tasks: How many it is measured on.
        batch: Canvases of such a step.
    """
    return max(1, round(tasks * CANVASES / (STEP * batch)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inherited:
    """A variant measured with inherited weights. For ranking only: no accuracy of its own.

    Attributes:
        scores: Shares of right decisions, see :class:`search.proxy.ProxyResult`.
        routing: Share of cells with a right decision on the routing task, see
            :class:`search.proxy.routing.RoutingResult`; None where the supernet did not learn it.
        cross_entropy: Mean loss of a scored cell, relation and recognition together, in nats; finer
            than shares where many variants have nearly the same.
        trained_share: Share of the variant's weights that the supernet trained at all.
        seconds: Wall time. Not compared.
    """

    scores: Scores
    routing: float | None = None
    cross_entropy: float
    trained_share: float
    seconds: float = dataclasses.field(compare=False)


def inherit(
    config: ModelConfig,
    trained: Trained,
    recipe: SupernetRecipe,
    seed: int,
    *,
    canvases: int = CANVASES,
    threads: int = 1,
) -> Inherited:
    """Measure a variant with its slice of the shared weights, on validation canvases.

    Args:
        config: The variant at its design resolution.
        trained: The supernet.
        recipe: How the supernet was trained; its canvases calibrate batch norms.
        seed: That of the supernet's training.
        canvases: Validation canvases.
        threads: CPU threads.

    Raises:
        ConfigError: The variant is none of the supernet's space.
    """
    started = time.perf_counter()
    scaled = proxy_config(config)
    cue, routing = parts(recipe)
    network = trained.weights.network(scaled)
    measured_on = validation_canvases(dataclasses.replace(cue, evaluation_canvases=canvases))
    with torch_threads(threads), torch.inference_mode():
        calibrate(network, recipe, seed)
        logits = predict(network, measured_on)
        every = np.arange(len(measured_on))
        relation, recognition = losses(logits, measured_on, every, recipe.label_smoothing)
        routed = measure(network, routing_canvases(canvases)).relation if routing else None
    return Inherited(
        scores=scores_of(logits, measured_on),
        routing=routed,
        cross_entropy=float(relation + recognition),
        trained_share=trained.weights.trained_share(scaled, trained.keys),
        seconds=time.perf_counter() - started,
    )


def calibrate(network: ProxyNetwork, recipe: SupernetRecipe, seed: int) -> None:
    """Let batch norms collect their statistics, from training canvases as evaluation has them."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if norms:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over what follows
        network.train()
        network(as_input(_calibration_images(recipe, seed)))
    network.eval()


@functools.lru_cache(maxsize=2)
def _calibration_images(recipe: SupernetRecipe, seed: int) -> NDArray[np.uint8]:
    """The first canvases of the training's last part, of both tasks if that is so."""
    cue, routing = parts(recipe)
    if routing is None:
        _, later = training_canvases(cue, seed)
        return later.images[:CALIBRATION]
    steps = itertools.islice(routing_batches(routing, seed), -(-CALIBRATION // routing.batch))
    return np.concatenate([part.images[chosen] for part, chosen in steps])[:CALIBRATION]
