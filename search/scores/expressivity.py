"""Scores of how differently a network treats different images: Jacobian, codes, Zen-score."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search.scores.common import Batch, by_image, private_copy, weights

JACOBIAN_EPS = 1e-5
"""Added to eigenvalues by the authors of the Jacobian's score."""

ZEN_STEP = 0.01
"""Size of the change of an image, relative to its own, that the Zen-score's authors take."""

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish)
"""Activations that divide their input space at or near zero."""


def jacob_cov(model: nn.Module, batch: Batch) -> float:
    """Decorrelation of the images' Jacobians: ``-sum log(v + k) + 1 / (v + k)``, k = 1e-5.

    v are the eigenvalues of the correlation matrix of the gradients of the summed outputs by each
    image. Mellor et al., "Neural Architecture Search without Training" (arXiv 2006.04647v1). Larger
    is better, as published; the largest value possible is that of uncorrelated Jacobians. An image
    whose gradient is constant counts as uncorrelated.
    """
    with private_copy(model) as twin:
        images = batch.images.detach().clone().requires_grad_()
        (jacobian,) = torch.autograd.grad(twin(images).sum(), images)
    rows = jacobian.flatten(1).double()
    rows = nn.functional.normalize(rows - rows.mean(1, keepdim=True), eps=1e-300)
    correlation = (rows @ rows.T).fill_diagonal_(1.0)
    values = torch.linalg.eigvalsh(correlation).clamp_min(0) + JACOBIAN_EPS
    return -float((values.log() + 1 / values).sum())


def naswot(model: nn.Module, batch: Batch) -> float:
    """Distinctness of activation codes: ``log det K``, ``K_ij`` units on which images i, j agree.

    A unit of an image is on where the input of an activation is above zero. Mellor et al., "Neural
    Architecture Search without Training" (ICML 2021, arXiv 2006.04647v3), for ReLU; GELU, SiLU and
    Hardswish change sign of their slope near zero and are read in the same way. Activations that
    are functions and not modules (inside linear attention) are not seen. Larger is better, as
    published. Here K has 1 added on its diagonal, as if each image had one more unit of its own, so
    that it is never singular; units are many thousands.
    """
    agreements = torch.eye(len(batch), dtype=torch.float64, device=batch.images.device)

    def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        codes = by_image((inputs[0].detach() > 0).double(), len(batch)).flatten(1)
        if len(codes) == len(batch):
            off = 1 - codes
            agreements.add_(codes @ codes.T + off @ off.T)

    with private_copy(model) as twin, torch.no_grad():
        for module in twin.modules():
            if isinstance(module, ACTIVATIONS):
                module.register_forward_pre_hook(count)
        twin(batch.images)
    return float(torch.linalg.slogdet(agreements).logabsdet)


def zen(model: nn.Module, batch: Batch, generator: torch.Generator) -> float:
    """Zen-score: ``log mean |f(x) - f(x + 0.01 e)| + sum over batch norms of log sd``.

    x and e are standard normal images, f is the last map before the head, weights are standard
    normal, and sd is the root of a batch norm's mean variance, which undoes its scaling. Lin et
    al., "Zen-NAS: A Zero-Shot NAS for High-Performance Deep Image Recognition" (ICCV 2021, arXiv
    2102.01063). Larger is better, as published. Layer and group norms are kept and not undone:
    behind them the score of a transformer says less about its depth than that of a convolutional
    network.

    Args:
        model: The network. A part of it that has ``forward_features`` is taken for f, if any.
        batch: Only the shape, type and device of the images are read.
        generator: Draws weights and images, on the CPU.
    """
    scales: list[float] = []

    def measure(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variances = inputs[0].double().transpose(0, 1).flatten(1).var(1, correction=0)
        scales.append(0.5 * math.log(max(float(variances.mean()), torch.finfo(torch.float64).tiny)))

    with private_copy(model) as twin, torch.no_grad():
        for weight in weights(twin).values():
            weight.copy_(_normal_like(weight, generator))
        images = _normal_like(batch.images, generator)
        changed = images + ZEN_STEP * _normal_like(images, generator)
        norms = [module for module in twin.modules() if isinstance(module, _BatchNorm)]
        hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
        before = _features(twin, images)
        for hook in hooks:
            hook.remove()
        difference = (before - _features(twin, changed)).double().flatten(1).norm(dim=1)
    distance = max(float(difference.mean()), torch.finfo(torch.float64).tiny)
    return math.log(distance) + math.fsum(scales)


def _normal_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers, the same on every device."""
    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    return drawn.to(device=tensor.device, dtype=tensor.dtype)


def _features(model: nn.Module, images: Tensor) -> Tensor:
    """Last map of the first part that has one; outputs of a network without such a part."""
    for module in model.modules():
        forward = getattr(module, "forward_features", None)
        if forward is not None:
            features: Tensor = forward(images)
            return features
    outputs: Tensor = model(images)
    return outputs
