"""Linformer's attention. Paper and cost: effvit.designs.attention.linformer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effvit.config import Resolution
from effvit.designs.attention import linformer
from effvit.networks.attention.heads import join_heads, split_heads
from effvit.networks.layers import Attention


class LinformerAttention(Attention):
    """Softmax attention of all pixels to k sums over pixels, learned for keys and for values.

    Both projections start normal with variance 1 / HW: a projected key is as large as a key.
    """

    def __init__(self, design: linformer.LinformerAttention) -> None:
        super().__init__()
        self.heads = design.heads
        self.positions = design.positions
        shape = (design.length, math.prod(design.positions))
        self.qkv = nn.Linear(design.channels, 3 * design.channels)
        self.keys = nn.Parameter(torch.randn(shape) / math.sqrt(shape[1]))
        self.values = nn.Parameter(torch.randn(shape) / math.sqrt(shape[1]))
        self.proj = nn.Linear(design.channels, design.channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        shape = (x.shape[1], x.shape[2])
        return self.proj(self._attended(x.flatten(1, 2), shape)).view_as(x)

    def _attended(self, tokens: Tensor, shape: Resolution) -> Tensor:
        """(B, HW, C) -> (B, HW, C); queries, keys and values are freed before the projection."""
        query, key, value = self.qkv(tokens).chunk(3, dim=2)
        key, value = self._project(self.keys, key, shape), self._project(self.values, value, shape)
        query, key, value = (split_heads(part, 1, self.heads)[0] for part in (query, key, value))
        return join_heads(self.attend(query, key, value, None))

    def _project(self, projection: Tensor, tokens: Tensor, shape: Resolution) -> Tensor:
        """Sum over pixels, (B, HW, C) -> (B, k, C).

        On another map than the design's the projection is resampled bilinearly; sums of more pixels
        are scaled down to what they were.
        """
        if shape == self.positions:
            return projection @ tokens
        maps = projection.unflatten(1, self.positions)[None]
        maps = F.interpolate(maps, shape, mode="bilinear", align_corners=False)
        return maps[0].flatten(1) @ tokens * (projection.shape[1] / math.prod(shape))
