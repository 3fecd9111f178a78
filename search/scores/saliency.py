"""Scores that sum the saliency of weights: SNIP, GraSP, SynFlow, and Fisher information.

They were made for pruning at initialisation, where a saliency ranks the weights of one network;
Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS" (ICLR 2021, arXiv 2101.08134) sum them
over a network to rank networks. theta are weights, L is the loss, g its gradient, H its Hessian.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search.scores.common import (
    Batch,
    by_image,
    gradients,
    log_of,
    loss,
    private_copy,
    total,
    weights,
)


def snip(model: nn.Module, batch: Batch) -> float:
    """Connection sensitivity: ``sum |theta g|``.

    Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity" (ICLR
    2019, arXiv 1810.02340). Larger is better, as published.
    """
    with private_copy(model) as twin:
        found = gradients(loss(twin, batch), twin)
        return sum(total((weight * found[place]).abs()) for place, weight in weights(twin).items())


def grasp(model: nn.Module, batch: Batch) -> float:
    """Gradient signal preservation: ``-sum theta (H g)``.

    Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow" (ICLR
    2020, arXiv 2002.07376). For pruning, a weight of a large value is one whose removal costs the
    least gradient flow; for networks Abdelfattah et al. take the sum with this sign, larger is
    better. The value can have either sign.
    """
    with private_copy(model) as twin:
        found = weights(twin)
        first = torch.autograd.grad(
            loss(twin, batch), list(found.values()), create_graph=True, materialize_grads=True
        )
        product = torch.stack([(g.detach() * g).sum() for g in first]).sum()
        second = gradients(product, twin)
        return -sum(total(weight * second[place]) for place, weight in found.items())


def fisher(model: nn.Module, batch: Batch) -> float:
    """Fisher information of activations: sum over channels of ``mean over images (a . g_a)^2 / 2``.

    a are the outputs of a channel of a convolution or linear layer at all positions of an image,
    g_a the loss's gradient by them. Theis et al., "Faster gaze prediction with dense networks and
    Fisher pruning" (arXiv 1801.05787); for whole networks Turner et al., "BlockSwap" (ICLR 2020,
    arXiv 1906.04113). Larger is better, as published there.
    """
    with private_copy(model) as twin:
        kept: list[tuple[bool, Tensor]] = []

        def keep(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            kept.append((isinstance(module, nn.Conv2d), output))
            return output.clone()  # what follows may work in place

        for module in twin.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.register_forward_hook(keep)
        value = loss(twin, batch)
        outputs = [output for _, output in kept]
        found = torch.autograd.grad(value, outputs, materialize_grads=True)
        products = (
            (output * gradient).movedim(1, -1) if is_map else output * gradient
            for (is_map, output), gradient in zip(kept, found, strict=True)
        )
        return sum(_fisher_of_layer(product.detach(), len(batch)) for product in products)


def _fisher_of_layer(product: Tensor, images: int) -> float:
    """Of ``a * g_a`` (rows, ..., channels)."""
    by_channel = by_image(product, images).flatten(1, -2).sum(1, dtype=torch.float64)
    return total(by_channel.square().mean(0)) / 2


def synflow(model: nn.Module, batch: Batch) -> float:
    """Synaptic flow, its logarithm: ``log sum |theta dR/dtheta|``.

    R is the sum of all outputs for one image of ones, all parameters replaced by their absolute
    values. Tanaka et al., "Pruning neural networks without any data by iteratively conserving
    synaptic flow" (NeurIPS 2020, arXiv 2006.05467). Larger is better, as published.

    Norms: layer and group norms are kept. A batch norm divides by the root mean square of all that
    it sees, a constant. Published, it does nothing; but then EfficientViT's deeper variants, whose
    attention multiplies three such numbers, leave the range even of float64 (in which this is
    computed). So R is not homogeneous in the weights, and the published conservation law holds
    between norms only.

    Args:
        model: The network.
        batch: Only the shape and device of the images are read.
    """
    return log_of(synaptic_flow(model, batch).values())


def synaptic_flow(
    model: nn.Module, batch: Batch, nuclear: Collection[str] = ()
) -> dict[str, float]:
    """Saliency of each layer for :func:`synflow`, and for :mod:`search.scores.synapses`.

    Args:
        model: The network.
        batch: Only the shape and device of the images are read.
        nuclear: Places of layers for which to take the product of the nuclear norms of weight and
            gradient, as matrices (outputs, rest), instead of the sum of ``|theta dR/dtheta|``.
    """
    with private_copy(model, torch.float64) as twin:
        for module in twin.modules():
            if isinstance(module, _BatchNorm):
                module.eval().reset_running_stats()
                module.register_forward_pre_hook(_to_unit_size)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.abs_()
        ones = torch.ones_like(batch.images[:1], dtype=torch.float64)
        flow = gradients(twin(ones).sum(), twin)
        return {
            place: _nuclear(weight) * _nuclear(flow[place])
            if place in nuclear
            else total((weight * flow[place]).abs())
            for place, weight in weights(twin).items()
        }


def _to_unit_size(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    """Divide an input by its root mean square, which counts as a constant."""
    size = inputs[0].detach().square().mean().sqrt()
    return (inputs[0] / size.clamp_min(torch.finfo(size.dtype).tiny),)


def _nuclear(weight: Tensor) -> float:
    """Nuclear norm of a weight as a matrix (outputs, rest)."""
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), "nuc"))
