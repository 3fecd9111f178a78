"""CSWin Transformer: the network. Paper header, formulas and cost: effvit.designs.cswin.

Shapes in this file: B images, an H x W map of C channels, N stripes of S_h x S_w pixels with L
tokens each, one a pixel, h heads of d channels in a branch. Maps are channels-last, (B, H, W, C).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import torch
from timm.layers import Mlp, drop_path
from torch import Tensor, nn

from effvit.config import Resolution
from effvit.designs.cswin import (
    MERGE_KERNEL,
    MERGE_STRIDE,
    STAGES,
    STEM_KERNEL,
    STEM_PADDING,
    STEM_STRIDE,
    CSWinConfig,
)
from effvit.networks.attention.partition import cut, join, pad_to, real_pixels, window_grid
from effvit.networks.backbone import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    Backbone,
    GlobalAverage,
    Layout,
    Stage,
)
from effvit.networks.checkpoints import load_renamed
from effvit.networks.layers import Attention, drop_path_rates

NORM_EPS = 1e-5


class Embedding(nn.Module):
    """Convolution that shrinks the map, and layer norm.

    Args:
        inputs: Channels of the input.
        channels: Channels of the output.
        kernel: Side of the kernel.
        stride: Stride.
        padding: Zeros on each side.
        of_map: The input is a map (B, H, W, C_in), not an image (B, C_in, H, W).
    """

    def __init__(
        self, inputs: int, channels: int, kernel: int, stride: int, padding: int, of_map: bool
    ) -> None:
        super().__init__()
        self.of_map = of_map
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, padding)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Embed; returns a map (B, H, W, C)."""
        x = self.conv(x.permute(CHANNELS_FIRST) if self.of_map else x)
        return self.norm(x.permute(CHANNELS_LAST))


class StripeAttention(Attention):
    """One branch: softmax attention within stripes, and LePE (paper sections 3.2 and 3.3).

        softmax(Q K^T / sqrt(d)) V + LePE(V),  LePE a depthwise 3x3 convolution within the stripe

    Args:
        channels: Channels of the branch.
        heads: Heads of the branch.
        height: Height of a stripe in pixels; None is the map's.
        width: Width of a stripe in pixels; None is the map's.
    """

    def __init__(self, channels: int, heads: int, height: int | None, width: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.height = height
        self.width = width
        self.lepe = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, qkv: Tensor) -> Tensor:
        """Attend.

        Args:
            qkv: (B, H, W, 3, C): queries, keys and values, head by head.

        Returns:
            (B, H, W, C).
        """
        batch, height, width = qkv.shape[:3]
        stripe = (min(self.height or height, height), min(self.width or width, width))
        grid = window_grid((height, width), stripe)
        stripes = cut(pad_to(qkv, (grid[0] * stripe[0], grid[1] * stripe[1])), grid)
        query, key, value = stripes.unflatten(3, (self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mask = real_pixels((height, width), stripe, grid, qkv.device)
        if mask is not None:
            mask = mask.repeat(batch, 1)[:, None, None]
        attended = self.attend(query, key, value, mask).transpose(1, 2).flatten(2)
        x = attended + self._encode_position(stripes[:, :, 2], stripe)
        return join(x, stripe, grid)[:, :height, :width]

    def _encode_position(self, value: Tensor, stripe: Resolution) -> Tensor:
        """LePE, (B * N, L, C) -> (B * N, L, C); beyond a stripe's border are zeros."""
        maps = self.lepe(value.unflatten(1, stripe).permute(CHANNELS_FIRST))
        return maps.permute(CHANNELS_LAST).flatten(1, 2)


class CrossShapedAttention(nn.Module):
    """Cross-shaped window self-attention: vertical stripes, then horizontal; or the whole map.

    Args:
        channels: Channels of the map.
        heads: Heads of all branches.
        stripe: Width of a stripe in pixels; None is one branch over the whole map.
    """

    def __init__(self, channels: int, heads: int, stripe: int | None) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        shapes = [(None, None)] if stripe is None else [(None, stripe), (stripe, None)]
        self.branches = nn.ModuleList(
            StripeAttention(channels // len(shapes), heads // len(shapes), *shape)
            for shape in shapes
        )
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        qkv = self.qkv(x).unflatten(3, (3, len(self.branches), -1))
        mixed = [branch(qkv[..., index, :]) for index, branch in enumerate(self.branches)]
        return self.proj(torch.cat(mixed, -1))


class Block(nn.Module):
    """Cross-shaped window attention and MLP, both pre-norm with a shortcut."""

    def __init__(
        self, channels: int, heads: int, stripe: int | None, hidden: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.attention = CrossShapedAttention(channels, heads, stripe)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = Mlp(channels, hidden)
        self.drop_path_rate = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self._dropped(self.attention(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path_rate, self.training)


class CSWin(Backbone[CSWinConfig]):
    """A CSWin Transformer of any configuration; maps at strides 4, 8, 16 and 32."""

    layout: ClassVar[Layout] = "NHWC"

    def __init__(self, config: CSWinConfig) -> None:
        super().__init__(config, config.widths, (4, 8, 16, 32), config.widths[-1])
        stem = Embedding(
            config.in_channels, config.widths[0], STEM_KERNEL, STEM_STRIDE, STEM_PADDING, False
        )
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        stages = [
            Stage(_blocks(config, stage, list(itertools.islice(rates, depth))))
            for stage, depth in enumerate(config.depths)
        ]
        norm = nn.LayerNorm(config.widths[-1], eps=NORM_EPS)
        self.finish(stem, stages, GlobalAverage(self.layout), norm)

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under the released code's names; see :mod:`effvit`."""
        load_renamed(self, state_dict, official_modules(self.config), "official")


def _blocks(config: CSWinConfig, stage: int, drop_paths: list[float]) -> list[nn.Module]:
    """Blocks of a stage; all stages but the first begin with the convolution that shrinks."""
    channels = config.widths[stage]
    blocks: list[nn.Module] = []
    if stage:
        inputs = config.widths[stage - 1]
        blocks.append(
            Embedding(inputs, channels, MERGE_KERNEL, MERGE_STRIDE, MERGE_KERNEL // 2, True)
        )
    stripe = config.splits[stage] if config.branches[stage] > 1 else None
    hidden = config.hidden_widths[stage]
    blocks += [Block(channels, config.heads[stage], stripe, hidden, rate) for rate in drop_paths]
    return blocks


def official_modules(config: CSWinConfig) -> dict[str, str]:
    """Places in our network and in the released code's."""
    table = {"stem.conv": "stage1_conv_embed.0", "stem.norm": "stage1_conv_embed.2"}
    for stage in range(STAGES):
        if stage:
            table[f"stages.{stage}.blocks.0"] = f"merge{stage}"
        for block in range(config.depths[stage]):
            ours = f"stages.{stage}.blocks.{block + (stage > 0)}"
            theirs = f"stage{stage + 1}.{block}"
            table |= {f"{ours}.{part}": f"{theirs}.{part}" for part in ("norm1", "norm2", "mlp")}
            table |= {f"{ours}.attention.{part}": f"{theirs}.{part}" for part in ("qkv", "proj")}
            for branch in range(config.branches[stage]):
                lepe = f"attention.branches.{branch}.lepe"
                table[f"{ours}.{lepe}"] = f"{theirs}.attns.{branch}.get_v"
    return table
