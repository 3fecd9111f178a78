"""EfficientViT's and MobileViTv2's attention, with the face of the attention types."""

from __future__ import annotations

from torch import Tensor

from effvit.designs.attention import linear
from effvit.designs.efficientvit import RELEASED_ATTENTION_EPS
from effvit.networks.backbone import CHANNELS_FIRST, CHANNELS_LAST
from effvit.networks.efficientvit import MultiScaleLinearAttention
from effvit.networks.mobilevitv2 import SeparableSelfAttention

BATCH_NORM_EPS = 1e-5


class ReLULinearAttention(MultiScaleLinearAttention):
    """ReLU linear attention, on one scale or several; see the base class."""

    def __init__(self, design: linear.ReLULinearAttention) -> None:
        super().__init__(
            design.channels,
            design.channels // design.heads,
            design.scales,
            attention_eps=RELEASED_ATTENTION_EPS,
            norm_eps=BATCH_NORM_EPS,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return super().forward(x.permute(CHANNELS_FIRST)).permute(CHANNELS_LAST)


class ContextAttention(SeparableSelfAttention):
    """Separable self-attention with one context for all pixels; see the base class."""

    def __init__(self, design: linear.ContextAttention) -> None:
        super().__init__(design.channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2).transpose(1, 2).unsqueeze(2)  # one group of all pixels
        return super().forward(tokens).squeeze(2).transpose(1, 2).reshape(x.shape)
