"""SepViT: Separable Vision Transformer. The design: configuration, cost, published variants.

Paper: Li, Wang, Xia, Wu, Zheng, Wang, "SepViT: Separable Vision Transformer", arXiv 2203.15380
(v3 May 2022, v4 June 2023). The network itself is in :mod:`effvit.networks.sepvit`.

Depthwise separable self-attention (DSSA) works in one block, first within windows (depthwise
self-attention, DSA), then among them (pointwise self-attention, PSA), where each window is
represented by a token that took part in the window's own attention. Grouped self-attention (GSA)
is the same block over larger windows.

Costs of one block, with N windows of M x M pixels on an H x W map of C channels (paper section
3.2, where the letters DWA and PWA stand for DSA and PSA):

    DSA:  3 HW C^2 + 3 N C^2 + 2 N (M^2 + 1)^2 C
    PSA:    HW C^2 + 2 N C^2 + N^2 C + N HW C

The released classification code leaves out token and PSA where a block has a single window.

Windows at sizes they do not divide: the map is padded at the bottom and on the right. Padded
pixels are masked: no query attends to them in DSA, and PSA averages only over the windows that
have a real pixel at the position, so results do not depend on what the padding holds.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from effvit.config import ConfigError, Resolution
from effvit.cost import (
    ArrayLedger,
    Cost,
    CostArrays,
    Count,
    IntArray,
    Ledger,
    LedgerFactory,
    Operator,
    add_convolution,
    add_layer_norm,
    add_linear,
    add_matmul,
    ceil_div,
    in_chunks,
    smaller,
)
from effvit.designs.macro import (
    ALWAYS,
    DEPTHWISE,
    LEARNED,
    MULTI_WINDOW,
    NONE,
    REPRESENTATIONS,
    STAGES,
    ZERO,
    MacroColumns,
    MacroConfig,
    WindowRepresentation,
    macro_cost,
    macro_cost_arrays,
    stage_maps,
)
from effvit.designs.rules import check_count
from effvit.designs.tokens import add_mlp_branch


@functools.lru_cache(maxsize=4096)
def _written_out(pattern: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Window side of each of ``depth`` blocks that repeat a pattern."""
    return tuple(pattern[block % len(pattern)] for block in range(depth))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SepViTConfig(MacroConfig):
    """A SepViT, published or not. Defaults are SepViT-T.

    Attributes:
        windows: Window sides M in pixels of the stage's map, for each stage a pattern that repeats
            over its blocks: ``(7,)`` is DSSA throughout, ``(7, 14)`` alternates DSSA with GSA over
            groups of 2 x 2 windows. A window larger than the map is the whole map.
    """

    family: ClassVar[str] = "sepvit"

    windows: tuple[tuple[int, ...], ...] = ((7,), (7, 14), (7, 14), (7,))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("windows", self.windows, STAGES, "each of 4 stages")
        for pattern in self.windows:
            if not pattern or min(pattern) < 1:
                raise ConfigError(f"windows must be patterns of sides >= 1, got {self.windows!r}")

    def block_windows(self, stage: int) -> tuple[int, ...]:
        """Window side of each block of a stage, the pattern written out."""
        return _written_out(self.windows[stage], self.depths[stage])

    def plan(self) -> tuple[StagePlan, ...]:
        """Lay the network out: what each block is, at the design resolution."""
        stages = []
        for index, shape in enumerate(stage_maps(self.image_size)):
            blocks = tuple(self._block_plan(shape, side) for side in self.block_windows(index))
            stages.append(StagePlan(shape, blocks))
        return tuple(stages)

    def _block_plan(self, shape: Resolution, side: int) -> BlockPlan:
        window = (min(side, shape[0]), min(side, shape[1]))
        grid = (ceil_div(shape[0], window[0]), ceil_div(shape[1], window[1]))
        several = grid[0] * grid[1] > 1
        mixes = self.window_representation != "none" and (
            self.pointwise_attention == "always"
            or (self.pointwise_attention == "multi_window" and several)
        )
        return BlockPlan(window, grid, self.window_representation if mixes else "none")

    def canonical(self) -> SepViTConfig:
        """Write patterns out, cut windows to the map, drop a representation nothing reads."""
        plan = self.plan()
        changes: dict[str, object] = {
            "windows": tuple(tuple(max(block.window) for block in stage.blocks) for stage in plan)
        }
        mixing = [b for stage in plan for b in stage.blocks if b.representation != "none"]
        if not mixing:
            changes |= {"window_representation": "none", "pointwise_attention": "off"}
        elif all(block.grid != (1, 1) for block in mixing):
            changes["pointwise_attention"] = "multi_window"
        return self.replace(**changes)


@dataclasses.dataclass(frozen=True)
class BlockPlan:
    """One block at the design resolution.

    Attributes:
        window: Height and width of its windows, cut to the map.
        grid: Windows down and across.
        representation: How windows are represented in PSA; ``none`` where the block has no PSA.
    """

    window: Resolution
    grid: Resolution
    representation: WindowRepresentation

    @property
    def token(self) -> bool:
        """Whether a token sits among the window's pixels."""
        return self.representation in ("learned", "zero")


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage at the design resolution: the shape of its map, and its blocks."""

    shape: Resolution
    blocks: tuple[BlockPlan, ...]


# --- cost ---------------------------------------------------------------------------------------


def cost(config: SepViTConfig, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network; its parameters do not depend on ``resolution``.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1.
    """
    plan = config.plan()

    def add_block(
        ledger: Ledger, name: str, stage: int, block: int, shape: Resolution, held: int
    ) -> None:
        layout = plan[stage].blocks[block]
        _block_cost(
            ledger,
            name,
            shape=shape,
            channels=config.widths[stage],
            heads=config.heads[stage],
            hidden=config.hidden_widths[stage],
            window=layout.window,
            design_grid=layout.grid,
            representation=REPRESENTATIONS.index(layout.representation),
            pointwise=int(layout.representation != "none"),
            held=held,
        )

    return macro_cost(config, resolution, add_block)


def _block_cost(
    ledger: Ledger,
    name: str,
    *,
    shape: tuple[Count, Count],
    channels: Count,
    heads: Count,
    hidden: Count,
    window: tuple[Count, Count],
    design_grid: tuple[Count, Count],
    representation: Count,
    pointwise: Count,
    held: Count,
    repeat: Count = 1,
) -> None:
    """One block: attention and MLP; ``repeat`` such blocks. See :func:`add_separable_attention`."""
    tokens = add_separable_attention(
        ledger,
        name,
        shape=shape,
        channels=channels,
        heads=heads,
        window=window,
        design_grid=design_grid,
        representation=representation,
        pointwise=pointwise,
        held=held,
        repeat=repeat,
    )
    pixels = shape[0] * shape[1]
    add_mlp_branch(
        ledger,
        name,
        channels=channels,
        hidden=hidden,
        rows=pixels,
        held=held + tokens + pixels * channels,
        repeat=repeat,
    )


def add_separable_attention(
    ledger: Ledger,
    name: str,
    *,
    shape: tuple[Count, Count],
    channels: Count,
    heads: Count,
    window: tuple[Count, Count],
    design_grid: tuple[Count, Count],
    representation: Count,
    pointwise: Count,
    held: Count,
    repeat: Count = 1,
) -> Count:
    """Cost window tokens, the norm, DSA, PSA where ``pointwise`` is 1, and the projection.

    Args:
        ledger: Where to write.
        name: Place of the block in the network.
        shape: Height and width of the map.
        channels: Channels C.
        heads: Attention heads.
        window: Height and width of a window.
        design_grid: Windows down and across at the design resolution.
        representation: Index into :data:`REPRESENTATIONS`, read only where ``pointwise`` is 1.
        pointwise: 1 where windows are mixed, else 0.
        held: See :class:`BlockCost`.
        repeat: How many such blocks there are.

    Returns:
        Elements of the window tokens, which the block holds until its end.
    """
    pixels = shape[0] * shape[1]
    area = window[0] * window[1]
    grid = ceil_div(shape[0], window[0]), ceil_div(shape[1], window[1])
    windows = grid[0] * grid[1]
    learned = pointwise * (representation == LEARNED)
    token = learned + pointwise * (representation == ZERO)
    tokens = area + token  # in one window
    mixing = repeat * pointwise
    padded = 1 * (windows * area != pixels)

    attention = f"{name}.attention"
    ledger.add(
        f"{name}.token",
        Operator.PARAMETER,
        params=design_grid[0] * design_grid[1] * channels,
        repeat=repeat * learned,
    )
    resampled = 1 - (grid[0] == design_grid[0]) * (grid[1] == design_grid[1])
    ledger.add(
        f"{name}.resampling",
        Operator.RESAMPLE,
        elements=windows * channels,
        repeat=repeat * learned * resampled,
    )
    add_layer_norm(
        ledger, f"{name}.norm1", channels=channels, rows=pixels + windows * token, repeat=repeat
    )
    add_linear(
        ledger,
        f"{attention}.qkv",
        inputs=channels,
        outputs=3 * channels,
        rows=windows * tokens,
        repeat=repeat,
    )
    add_matmul(
        ledger,
        f"{attention}.window_scores",
        batch=windows * heads,
        rows=tokens,
        inner=channels // heads,
        columns=tokens,
        fused=True,
        repeat=repeat,
    )
    ledger.add(
        f"{attention}.window_softmax",
        Operator.SOFTMAX,
        elements=windows * heads * tokens * tokens,
        repeat=repeat,
    )
    add_matmul(
        ledger,
        f"{attention}.window_values",
        batch=windows * heads,
        rows=tokens,
        inner=tokens,
        columns=channels // heads,
        fused=True,
        repeat=repeat,
    )
    add_convolution(
        ledger,
        f"{attention}.representation",
        inputs=channels,
        outputs=channels,
        kernel=area,
        pixels=windows,
        groups=channels,
        repeat=mixing * (representation == DEPTHWISE),
    )
    add_layer_norm(
        ledger, f"{attention}.token_norm", channels=channels, rows=windows, repeat=mixing
    )
    ledger.add(
        f"{attention}.token_gelu",
        Operator.GELU,
        elements=windows * channels,
        repeat=mixing,
    )
    add_linear(
        ledger,
        f"{attention}.token_qk",
        inputs=channels,
        outputs=2 * channels,
        rows=windows,
        repeat=mixing,
    )
    add_matmul(
        ledger,
        f"{attention}.point_scores",
        batch=heads,
        rows=windows,
        inner=channels // heads,
        columns=windows,
        repeat=mixing,
    )
    ledger.add(
        f"{attention}.point_softmax",
        Operator.SOFTMAX,
        elements=windows * windows * heads,
        repeat=mixing,
    )
    add_matmul(
        ledger,
        f"{attention}.point_values",
        batch=heads,
        rows=windows,
        inner=windows,
        columns=area * (channels // heads),
        repeat=mixing,
    )
    # The share of real pixels, by which PSA's averages over padded windows are divided.
    add_matmul(
        ledger,
        f"{attention}.point_mask",
        batch=heads,
        rows=windows,
        inner=windows,
        columns=area,
        repeat=mixing * padded,
    )
    add_linear(
        ledger, f"{attention}.proj", inputs=channels, outputs=channels, rows=pixels, repeat=repeat
    )
    token_map = windows * token * channels
    _live_in_attention(
        ledger,
        held=held + token_map,
        map_elements=pixels * channels,
        token_elements=windows * tokens * channels,
        value_elements=windows * area * channels,
        weight_elements=windows * windows * heads,
        identity_elements=windows * windows,
        mixing=mixing,
        repeat=repeat,
    )
    return token_map


def _live_in_attention(
    ledger: Ledger,
    *,
    held: Count,
    map_elements: Count,
    token_elements: Count,
    value_elements: Count,
    weight_elements: Count,
    identity_elements: Count,
    mixing: Count,
    repeat: Count,
) -> None:
    """Elements alive at the moments of attention that can be the worst, in an eager forward pass.

    ``held`` is alive throughout the block. The block's input is too, since its caller holds it, and
    so is the normed map throughout the attention, that it is passed to. Not counted: masks and what
    kernels allocate inside.
    """
    attention = held + 2 * map_elements
    # Fused attention: windows, query, key, value, output.
    ledger.live(attention + 5 * token_elements, repeat)
    # PSA: features, value vectors, the weights before and after the shortcut's identity is added.
    weighing = 2 * weight_elements + identity_elements
    ledger.live(attention + token_elements + value_elements + weighing, mixing)
    # PSA: features, value vectors, weights, mixed value vectors.
    ledger.live(attention + token_elements + 2 * value_elements + weight_elements, mixing)


# --- many networks at once ----------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def window_kinds(pattern: tuple[int, ...], depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Distinct window sides of a stage, ascending, and how many blocks have each.

    Args:
        pattern: Window sides that repeat over its blocks.
        depth: Blocks of the stage.
    """
    sides = _written_out(pattern, depth)
    distinct = tuple(sorted(set(sides)))
    return distinct, tuple(map(sides.count, distinct))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SepViTColumns(MacroColumns):
    """Many configurations as columns.

    Attributes:
        windows: (n, 4, k), distinct window sides of a stage; unused entries repeat a used one.
        counts: (n, 4, k), blocks of the stage with that window; 0 where unused.
    """

    windows: IntArray
    counts: IntArray

    @classmethod
    def from_configs(cls, configs: Sequence[SepViTConfig]) -> SepViTColumns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        kinds = [
            [window_kinds(*stage) for stage in zip(config.windows, config.depths, strict=True)]
            for config in configs
        ]
        most = max(len(sides) for stages in kinds for sides, _ in stages)
        windows = [
            [sides + sides[:1] * (most - len(sides)) for sides, _ in stages] for stages in kinds
        ]
        counts = [[times + (0,) * (most - len(times)) for _, times in stages] for stages in kinds]
        return cls(
            windows=np.array(windows, np.int64),
            counts=np.array(counts, np.int64),
            **cls.stacked(configs),
        )


@in_chunks
def cost_arrays(
    columns: SepViTColumns,
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
    designs = stage_maps(columns.image_size)

    def add_blocks(ledger: ArrayLedger, stage: int, shape: Resolution, held: Count) -> None:
        design = designs[stage]
        for kind in range(columns.windows.shape[2]):
            side = columns.windows[:, stage, kind]
            window = (smaller(side, design[0]), smaller(side, design[1]))
            grid = ceil_div(design[0], window[0]), ceil_div(design[1], window[1])
            several = grid[0] * grid[1] > 1
            _block_cost(
                ledger,
                "",
                shape=shape,
                channels=columns.widths[:, stage],
                heads=columns.heads[:, stage],
                hidden=columns.hidden[:, stage],
                window=window,
                design_grid=grid,
                representation=columns.representation,
                pointwise=(columns.representation != NONE)
                * ((columns.pointwise == ALWAYS) | (columns.pointwise == MULTI_WINDOW) & several),
                held=held,
                repeat=columns.counts[:, stage, kind],
            )

    return macro_cost_arrays(columns, resolution, add_blocks, ledgers)


# --- published variants -------------------------------------------------------------------------

VARIANTS: dict[str, SepViTConfig] = {
    "sepvit_lite": SepViTConfig(widths=(32, 64, 128, 256), depths=(1, 2, 6, 2), heads=(1, 2, 4, 8)),
    "sepvit_tiny": SepViTConfig(
        widths=(96, 192, 384, 768), depths=(1, 2, 6, 2), heads=(3, 6, 12, 24), drop_path_rate=0.2
    ),
    "sepvit_small": SepViTConfig(
        widths=(96, 192, 384, 768), depths=(1, 2, 14, 2), heads=(3, 6, 12, 24), drop_path_rate=0.3
    ),
    "sepvit_base": SepViTConfig(
        widths=(128, 256, 512, 1024), depths=(1, 2, 14, 2), heads=(4, 8, 16, 32), drop_path_rate=0.5
    ),
}
"""Paper Table 1 (v3), equal to the released code. Drop path: paper section 4.1."""
