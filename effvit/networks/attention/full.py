"""Multi-head self-attention. Papers and cost: effvit.designs.attention.full."""

from __future__ import annotations

from torch import Tensor, nn

from effvit.designs.attention import full
from effvit.networks.attention.heads import join_heads, split_heads
from effvit.networks.layers import Attention


class FullAttention(Attention):
    """Softmax attention of every pixel to every pixel."""

    def __init__(self, design: full.FullAttention) -> None:
        super().__init__()
        self.heads = design.heads
        self.qkv = nn.Linear(design.channels, 3 * design.channels)
        self.proj = nn.Linear(design.channels, design.channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self.proj(self._attended(x.flatten(1, 2))).view_as(x)

    def _attended(self, tokens: Tensor) -> Tensor:
        """(B, HW, C) -> (B, HW, C); queries, keys and values are freed before the projection."""
        query, key, value = split_heads(self.qkv(tokens), 3, self.heads)
        return join_heads(self.attend(query, key, value, None))
