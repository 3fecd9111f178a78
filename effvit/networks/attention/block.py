"""Blocks of a hybrid: any attention, and an MLP."""

from __future__ import annotations

import pkgutil

from timm.layers import Mlp, drop_path
from torch import Tensor, nn

from effvit.designs.attention.design import AttentionDesign
from effvit.designs.attention.separable import SeparableAttention
from effvit.networks import sepvit
from effvit.networks.sepvit import BLOCK_NORM_EPS


class Block(nn.Module):
    """Attention and MLP, both pre-norm with a shortcut.

    Args:
        design: The attention.
        hidden: Hidden channels of the MLP.
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, design: AttentionDesign, hidden: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(design.channels, eps=BLOCK_NORM_EPS)
        self.attention = build_attention(design)
        self.norm2 = nn.LayerNorm(design.channels, eps=BLOCK_NORM_EPS)
        self.mlp = Mlp(design.channels, hidden)
        self.drop_path_rate = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self._dropped(self.attention(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x).flatten(0, 2)).view_as(x))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path_rate, self.training)


def build_attention(design: AttentionDesign) -> nn.Module:
    """The module of a design."""
    network: type[nn.Module] = pkgutil.resolve_name(design.network)
    return network(design)


def build_block(design: AttentionDesign, hidden: int, drop_path: float = 0.0) -> nn.Module:
    """A block of any attention type, (B, H, W, C) -> (B, H, W, C) at any size.

    DSSA's is SepViT's own, since window tokens pass the same norm as the map.

    Args:
        design: The attention, in its normal form.
        hidden: Hidden channels of the MLP.
        drop_path: Rate of stochastic depth.
    """
    if not isinstance(design, SeparableAttention):
        return Block(design, hidden, drop_path)
    return sepvit.Block(
        design.channels, design.heads, hidden, design.plan(), bool(design.shortcuts), drop_path
    )
