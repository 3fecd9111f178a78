"""Scores of the size of gradients: their norm, its evenness, and how far images agree on them."""

from __future__ import annotations

import math

import torch
from torch import nn

from search.scores.common import Batch, gradients, loss, private_copy, weights

ZICO_PARTS = 4
"""Batches of ZiCo. Over two, as in the authors' code, quotients by a deviation have no mean."""


def grad_norm(model: nn.Module, batch: Batch) -> float:
    """Sum over layers of the Euclidean norm of the weights' gradient.

    Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS" (ICLR 2021, arXiv 2101.08134).
    Larger is better, as published.
    """
    with private_copy(model) as twin:
        found = gradients(loss(twin, batch), twin)
        return sum(float(gradient.double().norm()) for gradient in found.values())


def zico(model: nn.Module, batch: Batch) -> float:
    """Inverse coefficient of variation: ``sum over layers of log sum E|g| / sqrt(Var |g|)``.

    Expectation and variance are over batches, here :data:`ZICO_PARTS` equal parts of the batch; the
    inner sum is over the weights of a layer. Weights whose gradient does not vary, and layers with
    no others, do not count. Li et al., "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on
    Gradients" (ICLR 2023, arXiv 2301.11300). Larger is better, as published.

    Raises:
        ConfigError: There are fewer images than parts.
    """
    with private_copy(model) as twin:
        parts = [gradients(loss(twin, part), twin) for part in batch.split(ZICO_PARTS)]
        score = 0.0
        for place in weights(twin):
            sizes = torch.stack([part[place] for part in parts]).double().abs()
            mean = sizes.mean(0)
            deviation = (sizes - mean).square().mean(0).sqrt()  # torch's std is 15 times slower
            varies = deviation > 0
            quotients = mean[varies] / deviation[varies]
            if len(quotients):
                score += math.log(float(quotients.sum()))
        return score


def grad_ratio(model: nn.Module, batch: Batch) -> float:
    """Mean over layers of ``log |g| / |theta|``, Euclidean norms.

    The inverse of the trust ratio of You, Gitman, Ginsburg, "Large Batch Training of Convolutional
    Networks" (arXiv 1708.03888), which says by how much a step changes a layer. No paper ranks
    networks by it; larger is taken for better, as of :func:`grad_norm`. 0 without any gradient.
    """
    ratios = _log_ratios(model, batch)
    return math.fsum(ratios) / len(ratios) if ratios else 0.0


def grad_balance(model: nn.Module, batch: Batch) -> float:
    """Evenness of gradients: minus the standard deviation over layers of ``log |g| / |theta|``.

    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks"
    (AISTATS 2010) ask for gradients of one size in all layers. No paper ranks networks by it;
    larger, that is more even, is taken for better. 0 without any gradient.
    """
    ratios = torch.tensor(_log_ratios(model, batch), dtype=torch.float64)
    return -float(ratios.std(correction=0)) if len(ratios) else 0.0


def _log_ratios(model: nn.Module, batch: Batch) -> list[float]:
    """``log |g| / |theta|`` of all layers that have weights and gradients other than zero."""
    with private_copy(model) as twin:
        found = gradients(loss(twin, batch), twin)
        norms = [
            (float(found[place].double().norm()), float(weight.detach().double().norm()))
            for place, weight in weights(twin).items()
        ]
    return [math.log(gradient / weight) for gradient, weight in norms if gradient and weight]
