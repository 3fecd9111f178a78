"""Twins' global sub-sampled attention. Paper and cost: effvit.designs.attention.sub_sampled."""

from __future__ import annotations

from torch import Tensor, nn

from effvit.designs.attention import sub_sampled
from effvit.networks.attention.heads import join_heads, split_heads
from effvit.networks.attention.partition import pad_to, window_grid
from effvit.networks.backbone import CHANNELS_FIRST
from effvit.networks.layers import Attention

NORM_EPS = 1e-5


class SubSampledAttention(Attention):
    """Softmax attention of all pixels to those of a smaller map, which a convolution makes.

    Parts have the names of Twins' code.
    """

    def __init__(self, design: sub_sampled.SubSampledAttention) -> None:
        super().__init__()
        channels = design.channels
        self.heads = design.heads
        self.kernel = design.kernel
        self.q = nn.Linear(channels, channels)
        self.sr = nn.Conv2d(channels, channels, design.kernel, design.kernel)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        (query,) = split_heads(self.q(x.flatten(1, 2)), 1, self.heads)
        key, value = split_heads(self.kv(self._sampled(x)), 2, self.heads)
        return self.proj(join_heads(self.attend(query, key, value, None))).view_as(x)

    def _sampled(self, x: Tensor) -> Tensor:
        """The smaller map, normed, (B, H, W, C) -> (B, H / s * W / s, C), sides rounded up."""
        grid = window_grid((x.shape[1], x.shape[2]), self.kernel)
        x = pad_to(x, (grid[0] * self.kernel[0], grid[1] * self.kernel[1]))
        return self.norm(self.sr(x.permute(CHANNELS_FIRST)).flatten(2).transpose(1, 2))
