"""Layers that several networks share."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from timm.layers import drop_path, trunc_normal_
from torch import Tensor, nn


class Fused:
    """What runs in the fastest form it has, or in the one whose operations its cost counts.

    Attributes:
        fused: Run in the fastest form. Counters of operations are run with ``fused = False``; see
            :func:`explicit_attention`.
    """

    fused: bool = True


class Attention(Fused, nn.Module):
    """Softmax attention that runs as torch's fused kernel, or as explicit matrix products.

    On a CPU counters of operations see nothing of the kernel.
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend, with the scale 1 / sqrt(d).

        Args:
            query: (batch, heads, L, d).
            key: (batch, heads, S, d).
            value: (batch, heads, S, d).
            mask: Broadcasts to (batch, heads, L, S); True where a key may be attended to.

        Returns:
            (batch, heads, L, d).
        """
        if self.fused:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1) @ value


@contextlib.contextmanager
def explicit_attention(model: nn.Module) -> Iterator[None]:
    """Run a network's operations one by one as its cost counts them, for operation counters."""
    modules = [m for m in model.modules() if isinstance(m, Fused)]
    before = [module.fused for module in modules]
    for module in modules:
        module.fused = False
    try:
        yield
    finally:
        for module, fused in zip(modules, before, strict=True):
            module.fused = fused


ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "silu": functools.partial(nn.SiLU, inplace=True),
    "hardswish": functools.partial(nn.Hardswish, inplace=True),
    "gelu": functools.partial(nn.GELU, approximate="tanh"),
}
"""Activations of convolutional blocks."""


class Convolving(Fused):
    """What runs its 1x1 convolutions as the matrix products that they are, on a CPU.

    torch's own choice depends on batch size and threads: with one thread and up to 15 images it
    copies, otherwise oneDNN reorders; within groups of channels it goes group by group.
    """

    def convolve(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """Convolve, (B, C_in, H, W) -> (B, C_out, H', W')."""
        pointwise = conv.kernel_size == conv.stride == (1, 1)
        if not (self.fused and pointwise and eager_on_cpu(x)):
            return conv(x)
        if conv.groups > 1:
            return _grouped_product(conv, x)
        if not x.is_contiguous(memory_format=torch.channels_last):
            return conv(x)
        y = F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias)
        return y.permute(0, 3, 1, 2)


def eager_on_cpu(x: Tensor) -> bool:
    """Whether operations on x run one by one on a CPU, neither compiled nor exported."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _grouped_product(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution within groups, without a bias, as one batched matrix product."""
    groups = x.unflatten(1, (conv.groups, -1)).flatten(3)
    weight = conv.weight.view(conv.groups, -1, groups.shape[2])
    return torch.matmul(weight, groups).flatten(1, 2).unflatten(2, x.shape[2:])


class ConvUnit(Convolving, nn.Module):
    """Convolution, batch norm, activation: (B, C_in, H, W) -> (B, C_out, H / stride, W / stride).

    Padding is (kernel - 1) / 2 on all sides, so sides are divided rounding up.

    Args:
        inputs: Channels C_in.
        outputs: Channels C_out.
        kernel: Side of the kernel, odd.
        stride: Stride.
        groups: Groups of channels.
        norm_eps: The norm's eps; without a norm (None) the convolution has a bias in its place.
        activation: Name in :data:`ACTIVATIONS`, if any.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        norm_eps: float | None,
        activation: str | None = None,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=norm_eps is None
        )
        self.norm = nn.Identity() if norm_eps is None else nn.BatchNorm2d(outputs, eps=norm_eps)
        self.act = ACTIVATIONS[activation]() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self.act(self.norm(self.convolve(self.conv, x)))


class ConvBlock(nn.Sequential):
    """Named convolutions one after the other, with a shortcut around them or without.

    Args:
        parts: The convolutions.
        shortcut: Add the input to the output.
        drop_path: Rate of stochastic depth, with a shortcut only.
    """

    def __init__(
        self, parts: Mapping[str, nn.Module], shortcut: bool = False, drop_path: float = 0.0
    ) -> None:
        super().__init__(OrderedDict(parts))
        self.shortcut = shortcut
        self.drop_path_rate = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H', W')."""
        y = x
        for part in self:
            y = part(y)
        return x + drop_path(y, self.drop_path_rate, self.training) if self.shortcut else y


def inverted_bottleneck(
    inputs: int,
    hidden: int,
    outputs: int,
    *,
    norm_eps: float,
    activation: str,
    stride: int = 1,
    few_norms: bool = False,
    shortcut: bool = False,
    drop_path: float = 0.0,
) -> ConvBlock:
    """1x1 to ``hidden`` channels, depthwise 3x3, 1x1 back (MBConv).

    Args:
        inputs: Channels of the input.
        hidden: Channels between.
        outputs: Channels of the output.
        norm_eps: The norms' eps.
        activation: Of the first two convolutions; the last has none.
        stride: Of the depthwise convolution.
        few_norms: Only the last convolution has a norm, the others a bias.
        shortcut: Add the input to the output.
        drop_path: Rate of stochastic depth.
    """
    inner = None if few_norms else norm_eps
    parts = {
        "expand": ConvUnit(inputs, hidden, 1, norm_eps=inner, activation=activation),
        "depthwise": ConvUnit(
            hidden,
            hidden,
            3,
            stride=stride,
            groups=hidden,
            norm_eps=inner,
            activation=activation,
        ),
        "project": ConvUnit(hidden, outputs, 1, norm_eps=norm_eps),
    }
    return ConvBlock(parts, shortcut, drop_path)


def drop_path_rates(last: float, count: int) -> list[float]:
    """Rates of ``count`` blocks, rising linearly from 0 to ``last``."""
    return [last * index / max(1, count - 1) for index in range(count)]


def initialise(module: nn.Module) -> None:
    """Initialise one module as SepViT's released code does.

    Linear layers truncated normal (standard deviation 0.02), convolutions normal (variance 2 /
    fan_out). All families start this way, so that comparisons of training start alike.
    """
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
