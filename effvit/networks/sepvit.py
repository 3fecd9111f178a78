"""SepViT: the network. Paper header, equations, configuration and cost: effvit.designs.sepvit.

Shapes in this file: B images, an H x W map of C channels, N = G_h * G_w windows of M_h x M_w
pixels, L tokens in a window (its pixels, after its window token if it has one), h heads of d
channels. Maps are channels-last, (B, H, W, C): linear layers and norms read them as they lie, and
convolutions see them as channels_last tensors without a copy.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from effvit.config import ConfigError, Resolution
from effvit.cost import ceil_div
from effvit.designs.sepvit import (
    EMBEDDING_KERNELS,
    STRIDES,
    BlockPlan,
    SepViTConfig,
    StagePlan,
)
from effvit.networks.layers import Attention, drop_path_rates, initialise

BLOCK_NORM_EPS = 1e-6
EMBEDDING_NORM_EPS = 1e-5
"""Released code: 1e-6 in blocks and at the end, torch's default in embeddings and on tokens."""


class PatchEmbedding(nn.Module):
    """Convolution and layer norm, (B, C_in, H, W) -> (B, H / stride, W / stride, C), rounded up.

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
        if not self.overlap:
            bottom, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
            if bottom or right:
                x = F.pad(x, (0, right, 0, bottom))
        x = self.conv(x).permute(0, 2, 3, 1)
        return self.norm(x)


class SeparableAttention(Attention):
    """Depthwise separable self-attention (DSSA); over larger windows, grouped (GSA).

    Paper section 3.3. Within windows (DSA), with window token t and pixels z, X = [t; z] normed:
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
    """Separable attention and MLP, both pre-norm with a shortcut (paper equations 2 to 5)."""

    def __init__(self, config: SepViTConfig, stage: int, plan: BlockPlan, drop_path: float) -> None:
        super().__init__()
        channels = config.widths[stage]
        self.plan = plan
        self.norm1 = nn.LayerNorm(channels, eps=BLOCK_NORM_EPS)
        self.attention = SeparableAttention(
            channels, config.heads[stage], plan, config.inner_shortcuts
        )
        self.norm2 = nn.LayerNorm(channels, eps=BLOCK_NORM_EPS)
        self.mlp = Mlp(channels, config.hidden_widths[stage])
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


class Stage(nn.Module):
    """Patch embedding and blocks; after the first block the conditional position encoding.

    The encoding (CPE, the PEG of CPVT) is a depthwise 3x3 convolution added to the map.
    """

    def __init__(
        self, config: SepViTConfig, index: int, plan: StagePlan, rates: list[float]
    ) -> None:
        super().__init__()
        inputs = config.widths[index - 1] if index else config.in_channels
        stride = STRIDES[index]
        kernel = EMBEDDING_KERNELS[index] if config.overlapping_patch_embedding else stride
        channels = config.widths[index]
        self.embed = PatchEmbedding(inputs, channels, kernel, stride)
        self.blocks = nn.ModuleList(
            Block(config, index, block, rate)
            for block, rate in zip(plan.blocks, rates, strict=True)
        )
        self.position = (
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            if config.conditional_position_encoding
            else None
        )
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H_in, W_in) -> (B, H, W, C)."""
        x = self.embed(x)
        for index, block in enumerate(self.blocks):
            recompute = self.grad_checkpointing
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            if index == 0 and self.position is not None:
                x = x + self.position(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x


class SepViT(nn.Module):
    """A SepViT of any configuration, for images of any size from 32 pixels.

    Calling it gives logits (B, num_classes). The methods follow timm's conventions for backbones.
    """

    def __init__(self, config: SepViTConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.num_features = self.head_hidden_size = config.widths[-1]
        self.feature_info = [
            {"num_chs": width, "reduction": 4 << index, "module": f"stages.{index}"}
            for index, width in enumerate(config.widths)
        ]
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        self.stages = nn.ModuleList(
            Stage(config, index, plan, list(itertools.islice(rates, len(plan.blocks))))
            for index, plan in enumerate(config.plan())
        )
        self.norm: nn.Module = nn.LayerNorm(self.num_features, eps=BLOCK_NORM_EPS)
        self.head_drop = nn.Dropout(config.drop_rate)
        self.head = self._classifier(config.num_classes)
        self.apply(initialise)
        # As maps are channels-last: kernels in that order need not be reordered at every call.
        self.to(memory_format=torch.channels_last)

    def _classifier(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Maps of the four stages before the final norm.

        Args:
            x: (B, in_channels, H, W).

        Returns:
            Maps (B, H / s, W / s, C) for s = 4, 8, 16, 32, sides rounded up.
        """
        maps = []
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
            x = x.permute(0, 3, 1, 2)
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Last map after the final norm, (B, H / 32, W / 32, C); earlier maps are not kept."""
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x).permute(0, 3, 1, 2)
        return self.norm(x.permute(0, 2, 3, 1))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Average over positions and classify, (B, H, W, C) -> (B, num_classes)."""
        x = self.head_drop(x.mean((1, 2)))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps of chosen stages, as timm's feature extraction asks for them.

        Args:
            x: (B, in_channels, H, W).
            indices: Stages; the last n for an integer n; all if not given.
            norm: Apply the final norm to the last stage's map.
            stop_early: Do not run stages after the last chosen one (needs ``intermediates_only``).
            output_fmt: ``NCHW`` or ``NHWC``.
            intermediates_only: Return only the maps.

        Returns:
            The maps, or the normed last map (B, H, W, C) and the maps.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ConfigError(f"output_fmt must be NCHW or NHWC, got {output_fmt!r}")
        last = len(self.stages) - 1
        if indices is None:
            chosen = list(range(last + 1))
        elif isinstance(indices, int):
            chosen = list(range(last + 1 - indices, last + 1))
        else:
            chosen = [index % (last + 1) for index in indices]
        stages = self.stages[: max(chosen) + 1] if stop_early else self.stages
        maps: list[Tensor] = []
        x = x.contiguous(memory_format=torch.channels_last)
        for index, stage in enumerate(stages):
            y = stage(x)
            x = y.permute(0, 3, 1, 2)
            if index in chosen:
                out = self.norm(y) if norm and index == last else y
                maps.append(out.permute(0, 3, 1, 2) if output_fmt == "NCHW" else out)
        return maps if intermediates_only else (self.norm(x.permute(0, 2, 3, 1)), maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the maps of the chosen stages; return their indices."""
        count = len(self.stages)
        chosen = (
            list(range(count - indices, count))
            if isinstance(indices, int)
            else [index % count for index in indices]
        )
        self.stages = self.stages[: max(chosen) + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return chosen

    def get_classifier(self) -> nn.Module:
        """The classifier."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; ``global_pool`` can only be the average."""
        if global_pool not in (None, "avg"):
            raise ConfigError(f"global_pool must be avg, got {global_pool!r}")
        self.num_classes = num_classes
        self.config = self.config.replace(num_classes=num_classes)
        self.head = self._classifier(num_classes)
        self.head.apply(initialise)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass instead of keeping their activations."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Window tokens and position encodings.

        The released code names both, on modules where timm does not look; the intent is kept.
        """
        return {
            name
            for name, _ in self.named_parameters()
            if name.endswith((".token", ".position.weight"))
        }

    def group_matcher(
        self, coarse: bool = False
    ) -> dict[str, str | list[tuple[str, tuple[int, ...] | None]]]:
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

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under the released code's names; see :mod:`effvit`."""
        mapped = {}
        unknown = []
        for name, tensor in state_dict.items():
            ours = from_official_name(name)
            if ours is None:
                unknown.append(name)
            else:
                mapped[ours] = self._fit_tokens(ours, tensor)
        expected = self.state_dict()
        unknown += [official_name(name) for name in mapped if name not in expected]
        missing = [official_name(name) for name in expected if name not in mapped]
        if unknown or missing:
            raise ConfigError(
                f"official checkpoint does not fit this network: unknown names {unknown}, "
                f"missing names {missing}"
            )
        wrong = [
            f"{official_name(name)} {tuple(tensor.shape)} for {tuple(expected[name].shape)}"
            for name, tensor in mapped.items()
            if tensor.shape != expected[name].shape
        ]
        if wrong:
            raise ConfigError(f"official checkpoint does not fit this network: shapes {wrong}")
        self.load_state_dict(mapped)

    def _fit_tokens(self, name: str, tensor: Tensor) -> Tensor:
        """Official tokens (1, N, 1, C) as ours (N', C), resampled from their square grid."""
        if not name.endswith(".token"):
            return tensor
        tokens = tensor[0]
        stage, block = (int(number) for number in re.findall(r"\d+", name)[:2])
        side = math.isqrt(len(tokens))
        grid = self.config.plan()[stage].blocks[block].grid
        if len(tokens) == grid[0] * grid[1] or side * side != len(tokens):
            return tokens
        return resample_tokens(tokens, (side, side), grid)


OFFICIAL_NAMES = (
    ("patch_embeds.{}.proj.{}", "stages.{}.embed.conv.{}"),
    ("patch_embeds.{}.norm.{}", "stages.{}.embed.norm.{}"),
    ("pos_block.{}.proj.0.{}", "stages.{}.position.{}"),
    ("blocks.{}.{}.win_tokens", "stages.{}.blocks.{}.token"),
    ("blocks.{}.{}.attn.DSA_qkv.{}", "stages.{}.blocks.{}.attention.qkv.{}"),
    ("blocks.{}.{}.attn.win_tokens_norm.{}", "stages.{}.blocks.{}.attention.token_norm.{}"),
    ("blocks.{}.{}.attn.PSA_qk.{}", "stages.{}.blocks.{}.attention.token_qk.{}"),
    ("blocks.{}.{}.attn.proj.{}", "stages.{}.blocks.{}.attention.proj.{}"),
    ("blocks.{}.{}.mlp.{}.{}", "stages.{}.blocks.{}.mlp.{}.{}"),
    ("blocks.{}.{}.{}.{}", "stages.{}.blocks.{}.{}.{}"),
    ("norm.{}", "norm.{}"),
    ("head.{}", "head.{}"),
)
"""Names in the released code and ours; a pair of braces stands for the same part in both."""


def from_official_name(name: str) -> str | None:
    """Our name of a tensor in the released code's ``state_dict``; None for an unknown form."""
    return _translate(name, OFFICIAL_NAMES)


def official_name(name: str) -> str:
    """The released code's name of one of our tensors; ours where it has none."""
    return _translate(name, ((ours, theirs) for theirs, ours in OFFICIAL_NAMES)) or name


def _translate(name: str, templates: Iterable[tuple[str, str]]) -> str | None:
    for source, target in templates:
        match = re.fullmatch(re.escape(source).replace(r"\{\}", r"([^.]+)"), name)
        if match:
            return target.format(*match.groups())
    return None
