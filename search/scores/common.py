"""What the scores share: a batch, a private copy of a network, its weights and their gradients.

Every score works on a copy, so that nothing of the network it is given changes: no parameter, no
buffer, no hook, no gradient, no switch. In the copy,

- dropout and stochastic depth are off, and batch norms use the batch's own statistics (those that
  they have collected say nothing yet);
- attention runs as explicit matrix products: fused kernels hide the attention matrix and cannot be
  differentiated twice.

Summed are weights of convolutions and linear layers, as in the authors' code. Norms, biases and
learned tokens stay out: a token is zero at first, and a layer norm right behind it multiplies its
gradient by 1 / sqrt(eps), about 1000.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from effvit.config import ConfigError
from effvit.networks.layers import explicit_attention


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images, and what they show.

    Attributes:
        images: (B, C, H, W).
        targets: Classes, (B,), or (B, cells) for a network that classifies cells, -100 where a cell
            does not count; None for scores that need no labels.
    """

    images: Tensor
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def split(self, parts: int) -> list[Batch]:
        """Cut into so many batches of equal size, leaving out what is over.

        Raises:
            ConfigError: There are fewer images than parts.
        """
        size = len(self) // parts
        if not size:
            raise ConfigError(f"{parts} parts need {parts} images or more, got {len(self)}")
        slices = [slice(part * size, (part + 1) * size) for part in range(parts)]
        targets = self.targets
        return [Batch(self.images[s], None if targets is None else targets[s]) for s in slices]


@contextlib.contextmanager
def private_copy(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[nn.Module]:
    """Copy a network for a score, see this module.

    Args:
        model: Any network; it stays as it is.
        dtype: Type of the copy's parameters, such as ``torch.float64``.
    """
    twin = copy.deepcopy(model).eval().requires_grad_(True)
    twin.zero_grad(set_to_none=True)
    for module in twin.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    with torch.enable_grad(), explicit_attention(twin):
        yield twin.to(dtype=dtype)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross entropy over images or cells.

    Raises:
        ConfigError: The batch has no targets.
    """
    if batch.targets is None:
        raise ConfigError("this score needs targets, the batch has none")
    logits: Tensor = model(batch.images)
    return F.cross_entropy(logits.flatten(0, -2), batch.targets.flatten())


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights of all convolutions and linear layers, by the layer's place."""
    return {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def gradients(of: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Gradients of a scalar by :func:`weights`, zero where a weight has no part in it."""
    found = weights(model)
    computed = torch.autograd.grad(of, list(found.values()), materialize_grads=True)
    return dict(zip(found, computed, strict=True))


def total(tensor: Tensor) -> float:
    """Sum of a tensor in float64."""
    return float(tensor.detach().sum(dtype=torch.float64))


def log_of(parts: Iterable[float]) -> float:
    """Logarithm of a sum of numbers from 0; of the smallest positive float where it is 0."""
    return math.log(max(math.fsum(parts), sys.float_info.min))


def by_image(rows: Tensor, images: int) -> Tensor:
    """Regroup rows (R, ...) that belong to images one after the other: (images, R / images, ...).

    Layers see windows, stripes or tokens of an image as rows of their own; all networks here keep
    those of an image together. Rows that do not divide belong to no image and become one group.
    """
    groups = images if len(rows) % images == 0 else 1
    grouped: Tensor = rows.unflatten(0, (groups, -1))
    return grouped
