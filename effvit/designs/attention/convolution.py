"""A convolution in the place of attention.

Paper: Yu et al., "MetaFormer Baselines for Vision", arXiv 2210.13452 (v4 December 2024): the token
mixer of ConvFormer, MobileNetV2's inverted separable convolution (1x1 to r C channels, depthwise
k x k, 1x1 back) with r = 2 and k = 7, here with the MLP's GELU in the place of StarReLU. It stands
where attention stands, between the same norm and the same MLP, so that a stage's attention is
compared with a convolution and with nothing else. Cost on an H x W map of C channels, in
multiply-accumulates; the first term is that of attention's projections:

    2 r HW C^2 + r k^2 HW C
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from effvit.cost import Count, Ledger, Operator, add_convolution
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.blocks import Shape

EXPANSION = 2
KERNEL = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparableConvolution(AttentionDesign):
    """An inverted separable convolution; see the module."""

    network: ClassVar[str] = "effvit.networks.attention.convolution:SeparableConvolution"

    @classmethod
    def at(cls, site: Site) -> SeparableConvolution:
        """Over the whole map."""
        return cls(channels=site.channels)

    @property
    def name(self) -> str:
        """See the base class."""
        return "convolution"

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        self.add_norm(ledger, name, shape, repeat)
        pixels, place = shape[0] * shape[1], f"{name}.attention"
        hidden = EXPANSION * self.channels
        add_convolution(
            ledger,
            f"{place}.pwconv1",
            inputs=self.channels,
            outputs=hidden,
            kernel=1,
            pixels=pixels,
            bias=False,
            repeat=repeat,
        )
        ledger.add(f"{place}.act1", Operator.GELU, elements=pixels * hidden, repeat=repeat)
        add_convolution(
            ledger,
            f"{place}.dwconv",
            inputs=hidden,
            outputs=hidden,
            kernel=KERNEL**2,
            pixels=pixels,
            groups=hidden,
            bias=False,
            repeat=repeat,
        )
        add_convolution(
            ledger,
            f"{place}.pwconv2",
            inputs=hidden,
            outputs=self.channels,
            kernel=1,
            pixels=pixels,
            bias=False,
            repeat=repeat,
        )
        # Input, normed map; a hidden map before and after GELU, or the depthwise convolution.
        ledger.live(held + 2 * pixels * self.channels + 2 * pixels * hidden, repeat)
