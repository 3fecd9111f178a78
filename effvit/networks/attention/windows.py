"""Attention within windows, shifted or not. Papers and cost: effvit.designs.attention.windows.

Shapes in this file: B images, an H x W map of C channels, N windows of M_h x M_w pixels, and L
tokens in a window, one a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from effvit.config import Resolution
from effvit.designs.attention import windows
from effvit.designs.sepvit import BlockPlan
from effvit.networks.attention.heads import join_heads, split_heads
from effvit.networks.attention.partition import cut, join, pad_to, window_grid
from effvit.networks.layers import Attention
from effvit.networks.sepvit import SeparableAttention


class WindowAttention(SeparableAttention):
    """Softmax attention within windows: SepViT's without what mixes windows, and shortcuts."""

    def __init__(self, design: windows.WindowAttention) -> None:
        plan = BlockPlan(design.window, (0, 0), "none")  # the grid is not read without tokens
        super().__init__(design.channels, design.heads, plan, shortcuts=False)

    def forward(self, x: Tensor, token: Tensor | None = None) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return super().forward(x, token)


class ShiftedWindowAttention(Attention):
    """Softmax attention within shifted windows, in each within what it holds of the map."""

    def __init__(self, design: windows.ShiftedWindowAttention) -> None:
        super().__init__()
        self.heads = design.heads
        self.window = design.window
        self.shift = design.shift
        self.qkv = nn.Linear(design.channels, 3 * design.channels)
        self.proj = nn.Linear(design.channels, design.channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, _ = x.shape
        grid = window_grid((height, width), self.window)
        mask = self._mask((height, width), grid, x.device).repeat(batch, 1, 1)[:, None]
        # Arguments are passed on unnamed where that frees them early.
        y = join(self._attended(self._windows(x, grid), mask), self.window, grid)
        y = y.roll(self.shift, (1, 2))
        return self.proj(y[:, :height, :width].flatten(0, 2)).view_as(x)

    def _windows(self, x: Tensor, grid: Resolution) -> Tensor:
        """(B, H, W, C) -> (B * N, L, C) of the padded map, rolled up and to the left."""
        x = pad_to(x, (grid[0] * self.window[0], grid[1] * self.window[1]))
        return cut(x.roll((-self.shift[0], -self.shift[1]), (1, 2)), grid)

    def _attended(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B * N, L, C) -> (B * N, L, C)."""
        tokens = self.qkv(tokens)
        query, key, value = split_heads(tokens, 3, self.heads)
        return join_heads(self.attend(query, key, value, mask))

    def _mask(self, shape: Resolution, grid: Resolution, device: torch.device) -> Tensor:
        """(N, L, L), True where a pixel may attend to another.

        Padding attends to padding, since every pixel must attend to something.
        """
        down, across = (
            _regions(shape[axis], grid[axis] * self.window[axis], self.shift[axis], device)
            for axis in (0, 1)
        )
        regions = cut((REGIONS * down[:, None] + across)[None], grid)
        return regions[:, :, None] == regions[:, None]


REGIONS = 4
"""Kinds of place along an axis of a rolled map."""


def _regions(length: int, padded: int, shift: int, device: torch.device) -> Tensor:
    """What lies along one axis of a rolled map, (padded,).

    1 where the roll brought something in from the other side, else 0; 2 more at padding.
    """
    place = torch.arange(padded, device=device).roll(-shift)
    return (place < shift).long() + 2 * (place >= length).long()
