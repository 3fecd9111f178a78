"""SepViT: the network. Paper header, equations, configuration and cost: effvit.designs.sepvit.

Shapes in this file: B images, an H x W map of C channels, N = G_h * G_w windows of M_h x M_w
pixels, L tokens in a window (its pixels, after its window token if it has one), h heads of d
channels. Maps are channels-last, (B, H, W, C): linear layers and norms read them as they lie, and
convolutions see them as channels_last tensors without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Generic, TypeVar

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from effvit.config import Resolution
from effvit.cost import ceil_div
from effvit.designs.macro import EMBEDDING_KERNELS, STRIDES, MacroConfig
from effvit.designs.sepvit import BlockPlan, SepViTConfig
from effvit.networks.backbone import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    Backbone,
    GlobalAverage,
    LayerGroups,
    Layout,
)
from effvit.networks.backbone import Stage as BlockStage
from effvit.networks.checkpoints import load_renamed
from effvit.networks.layers import Attention, drop_path_rates

MacroT = TypeVar("MacroT", bound=MacroConfig)

BLOCK_NORM_EPS = 1e-6
EMBEDDING_NORM_EPS = 1e-5
"""Released code: 1e-6 in blocks and at the end, torch's default in embeddings and on tokens."""


class PatchEmbedding(nn.Module):
    """Convolution and layer norm, (B, H, W, C_in) -> (B, H / stride, W / stride, C), rounded up.

    Overlapping (paper section 3.1): kernel 7, stride 4, then kernel 3, stride 2. Otherwise
    kernel = stride, the input zero-padded at the bottom and on the right to a multiple of it.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.overlap = kernel != stride
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2 if self.overlap else 0)
        self.norm = nn.LayerNorm(channels, eps=EMBEDDING_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Embed patches."""
        x = x.permute(CHANNELS_FIRST)
        if not self.overlap:
            bottom, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
            if bottom or right:
                x = F.pad(x, (0, right, 0, bottom))
        return self.norm(self.conv(x).permute(CHANNELS_LAST))


class SeparableAttention(Attention):
    """Depthwise separable self-attention (DSSA); over larger windows, grouped (GSA).

    Paper section 3.2. Within windows (DSA), with window token t and pixels z, X = [t; z] normed:
        [t'; z'] = softmax(Q K^T / sqrt(d)) V + X
    among windows (PSA), with one value per pixel position, V_j = z'_j:
        out_i = sum_j softmax(Q' K'^T / sqrt(d))_ij V_j + V_i,  [Q', K'] = GELU(LN(t')) W
    then a linear projection. The shortcuts ``+ X`` and ``+ V_i`` are the released code's.
    """

    def __init__(self, channels: int, heads: int, plan: BlockPlan, shortcuts: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window = plan.window
        self.shortcuts = shortcuts
        self.mixes = plan.representation != "none"
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.representation = (
            nn.Conv2d(channels, channels, plan.window, groups=channels)
            if plan.representation == "depthwise"
            else None
        )
        if self.mixes:
            self.token_norm = nn.LayerNorm(channels, eps=EMBEDDING_NORM_EPS)
            self.token_act = nn.GELU()
            self.token_qk = nn.Linear(channels, 2 * channels)

    def grid(self, height: int, width: int) -> Resolution:
        """Windows down and across a map."""
        return ceil_div(height, self.window[0]), ceil_div(width, self.window[1])

    def forward(self, x: Tensor, token: Tensor | None) -> Tensor:
        """Attend within windows, then among them.

        Args:
            x: (B, H, W, C), normed.
            token: (N, 1, C), normed; None where windows have no token.

        Returns:
            (B, H, W, C).
        """
        batch, height, width, channels = x.shape
        grid = self.grid(height, width)
        valid = self._valid(x, grid)
        # Arguments are passed on unnamed where that frees them early.
        features = self._within(self._split(x, token, grid), valid)
        if token is not None:
            token, features = features[:, :, 0], features[:, :, 1:]
        if self.mixes:
            if token is None:
                token = self._represent(features, valid)
            features = self._among(token, features, valid)
        x = features.unflatten(2, self.window).unflatten(1, grid).transpose(2, 3)
        x = x.reshape(batch, grid[0] * self.window[0], grid[1] * self.window[1], channels)
        # Rows of a matrix: ONNX Runtime then runs product and bias as one operation.
        return self.proj(x[:, :height, :width].flatten(0, 2)).view(batch, height, width, channels)

    def _valid(self, x: Tensor, grid: Resolution) -> Tensor | None:
        """(N, M_h * M_w), True at real pixels; None where windows divide the map."""
        height, width = x.shape[1:3]
        rows, columns = grid[0] * self.window[0], grid[1] * self.window[1]
        if (rows, columns) == (height, width):
            return None
        down = torch.arange(rows, device=x.device) < height
        across = torch.arange(columns, device=x.device) < width
        real = down[:, None] & across
        real = real.unflatten(0, (grid[0], -1)).unflatten(2, (grid[1], -1))
        return real.transpose(1, 2).flatten(0, 1).flatten(1)

    def _split(self, x: Tensor, token: Tensor | None, grid: Resolution) -> Tensor:
        """(B, H, W, C) -> (B, N, L, C), zero-padded at the bottom and on the right."""
        bottom = grid[0] * self.window[0] - x.shape[1]
        right = grid[1] * self.window[1] - x.shape[2]
        if bottom or right:
            x = F.pad(x, (0, 0, 0, right, 0, bottom))
        x = x.unflatten(1, (grid[0], -1)).unflatten(3, (grid[1], -1))
        x = x.transpose(2, 3).flatten(1, 2).flatten(2, 3)
        return x if token is None else torch.cat((token.expand(x.shape[0], -1, -1, -1), x), dim=2)

    def _within(self, windows: Tensor, valid: Tensor | None) -> Tensor:
        """Depthwise self-attention, (B, N, L, C) -> (B, N, L, C)."""
        batch, count, length, channels = windows.shape
        mask = None
        if valid is not None:
            tokens = valid.new_ones(count, length - valid.shape[1])
            mask = torch.cat((tokens, valid), dim=1)[:, None, None].repeat(batch, 1, 1, 1)
        out = self.attend(*self._query_key_value(windows), mask)
        out = out.transpose(1, 2).reshape(batch, count, length, channels)
        return out + windows if self.shortcuts else out

    def _query_key_value(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, L, C) -> three of (B * N, h, L, d)."""
        batch, count, length, _ = windows.shape
        qkv = self.qkv(windows.flatten(0, 2)).view(batch * count, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def _represent(self, features: Tensor, valid: Tensor | None) -> Tensor:
        """One vector a window from its features, (B, N, M_h * M_w, C) -> (B, N, C)."""
        if valid is not None:
            features = features * valid[:, :, None]
        if self.representation is not None:
            kernels = features.flatten(0, 1).unflatten(1, self.window).permute(0, 3, 1, 2)
            return (
                self.representation(kernels)
                .flatten(1)
                .view(features.shape[0], features.shape[1], -1)
            )
        if valid is None:
            return features.mean(2)
        return features.sum(2) / valid.sum(1)[:, None]

    def _among(self, token: Tensor, features: Tensor, valid: Tensor | None) -> Tensor:
        """Pointwise self-attention, features (B, N, M_h * M_w, C) -> (B, N, M_h * M_w, h, d)."""
        count, area = features.shape[1:3]
        qk = self.token_qk(self.token_act(self.token_norm(token)))
        query, key = qk.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1)
        # One value vector a window and head, all its pixels side by side: (B, h, N, M_h * M_w * d).
        value = features.unflatten(3, (self.heads, -1)).permute(0, 3, 1, 2, 4).flatten(3)
        if valid is None:
            if self.shortcuts:  # the shortcut + V as an identity added to the small matrix
                weights = weights + torch.eye(count, device=token.device, dtype=token.dtype)
            mixed = (weights @ value).unflatten(3, (area, -1))
        else:
            value = value.unflatten(3, (area, -1))
            real = valid.to(value.dtype)
            mixed = weights @ (value * real[:, :, None]).flatten(3)
            # Zero only at positions that no window has; those are cut off.
            share = (weights @ real).clamp_min(torch.finfo(value.dtype).tiny)
            mixed = mixed.unflatten(3, (area, -1)) / share[..., None]
            if self.shortcuts:
                mixed = mixed + value
        return mixed.permute(0, 2, 3, 1, 4)


class Block(nn.Module):
    """Separable attention and MLP, both pre-norm with a shortcut (paper section 3.4)."""

    def __init__(
        self,
        channels: int,
        heads: int,
        hidden: int,
        plan: BlockPlan,
        shortcuts: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.norm1 = nn.LayerNorm(channels, eps=BLOCK_NORM_EPS)
        self.attention = SeparableAttention(channels, heads, plan, shortcuts)
        self.norm2 = nn.LayerNorm(channels, eps=BLOCK_NORM_EPS)
        self.mlp = Mlp(channels, hidden)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        if plan.representation == "learned":
            # Zero at first, as released: the norm's shift is then the token's query, key and value.
            self.token = nn.Parameter(torch.zeros(plan.grid[0] * plan.grid[1], 1, channels))

    def window_tokens(self, grid: Resolution, like: Tensor) -> Tensor | None:
        """Window tokens before the norm for a grid of windows, (N, 1, C).

        Learned tokens belong to a place in the map. On another grid than the design's they are
        resampled bilinearly, places given by window centres; on the same grid they are as learned.
        """
        if not self.plan.token:
            return None
        count = grid[0] * grid[1]
        if self.plan.representation == "zero":
            return like.new_zeros(count, 1, like.shape[-1])
        return resample_tokens(self.token, self.plan.grid, grid)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        token = self.window_tokens(self.attention.grid(x.shape[1], x.shape[2]), x)
        if token is not None:
            token = self.norm1(token)
        x = x + self.drop_path(self.attention(self.norm1(x), token))
        return x + self.drop_path(self.mlp(self.norm2(x).flatten(0, 2)).view_as(x))


def resample_tokens(tokens: Tensor, before: Resolution, after: Resolution) -> Tensor:
    """Resample window tokens (N, 1, C) from one grid of windows to another, bilinearly."""
    if before == after:
        return tokens
    grid = tokens.permute(1, 2, 0).unflatten(2, before)
    grid = F.interpolate(grid, after, mode="bilinear", align_corners=False)
    return grid.flatten(2).permute(2, 0, 1)


class Stage(BlockStage):
    """Patch embedding and blocks; after the first block the conditional position encoding.

    The encoding (CPE, the PEG of CPVT) is a depthwise 3x3 convolution added to the map.
    """

    embed: PatchEmbedding

    def __init__(self, config: MacroConfig, index: int, blocks: Iterable[nn.Module]) -> None:
        inputs = config.widths[index - 1] if index else config.in_channels
        stride = STRIDES[index]
        kernel = EMBEDDING_KERNELS[index] if config.overlapping_patch_embedding else stride
        channels = config.widths[index]
        embed = PatchEmbedding(inputs, channels, kernel, stride)
        super().__init__(blocks, embed)
        self.position = (
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            if config.conditional_position_encoding
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H_in, W_in, C_in) -> (B, H, W, C)."""
        x = self.embed(x)
        for index, block in enumerate(self.blocks):
            x = self.run(block, x)
            if index == 0 and self.position is not None:
                x = x + self.position(x.permute(CHANNELS_FIRST)).permute(CHANNELS_LAST)
        return x


class ChannelsLast(nn.Module):
    """Images (B, C, H, W) as a map (B, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Reorder."""
        return x.permute(CHANNELS_LAST).contiguous()


class MacroBackbone(Backbone[MacroT], Generic[MacroT]):
    """SepViT's macro-architecture; maps at strides 4, 8, 16 and 32, sides rounded up.

    Args:
        config: The network.
        build_block: Builds a block from the number of its stage, its own there, and its rate of
            stochastic depth.
    """

    layout: ClassVar[Layout] = "NHWC"

    def __init__(self, config: MacroT, build_block: Callable[[int, int, float], nn.Module]) -> None:
        super().__init__(config, config.widths, (4, 8, 16, 32), config.widths[-1])
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        stages = [
            Stage(config, stage, [build_block(stage, block, next(rates)) for block in range(depth)])
            for stage, depth in enumerate(config.depths)
        ]
        norm = nn.LayerNorm(config.widths[-1], eps=BLOCK_NORM_EPS)
        self.finish(ChannelsLast(), stages, GlobalAverage(self.layout), norm)

    def no_weight_decay(self) -> set[str]:
        """Window tokens and position encodings.

        The released code names both, on modules where timm does not look; the intent is kept.
        """
        return {
            name
            for name, _ in self.named_parameters()
            if name.endswith((".token", ".position.weight"))
        }

    def group_matcher(self, coarse: bool = False) -> LayerGroups:
        """Parameter groups for layer-wise learning rates: embeddings and blocks in order.

        timm appends the numbers beside a pattern to those that it matches, and sorts by them: an
        embedding comes before its stage's blocks, a position encoding goes with block 0.
        """
        stem = r"^stages\.0\.embed"
        if coarse:
            return {"stem": stem, "blocks": [(r"^stages\.(\d+)", None), (r"^norm", (99999,))]}
        blocks: list[tuple[str, tuple[int, ...] | None]] = [
            (r"^stages\.(\d+)\.embed", (-1,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^stages\.(\d+)\.position", (0,)),
            (r"^norm", (99999,)),
        ]
        return {"stem": stem, "blocks": blocks}


class SepViT(MacroBackbone[SepViTConfig]):
    """A SepViT of any configuration."""

    def __init__(self, config: SepViTConfig) -> None:
        plan = config.plan()

        def build_block(stage: int, block: int, rate: float) -> Block:
            return Block(
                config.widths[stage],
                config.heads[stage],
                config.hidden_widths[stage],
                plan[stage].blocks[block],
                config.inner_shortcuts,
                rate,
            )

        super().__init__(config, build_block)

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under the released code's names; see :mod:`effvit`."""
        weights = dict(state_dict)
        for stage, plan in enumerate(self.config.plan()):
            for block, design in enumerate(plan.blocks):
                name = f"blocks.{stage}.{block}.win_tokens"
                if name in weights:
                    weights[name] = _on_grid(weights[name][0], design.grid)
        load_renamed(self, weights, official_modules(self.config), "official")


def _on_grid(tokens: Tensor, grid: Resolution) -> Tensor:
    """Tokens (N, 1, C) resampled to a grid of windows if they are many enough for a square one."""
    side = math.isqrt(len(tokens))
    if len(tokens) == grid[0] * grid[1] or side * side != len(tokens):
        return tokens
    return resample_tokens(tokens, (side, side), grid)


# --- names in other code ------------------------------------------------------------------------

OFFICIAL_ATTENTION = {
    "qkv": "DSA_qkv",
    "token_norm": "win_tokens_norm",
    "token_qk": "PSA_qk",
}
"""Parts of the attention, and their names in the released code."""


def official_modules(config: SepViTConfig) -> dict[str, str]:
    """Places in our network and in the released code's."""
    table = {}
    for stage, depth in enumerate(config.depths):
        table[f"stages.{stage}.embed.conv"] = f"patch_embeds.{stage}.proj"
        table[f"stages.{stage}.embed.norm"] = f"patch_embeds.{stage}.norm"
        table[f"stages.{stage}.position"] = f"pos_block.{stage}.proj.0"
        for block in range(depth):
            ours, theirs = f"stages.{stage}.blocks.{block}", f"blocks.{stage}.{block}"
            table |= {ours: theirs, f"{ours}.token": f"{theirs}.win_tokens"}
            table[f"{ours}.attention"] = f"{theirs}.attn"
            for part, name in OFFICIAL_ATTENTION.items():
                table[f"{ours}.attention.{part}"] = f"{theirs}.attn.{name}"
    return table
