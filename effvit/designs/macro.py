"""SepViT's macro-architecture: what stays when blocks are exchanged. Configuration and cost.

Paper: Li et al., "SepViT: Separable Vision Transformer", arXiv 2203.15380, section 3.1. Four
stages, each an overlapping patch embedding and blocks, after the first of which a depthwise
convolution encodes positions; then a norm, the average over positions, and a linear classifier.
SepViT's own blocks are in :mod:`effvit.designs.sepvit`, others in :mod:`effvit.designs.hybrid`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np

from effvit.config import ConfigError, ModelConfig, Resolution, unknown_name
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
)
from effvit.designs.rules import check_entries, checked_ratio

WindowRepresentation = Literal["learned", "zero", "average", "depthwise", "none"]
"""How a window is represented among windows (paper section 4, Tables 6 and 7).

``learned``: a learned token for each window position, initially zero (LWT). ``zero``: a token fixed
to zero before the norm. ``average``: mean of the window's DSA output. ``depthwise``: depthwise
convolution over the window's DSA output, one M x M kernel a channel. ``none``: no representation,
hence window attention only.
"""

PointwiseAttention = Literal["multi_window", "always", "off"]
"""Which blocks mix windows: those with several windows (the released classification code), all
(the released detection code, where the number of windows varies), or none."""

STAGES = 4
STRIDES = (4, 2, 2, 2)
EMBEDDING_KERNELS = (7, 3, 3, 3)
"""Overlapping patch embedding: 7x7 stride 4, then 3x3 stride 2; kernel = stride without overlap."""

REPRESENTATIONS: tuple[str, ...] = get_args(WindowRepresentation)
POINTWISE: tuple[str, ...] = get_args(PointwiseAttention)
LEARNED, ZERO, AVERAGE, DEPTHWISE, NONE = range(len(REPRESENTATIONS))
MULTI_WINDOW, ALWAYS, OFF = range(len(POINTWISE))
CHOICES = {"window_representation": REPRESENTATIONS, "pointwise_attention": POINTWISE}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacroConfig(ModelConfig):
    """SepViT's macro-architecture, and what is the same in all its separable attention.

    Attributes:
        widths: Channels C of the four stages.
        depths: Blocks of each stage.
        heads: Attention heads of each stage; must divide the widths.
        mlp_ratio: Hidden width of the MLP over C.
        window_representation: See :data:`WindowRepresentation`.
        pointwise_attention: See :data:`PointwiseAttention`.
        overlapping_patch_embedding: Convolutions that overlap (OPE), or kernel = stride.
        conditional_position_encoding: Depthwise 3x3 convolution after each stage's first block.
        inner_shortcuts: Shortcuts around DSA and PSA inside the block: in the released code, not in
            the equations of arXiv v3.
    """

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (1, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    mlp_ratio: float = 4.0
    window_representation: WindowRepresentation = "learned"
    pointwise_attention: PointwiseAttention = "multi_window"
    overlapping_patch_embedding: bool = True
    conditional_position_encoding: bool = True
    inner_shortcuts: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("widths", "depths", "heads"):
            check_entries(name, getattr(self, name), STAGES, "each of 4 stages")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ConfigError(
                    f"width must be divisible by heads, got {width} and {heads} "
                    f"(nearest valid width: {max(1, round(width / heads)) * heads})"
                )
        ratio = checked_ratio("mlp_ratio", self.mlp_ratio, self.widths)
        object.__setattr__(self, "mlp_ratio", ratio)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Hidden width of the MLP in each stage."""
        return tuple(int(width * self.mlp_ratio) for width in self.widths)


def stage_maps(resolution: tuple[Count, Count]) -> list[tuple[Count, Count]]:
    """Heights and widths of the four stages' maps: strides 4, 8, 16, 32, rounded up."""
    height, width = resolution
    maps = []
    for stride in STRIDES:
        height, width = ceil_div(height, stride), ceil_div(width, stride)
        maps.append((height, width))
    return maps


# --- cost ---------------------------------------------------------------------------------------


class BlockCost(Protocol):
    """Writes the cost of one block."""

    def __call__(
        self, ledger: Ledger, name: str, stage: int, block: int, shape: Resolution, held: int
    ) -> None:
        """Cost block number ``block`` of a stage, whose place is ``name``, on a map.

        ``held`` is alive throughout the stage: the image, and the stage's input (for the first
        stage the image in channels_last order).
        """


def macro_cost(config: MacroConfig, resolution: Resolution | None, add_block: BlockCost) -> Cost:
    """Cost of a network of this macro-architecture, whatever its blocks are.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.
        add_block: Writes the cost of its blocks.
    """
    ledger = OperationLedger()
    inputs = config.in_channels
    size = resolution or config.image_size
    maps = stage_maps(size)
    image = stage_input = inputs * size[0] * size[1]
    for stage, shape in enumerate(maps):
        name, channels = f"stages.{stage}", config.widths[stage]
        held = image + stage_input
        overlap = config.overlapping_patch_embedding
        add_embedding(ledger, name, stage, inputs, channels, shape, overlap, held)
        for block in range(config.depths[stage]):
            add_block(ledger, f"{name}.blocks.{block}", stage, block, shape, held)
            if block == 0:
                present = int(config.conditional_position_encoding)
                add_position_encoding(ledger, name, channels, shape, present)
        inputs, stage_input = channels, channels * shape[0] * shape[1]
    add_head(ledger, inputs, maps[-1], config.num_classes)
    return ledger.total()


def add_embedding(
    ledger: Ledger,
    name: str,
    stage: int,
    inputs: Count,
    channels: Count,
    shape: tuple[Count, Count],
    overlap: Count,
    held: Count,
) -> None:
    """Patch embedding: convolution and layer norm; ``held`` includes its input."""
    stride, kernel = STRIDES[stage], EMBEDDING_KERNELS[stage]
    pixels = shape[0] * shape[1]
    add_convolution(
        ledger,
        f"{name}.embed.conv",
        inputs=inputs,
        outputs=channels,
        kernel=stride**2 + overlap * (kernel**2 - stride**2),
        pixels=pixels,
    )
    add_layer_norm(ledger, f"{name}.embed.norm", channels=channels, rows=pixels)
    ledger.live(held + 2 * pixels * channels)


def add_position_encoding(
    ledger: Ledger, name: str, channels: Count, shape: tuple[Count, Count], present: Count
) -> None:
    """Conditional position encoding: depthwise 3x3 convolution."""
    add_convolution(
        ledger,
        f"{name}.position",
        inputs=channels,
        outputs=channels,
        kernel=9,
        pixels=shape[0] * shape[1],
        groups=channels,
        repeat=present,
    )


def add_head(ledger: Ledger, channels: Count, shape: tuple[Count, Count], classes: int) -> None:
    """Final norm, average over positions, classifier."""
    add_layer_norm(ledger, "norm", channels=channels, rows=shape[0] * shape[1])
    ledger.add("pool", Operator.POOL, elements=channels)
    if classes:
        add_linear(ledger, "head", inputs=channels, outputs=classes, rows=1)


# --- many networks at once ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacroColumns(Columns):
    """Many networks of this macro-architecture as columns: ``n``, of one design resolution.

    Attributes:
        widths: (n, 4). heads: (n, 4). hidden: (n, 4), width of the MLP's hidden layer.
        representation: (n,), index into :data:`REPRESENTATIONS`.
        pointwise: (n,), index into :data:`POINTWISE`.
        overlap: (n,), 1 with overlapping patch embedding. position: (n,), 1 with position encoding.
    """

    widths: IntArray
    heads: IntArray
    hidden: IntArray
    representation: IntArray
    pointwise: IntArray
    overlap: IntArray
    position: IntArray

    @staticmethod
    def stacked(configs: Sequence[MacroConfig]) -> dict[str, Any]:
        """The fields above, of configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        return {
            "widths": np.array([c.widths for c in configs], np.int64),
            "heads": np.array([c.heads for c in configs], np.int64),
            "hidden": np.array([c.hidden_widths for c in configs], np.int64),
            "representation": np.array(
                [REPRESENTATIONS.index(c.window_representation) for c in configs], np.int64
            ),
            "pointwise": np.array(
                [POINTWISE.index(c.pointwise_attention) for c in configs], np.int64
            ),
            "overlap": np.array([c.overlapping_patch_embedding for c in configs], np.int64),
            "position": np.array([c.conditional_position_encoding for c in configs], np.int64),
            **shared_settings(configs),
        }


class StageCost(Protocol):
    """Writes the cost of all blocks of a stage of many networks; see :class:`BlockCost`."""

    def __call__(self, ledger: ArrayLedger, stage: int, shape: Resolution, held: Count) -> None:
        """Cost the blocks on a map of the given shape."""


def macro_cost_arrays(
    columns: MacroColumns,
    resolution: Resolution | None,
    add_blocks: StageCost,
    ledgers: LedgerFactory,
) -> CostArrays:
    """Cost many networks of this macro-architecture, whatever their blocks are.

    Args:
        columns: The networks.
        resolution: Height and width of the input; the design resolution if not given.
        add_blocks: Writes the cost of their blocks.
        ledgers: What makes the ledger to write to.
    """
    ledger = ledgers(len(columns))
    inputs: Count = columns.in_channels
    size = resolution or columns.image_size
    maps = stage_maps(size)
    image = stage_input = inputs * size[0] * size[1]
    for stage, shape in enumerate(maps):
        channels = columns.widths[:, stage]
        held = image + stage_input
        add_embedding(ledger, "", stage, inputs, channels, shape, columns.overlap, held)
        add_position_encoding(ledger, "", channels, shape, columns.position)
        add_blocks(ledger, stage, shape, held)
        inputs, stage_input = channels, channels * shape[0] * shape[1]
    add_head(ledger, inputs, maps[-1], columns.num_classes)
    return ledger.total()
