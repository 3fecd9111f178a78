"""CSWin Transformer. The design: configuration, cost, published variants.

Paper: Dong, Bao, Chen, Zhang, Yu, Yuan, Chen, Guo, "CSWin Transformer: A General Vision Transformer
Backbone with Cross-Shaped Windows", arXiv 2107.00652 (v3 January 2022), CVPR 2022. The network
itself is in :mod:`effvit.networks.cswin`.

Cross-shaped window self-attention splits the heads into two branches of half of the channels each.
The first attends within vertical stripes, sw pixels wide and as high as the map; the second within
horizontal stripes, sw pixels high and as wide as the map. Locally-enhanced positional encoding
(LePE) adds a depthwise 3x3 convolution of the values, within each stripe:

    branch(x) = softmax(Q K^T / sqrt(d)) V + LePE(V),   out = [vertical(x), horizontal(x)] W_O

In the last stage, and where the design resolution's map is no larger than a stripe is wide, one
branch with all channels attends over the whole map. Blocks are pre-norm, x + attention(norm(x)),
then x + mlp(norm(x)).

Cost of the attention on an H x W map of C channels (paper section 3.2), in multiply-accumulates:

    HW C (4 C + sw H + sw W)

to which LePE adds 9 HW C; over the whole map, 4 HW C^2 + 2 (HW)^2 C + 9 HW C.

Stripes at sizes that sw does not divide: queries, keys and values are zero-padded at the bottom and
on the right. Padded pixels are masked: no query attends to them, and LePE reads zeros there, as it
does beyond the border of every stripe. A stripe is never wider than the map. The released network
is built for one size and runs only where stripes divide its maps; there this is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from effvit.config import ConfigError, ModelConfig, Resolution
from effvit.cost import (
    ArrayLedger,
    Columns,
    Cost,
    CostArrays,
    Count,
    IntArray,
    Ledger,
    LedgerFactory,
    OperationLedger,
    Operator,
    add_convolution,
    add_layer_norm,
    add_linear,
    ceil_div,
    shared_settings,
    smaller,
)
from effvit.designs.blocks import Shape
from effvit.designs.rules import check_entries, checked_ratio
from effvit.designs.tokens import add_attention_products, add_mlp_branch

STAGES = 4
STEM_KERNEL, STEM_STRIDE, STEM_PADDING = 7, 4, 2
"""As released. At sides that 4 does not divide the map's are (side + 1) // 4."""

MERGE_KERNEL, MERGE_STRIDE = 3, 2
"""Of the convolution between stages, padded by 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CSWinConfig(ModelConfig):
    """A CSWin Transformer, published or not. Defaults are CSWin-T.

    Attributes:
        widths: Channels C of the four stages.
        depths: Blocks of each stage.
        heads: Attention heads of each stage, in both branches together; must divide the widths,
            and be even where there are two branches.
        splits: Widths sw of the stripes in stages 1, 2 and 3, in pixels of the map. Stage 4 has
            none.
        mlp_ratio: Hidden width of the MLP over C.
    """

    family: ClassVar[str] = "cswin"

    widths: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (1, 2, 21, 1)
    heads: tuple[int, ...] = (2, 4, 8, 16)
    splits: tuple[int, ...] = (1, 2, 7)
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("widths", "depths", "heads"):
            check_entries(name, getattr(self, name), STAGES, "each of 4 stages")
        check_entries("splits", self.splits, STAGES - 1, "each of the first 3 stages")
        for width, heads, branches in zip(self.widths, self.heads, self.branches, strict=True):
            if heads % branches:
                raise ConfigError(
                    f"heads must be even where there are two branches, got {heads} "
                    f"(nearest valid: {heads + 1})"
                )
            if width % heads:
                raise ConfigError(
                    f"width must be divisible by heads, got {width} and {heads} "
                    f"(nearest valid width: {max(1, round(width / heads)) * heads})"
                )
        ratio = checked_ratio("mlp_ratio", self.mlp_ratio, self.widths)
        object.__setattr__(self, "mlp_ratio", ratio)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Hidden width of the MLP in each stage."""
        return tuple(int(width * self.mlp_ratio) for width in self.widths)

    @property
    def branches(self) -> tuple[int, ...]:
        """Branches of each stage: 2, or 1 where attention spans the whole map."""
        maps = stage_maps(self.image_size)[: STAGES - 1]
        striped = (
            2 if split < max(shape) else 1 for split, shape in zip(self.splits, maps, strict=True)
        )
        return (*striped, 1)

    def canonical(self) -> CSWinConfig:
        """Cut stripes to the map of the design resolution."""
        maps = stage_maps(self.image_size)[: STAGES - 1]
        return self.replace(
            splits=tuple(min(sw, max(shape)) for sw, shape in zip(self.splits, maps, strict=True))
        )


def stage_maps(resolution: Resolution) -> list[Resolution]:
    """Heights and widths of the four stages' maps, for strides 4, 8, 16 and 32."""
    reach = STEM_KERNEL - 2 * STEM_PADDING - STEM_STRIDE
    height, width = ((side - reach) // STEM_STRIDE for side in resolution)
    maps = [(height, width)]
    for _ in range(STAGES - 1):
        height, width = ceil_div(height, MERGE_STRIDE), ceil_div(width, MERGE_STRIDE)
        maps.append((height, width))
    return maps


# --- cost ---------------------------------------------------------------------------------------


def cost(config: CSWinConfig, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1.
    """
    ledger = OperationLedger()
    size = resolution or config.image_size
    maps = stage_maps(size)
    inputs: Count = config.in_channels
    image = inputs * size[0] * size[1]
    held = image
    for stage, shape in enumerate(maps):
        channels = config.widths[stage]
        map_elements = channels * shape[0] * shape[1]
        _embedding_cost(ledger, stage, inputs, channels, shape, held)
        held = image + (inputs * maps[stage - 1][0] * maps[stage - 1][1] if stage else 0)
        for block in range(config.depths[stage]):
            _block_cost(
                ledger,
                f"stages.{stage}.blocks.{block + (stage > 0)}",
                shape=shape,
                channels=channels,
                heads=config.heads[stage],
                hidden=config.hidden_widths[stage],
                split=config.splits[min(stage, STAGES - 2)],  # not read in the last stage
                whole=2 - config.branches[stage],
                held=held + map_elements * (1 + (block > 0 and stage == 0)),
            )
        inputs = channels
        held = image + map_elements
    _head_cost(ledger, inputs, maps[-1], config.num_classes)
    return ledger.total()


def _embedding_cost(
    ledger: Ledger, stage: int, inputs: Count, channels: Count, shape: Shape, held: Count
) -> None:
    """Convolution that shrinks the map, and layer norm; ``held`` includes its input."""
    name = f"stages.{stage}.blocks.0" if stage else "stem"
    pixels = shape[0] * shape[1]
    add_convolution(
        ledger,
        f"{name}.conv",
        inputs=inputs,
        outputs=channels,
        kernel=(MERGE_KERNEL if stage else STEM_KERNEL) ** 2,
        pixels=pixels,
    )
    add_layer_norm(ledger, f"{name}.norm", channels=channels, rows=pixels)
    ledger.live(held + 2 * pixels * channels)


def _block_cost(
    ledger: Ledger,
    name: str,
    *,
    shape: Shape,
    channels: Count,
    heads: Count,
    hidden: Count,
    split: Count,
    whole: Count,
    held: Count,
    repeat: Count = 1,
) -> None:
    """One block, with one branch where ``whole`` is 1, else two; ``repeat`` such blocks.

    ``held`` is the image, the stage's input and the block's.
    """
    pixels = shape[0] * shape[1]
    add_layer_norm(ledger, f"{name}.norm1", channels=channels, rows=pixels, repeat=repeat)
    add_cross_shaped_attention(
        ledger,
        f"{name}.attention",
        shape=shape,
        channels=channels,
        heads=heads,
        split=split,
        whole=whole,
        held=held,
        repeat=repeat,
    )
    add_mlp_branch(
        ledger, name, channels=channels, hidden=hidden, rows=pixels, held=held, repeat=repeat
    )


def add_cross_shaped_attention(
    ledger: Ledger,
    name: str,
    *,
    shape: Shape,
    channels: Count,
    heads: Count,
    split: Count,
    whole: Count,
    held: Count,
    repeat: Count = 1,
) -> None:
    """Cost cross-shaped window attention, without the norm before it.

    Args:
        ledger: Where to write.
        name: Place of the attention in the network.
        shape: Height and width of the map.
        channels: Channels C of all branches.
        heads: Heads of all branches.
        split: Width sw of the stripes.
        whole: 1 with one branch over the whole map, 0 with two.
        held: Elements alive throughout, the block's input included, its normed map not.
        repeat: How many such attentions there are.
    """
    pixels = shape[0] * shape[1]
    add_linear(
        ledger, f"{name}.qkv", inputs=channels, outputs=3 * channels, rows=pixels, repeat=repeat
    )
    vertical = (shape[0], smaller(split, shape[1]))
    horizontal = (smaller(split, shape[0]), shape[1])
    for branch, window, share, present in (
        (0, vertical, 2, repeat * (1 - whole)),
        (1, horizontal, 2, repeat * (1 - whole)),
        (0, shape, 1, repeat * whole),
    ):
        _branch_cost(
            ledger,
            f"{name}.branches.{branch}",
            shape=shape,
            window=window,
            channels=channels // share,
            heads=heads // share,
            # The normed map, query, key and value, the first branch's output.
            held=held + (8 + branch) * (pixels * channels) // 2,
            repeat=present,
        )
    add_linear(
        ledger, f"{name}.proj", inputs=channels, outputs=channels, rows=pixels, repeat=repeat
    )


def _branch_cost(
    ledger: Ledger,
    name: str,
    *,
    shape: Shape,
    window: Shape,
    channels: Count,
    heads: Count,
    held: Count,
    repeat: Count,
) -> None:
    """Attention within stripes of the shape ``window``, and LePE."""
    grid = ceil_div(shape[0], window[0]), ceil_div(shape[1], window[1])
    windows, area = grid[0] * grid[1], window[0] * window[1]
    add_attention_products(
        ledger,
        name,
        batch=windows,
        heads=heads,
        queries=area,
        keys=area,
        channels=channels,
        repeat=repeat,
    )
    add_convolution(
        ledger,
        f"{name}.lepe",
        inputs=channels,
        outputs=channels,
        kernel=9,
        pixels=windows * area,
        groups=channels,
        repeat=repeat,
    )
    # Horizontal stripes that need no padding are a view; all others copy query, key and value.
    copied = 1 - (grid[1] == 1) * (windows * area == shape[0] * shape[1])
    # Stripes, attention's output, LePE's, and their sum.
    ledger.live(held + (3 + 3 * copied) * windows * area * channels, repeat)


def _head_cost(ledger: Ledger, channels: Count, shape: Shape, classes: int) -> None:
    """Final norm, average over positions, classifier."""
    add_layer_norm(ledger, "norm", channels=channels, rows=shape[0] * shape[1])
    ledger.add("pool", Operator.POOL, elements=channels)
    if classes:
        add_linear(ledger, "head", inputs=channels, outputs=classes, rows=1)


# --- many networks at once ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class CSWinColumns(Columns):
    """Many configurations as columns: ``n`` networks of one design resolution.

    Attributes:
        widths: (n, 4). depths: (n, 4). heads: (n, 4). branches: (n, 4).
        hidden: (n, 4), width of the MLP's hidden layer.
        splits: (n, 3), widths of the stripes.
    """

    widths: IntArray
    depths: IntArray
    heads: IntArray
    branches: IntArray
    hidden: IntArray
    splits: IntArray

    @classmethod
    def from_configs(cls, configs: Sequence[CSWinConfig]) -> CSWinColumns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        return cls(
            widths=np.array([c.widths for c in configs], np.int64),
            depths=np.array([c.depths for c in configs], np.int64),
            heads=np.array([c.heads for c in configs], np.int64),
            branches=np.array([c.branches for c in configs], np.int64),
            hidden=np.array([c.hidden_widths for c in configs], np.int64),
            splits=np.array([c.splits for c in configs], np.int64),
            **shared_settings(configs),
        )


def cost_arrays(
    columns: CSWinColumns,
    resolution: Resolution | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Cost many networks at once with the formulas of :func:`cost`.

    Args:
        columns: The networks.
        resolution: Height and width of the input; the design resolution if not given.
        ledgers: What makes the ledger to write to.

    Returns:
        One entry a network, equal to what :func:`cost` says of it.
    """
    ledger = ledgers(len(columns))
    size = resolution or columns.image_size
    inputs: Count = columns.in_channels
    image = inputs * size[0] * size[1]
    held = image
    entered: Count = 0
    for stage, shape in enumerate(stage_maps(size)):
        channels, depths = columns.widths[:, stage], columns.depths[:, stage]
        map_elements = channels * shape[0] * shape[1]
        _embedding_cost(ledger, stage, inputs, channels, shape, held)
        # The first stage's input is the first block's own.
        beside = entered if stage else map_elements * (depths > 1)
        _block_cost(
            ledger,
            "",
            shape=shape,
            channels=channels,
            heads=columns.heads[:, stage],
            hidden=columns.hidden[:, stage],
            split=columns.splits[:, min(stage, STAGES - 2)],  # not read in the last stage
            whole=2 - columns.branches[:, stage],
            held=image + beside + map_elements,
            repeat=depths,
        )
        inputs, entered = channels, map_elements
        held = image + entered
    _head_cost(ledger, inputs, shape, columns.num_classes)
    return ledger.total()


# --- published variants -------------------------------------------------------------------------

VARIANTS: dict[str, CSWinConfig] = {
    "cswin_tiny": CSWinConfig(drop_path_rate=0.2),
    "cswin_small": CSWinConfig(depths=(2, 4, 32, 2), drop_path_rate=0.4),
    "cswin_base": CSWinConfig(
        widths=(96, 192, 384, 768),
        depths=(2, 4, 32, 2),
        heads=(4, 8, 16, 32),
        drop_path_rate=0.5,
    ),
}
"""Paper Table 1, equal to the released code at 224 x 224. Drop path: the released commands."""
