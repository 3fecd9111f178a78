"""A convolution in the place of attention. Paper, cost: effvit.designs.attention.convolution."""

from __future__ import annotations

from timm.models.metaformer import SepConv
from torch import Tensor, nn

from effvit.designs.attention import convolution
from effvit.networks.backbone import CHANNELS_FIRST, CHANNELS_LAST


class SeparableConvolution(SepConv):  # type: ignore[misc]  # timm has no types
    """timm's inverted separable convolution of ConvFormer, with GELU."""

    def __init__(self, design: convolution.SeparableConvolution) -> None:
        super().__init__(
            design.channels,
            expansion_ratio=convolution.EXPANSION,
            act1_layer=nn.GELU,
            kernel_size=convolution.KERNEL,
            padding=convolution.KERNEL // 2,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return super().forward(x.permute(CHANNELS_FIRST)).permute(CHANNELS_LAST)
