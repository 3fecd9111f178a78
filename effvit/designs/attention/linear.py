"""Attention types that are linear in the pixels: EfficientViT's and MobileViTv2's.

ReLU linear attention: Cai et al., "EfficientViT: Multi-Scale Linear Attention for High-Resolution
Dense Prediction", arXiv 2205.14756, section 3.1; without aggregation as in its v2. With S scales s,
heads of d channels, on an H x W map of C channels, in multiply-accumulates (the ratio's
denominators are one more row of the values, hence d + 1):

    HW (3 C^2 + (1 + S) C^2) + 2 (1 + S) HW C (d + 1) + sum over scales of 3 HW C (s^2 + d)

As released it has a batch norm after its projection, and needs float32 inside; here the block's
layer norm stands before it, which EfficientViT does not have.

Separable self-attention: Mehta, Rastegari, "Separable Self-attention for Mobile Vision
Transformers", arXiv 2206.02680, section 3.2. One context vector for all pixels (patches of one
pixel; MobileViTv2 has four, one for each position in patches of 2 x 2), and no matrix product:

    HW C (1 + 2 C) + HW C^2

All else is said where these networks are, in :mod:`effvit.designs.efficientvit` and
:mod:`effvit.designs.mobilevitv2`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from effvit.cost import Count, Ledger
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.blocks import Shape
from effvit.designs.efficientvit import add_linear_attention
from effvit.designs.mobilevitv2 import add_separable_self_attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReLULinearAttention(AttentionDesign):
    """EfficientViT's ReLU linear attention, with aggregations or without; see the module.

    Attributes:
        heads: Attention heads.
        scales: Kernel sides of the aggregations; 0 is none.
    """

    network: ClassVar[str] = "effvit.networks.attention.linear:ReLULinearAttention"

    heads: Count
    scales: tuple[Count, ...]

    @classmethod
    def at(cls, site: Site) -> ReLULinearAttention:
        """On one scale."""
        return cls(channels=site.channels, heads=site.heads, scales=())

    @classmethod
    def multi_scale(cls, site: Site) -> ReLULinearAttention:
        """With the network's scales beside the original one."""
        return cls(channels=site.channels, heads=site.heads, scales=tuple(site.scales))

    @property
    def name(self) -> str:
        """See the base class."""
        return "multi_scale_relu_linear" if self.scales else "relu_linear"

    def settings(self) -> Mapping[str, int]:
        """See the base class; scales are the network's, not the stage's."""
        return {"heads": self.heads}

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        self.add_norm(ledger, name, shape, repeat)
        pixels = shape[0] * shape[1]
        add_linear_attention(
            ledger,
            f"{name}.attention",
            channels=self.channels,
            pixels=pixels,
            head_dim=self.channels // self.heads,
            scales=self.scales,
            held=held + 2 * pixels * self.channels,
            repeat=repeat,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextAttention(AttentionDesign):
    """MobileViTv2's separable self-attention; see the module."""

    network: ClassVar[str] = "effvit.networks.attention.linear:ContextAttention"

    @classmethod
    def at(cls, site: Site) -> ContextAttention:
        """Over the whole map."""
        return cls(channels=site.channels)

    @property
    def name(self) -> str:
        """See the base class."""
        return "separable"

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        self.add_norm(ledger, name, shape, repeat)
        pixels = shape[0] * shape[1]
        add_separable_self_attention(
            ledger,
            f"{name}.attention",
            channels=self.channels,
            pixels=pixels,
            held=held + pixels * self.channels,
            repeat=repeat,
        )
