"""What a variant is worth with the weights that it inherits: no training of its own."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from effvit.config import ModelConfig
from search.proxy import ProxyRecipe
from search.proxy.feed import as_input, training_canvases, validation_canvases
from search.proxy.network import ProxyNetwork
from search.proxy.scaling import proxy_config
from search.proxy.scores import Scores, predict, scores_of
from search.proxy.training import losses, torch_threads
from search.supernet.training import Trained

CANVASES = 100
"""Validation canvases that a variant is measured on: a hundred or so milliseconds."""

CALIBRATION = 48
"""Training canvases from which batch norms collect their statistics."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inherited:
    """A variant measured with inherited weights. For ranking only: no accuracy of its own.

    Attributes:
        scores: Shares of right decisions, see :class:`search.proxy.ProxyResult`.
        cross_entropy: Mean loss of a scored cell, relation and recognition together, in nats; finer
            than shares where many variants have nearly the same.
        trained_share: Share of the variant's weights that the supernet trained at all.
        seconds: Wall time. Not compared.
    """

    scores: Scores
    cross_entropy: float
    trained_share: float
    seconds: float = dataclasses.field(compare=False)


def inherit(
    config: ModelConfig,
    trained: Trained,
    recipe: ProxyRecipe,
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
    network = trained.weights.network(scaled)
    measured_on = validation_canvases(dataclasses.replace(recipe, evaluation_canvases=canvases))
    with torch_threads(threads), torch.inference_mode():
        calibrate(network, recipe, seed)
        logits = predict(network, measured_on)
        every = np.arange(len(measured_on))
        relation, recognition = losses(logits, measured_on, every, recipe.label_smoothing)
    return Inherited(
        scores=scores_of(logits, measured_on),
        cross_entropy=float(relation + recognition),
        trained_share=trained.weights.trained_share(scaled, trained.keys),
        seconds=time.perf_counter() - started,
    )


def calibrate(network: ProxyNetwork, recipe: ProxyRecipe, seed: int) -> None:
    """Let batch norms collect their statistics, from training canvases as evaluation has them."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if norms:
        _, later = training_canvases(recipe, seed)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over what follows
        network.train()
        network(as_input(later.images[:CALIBRATION]))
    network.eval()
