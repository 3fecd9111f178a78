"""AutoFormer: the network. Paper header, formulas and cost: effvit.designs.autoformer.

Shapes in this file: B images, an H x W grid of patches, N = 1 + H W tokens of C channels with the
class token first, h heads of d channels, R rows of a table of relative positions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.layers import Mlp, PatchEmbed, drop_path, trunc_normal_
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from effvit.config import Resolution
from effvit.designs.autoformer import CLASS_TOKENS, PATCH, AutoFormerConfig, patch_grid
from effvit.networks.backbone import Backbone, GlobalAverage, LayerGroups, Layout, Stage
from effvit.networks.layers import Attention, drop_path_rates

NORM_EPS = 1e-5
TOKEN_DEVIATION = 0.02


class RelativeAttention(Attention):
    """Softmax attention over all tokens, with relative positions of keys and values or without.

        score(i, j) = q_i (k_j + r^K_ij) / sqrt(d),    out_i = sum_j a_ij (v_j + r^V_ij)

    With relative positions the attention matrix is always formed: values need it.

    Args:
        channels: Channels C.
        heads: Heads h.
        head_width: Channels d of a head.
        reach: Largest distance with relative positions of its own; 0 is without.
    """

    relative_keys: nn.Parameter | None
    relative_values: nn.Parameter | None

    def __init__(self, channels: int, heads: int, head_width: int, reach: int) -> None:
        super().__init__()
        self.heads = heads
        self.reach = reach
        self.rows = 2 * reach + 1 + CLASS_TOKENS
        self.qkv = nn.Linear(channels, 3 * heads * head_width)
        self.proj = nn.Linear(heads * head_width, channels)
        for name in ("relative_keys", "relative_values"):
            table = nn.Parameter(torch.zeros(2 * self.rows, head_width)) if reach else None
            self.register_parameter(name, table)
            if table is not None:
                trunc_normal_(table, std=TOKEN_DEVIATION)

    def forward(self, x: Tensor, grid: Resolution) -> Tensor:
        """Attend: (B, N, C) -> (B, N, C), for patches of this grid."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.relative_keys is None or self.relative_values is None:
            attended = self.attend(query, key, value, None)
        else:
            attended = self._relate(
                query, key, value, (self.relative_keys, self.relative_values), grid
            )
        return self.proj(attended.transpose(1, 2).flatten(2))

    def _relate(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tables: tuple[Tensor, Tensor],
        grid: Resolution,
    ) -> Tensor:
        """Attend with relative positions: (B, h, N, d) each -> (B, h, N, d).

        Args:
            query: Queries.
            key: Keys.
            value: Values.
            tables: (2 R, d) of keys and of values; vertical distances first, then horizontal.
            grid: Rows and columns of patches.
        """
        rows = [
            index.expand(*query.shape[:2], -1, -1)
            for index in relative_rows(grid, self.reach, query.device)
        ]
        query = query * query.shape[-1] ** -0.5
        by_row = query @ tables[0].transpose(0, 1)
        scores = query @ key.transpose(-2, -1)
        for index in rows:
            scores = scores + by_row.gather(-1, index)
        weights = scores.softmax(-1)
        summed = torch.zeros_like(by_row)
        for index in rows:
            summed = summed.scatter_add(-1, index, weights)
        return weights @ value + summed @ tables[1]


def relative_rows(
    grid: Resolution, reach: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Rows of a table (2 R, d) that pairs of tokens read: for vertical and horizontal distances.

    The first row of each half is that of all pairs with the class token; then come distances from
    ``-reach`` to ``reach``, to which larger ones are cut.

    Returns:
        Two (N, N) matrices of integers.
    """
    height, width = grid
    places = torch.arange(height * width, device=device)
    found = []
    for half, axis in enumerate((places // width, places % width)):
        distance = (axis[None, :] - axis[:, None]).clamp(-reach, reach) + reach + CLASS_TOKENS
        padded = F.pad(distance, (CLASS_TOKENS, 0, CLASS_TOKENS, 0))
        found.append(padded + half * (2 * reach + 1 + CLASS_TOKENS))
    return found[0], found[1]


class Layer(nn.Module):
    """Attention and MLP, both pre-norm with a shortcut."""

    def __init__(self, config: AutoFormerConfig, index: int, drop_path: float) -> None:
        super().__init__()
        channels = config.width
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.attention = RelativeAttention(
            channels, config.heads[index], config.head_widths[index], config.relative_reach
        )
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = Mlp(channels, config.hidden_widths[index])
        self.drop_path_rate = drop_path

    def forward(self, x: Tensor, grid: Resolution) -> Tensor:
        """(B, N, C) -> (B, N, C), for patches of this grid."""
        x = x + self._dropped(self.attention(self.norm1(x), grid))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path_rate, self.training)


class Layers(Stage):
    """The class token and positions, and all layers: (B, H, W, C) -> (B, H, W, C).

    Args:
        layers: The layers.
        width: Channels C.
        grid: Rows and columns of patches of the design resolution.
    """

    def __init__(self, layers: Iterable[nn.Module], width: int, grid: Resolution) -> None:
        super().__init__(layers)
        self.grid = grid
        self.class_token = nn.Parameter(torch.zeros(1, CLASS_TOKENS, width))
        self.position = nn.Parameter(torch.zeros(1, CLASS_TOKENS + grid[0] * grid[1], width))
        for token in (self.class_token, self.position):
            trunc_normal_(token, std=TOKEN_DEVIATION)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers; the class token is left behind."""
        grid = (x.shape[1], x.shape[2])
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), x.flatten(1, 2)], 1)
        tokens = tokens + self._positions(grid)
        for layer in self.blocks:
            if self.grad_checkpointing:
                tokens = checkpoint(layer, tokens, grid, use_reentrant=False)
            else:
                tokens = layer(tokens, grid)
        return tokens[:, CLASS_TOKENS:].unflatten(1, grid)

    def _positions(self, grid: Resolution) -> Tensor:
        """Positions (1, N, C) of a grid, those of patches resampled bilinearly."""
        if grid == self.grid:
            return self.position
        first, patches = self.position.split([CLASS_TOKENS, self.grid[0] * self.grid[1]], 1)
        maps = patches.transpose(1, 2).unflatten(2, self.grid)
        maps = F.interpolate(maps, grid, mode="bilinear", align_corners=False)
        return torch.cat([first, maps.flatten(2).transpose(1, 2)], 1)


class AutoFormer(Backbone[AutoFormerConfig]):
    """An AutoFormer: one stage of layers that differ; see :mod:`effvit.designs.autoformer`."""

    layout: ClassVar[Layout] = "NHWC"

    def __init__(self, config: AutoFormerConfig) -> None:
        super().__init__(config, (config.width,), (PATCH,), config.width)
        rates = drop_path_rates(config.drop_path_rate, config.depth)
        layers = [Layer(config, index, rate) for index, rate in enumerate(rates)]
        self.finish(
            stem=PatchEmbed(
                img_size=None,
                patch_size=PATCH,
                in_chans=config.in_channels,
                embed_dim=config.width,
                output_fmt="NHWC",
                dynamic_img_pad=True,
            ),
            stages=[Layers(layers, config.width, patch_grid(config.image_size))],
            neck=GlobalAverage("NHWC"),
            norm=nn.LayerNorm(config.width, eps=NORM_EPS),
        )

    def no_weight_decay(self) -> set[str]:
        """Positions and the class token, as released."""
        exempt = ("class_token", "position", "relative_keys", "relative_values")
        return {name for name, _ in self.named_parameters() if name.endswith(exempt)}

    def group_matcher(self, coarse: bool = False) -> LayerGroups:
        """Parameter groups for layer-wise learning rates: stem and tokens, then layers in order."""
        groups = super().group_matcher(coarse)
        return {**groups, "stem": r"^stem|^stages\.0\.(?:class_token|position)$"}
