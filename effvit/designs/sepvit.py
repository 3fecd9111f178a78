"""SepViT: Separable Vision Transformer. The design: configuration, cost, published variants.

Paper: Li, Wang, Xia, Wu, Zheng, Wang, "SepViT: Separable Vision Transformer", arXiv 2203.15380
(v3 May 2022, v4 June 2023). The network itself is in :mod:`effvit.networks.sepvit`.

Depthwise separable self-attention (DSSA) works in one block, first within windows (depthwise
self-attention, DSA), then among them (pointwise self-attention, PSA), where each window is
represented by a token that took part in the window's own attention. Grouped self-attention (GSA)
is the same block over larger windows.

Costs of one block, with N windows of M x M pixels on an H x W map of C channels (paper section
3.3, equations 6 and 7, where the letters DWA and PWA stand for DSA and PSA):

    DSA:  3 HW C^2 + 3 N C^2 + 2 N (M^2 + 1)^2 C
    PSA:    HW C^2 + 2 N C^2 + N^2 C + N HW C

The released classification code leaves out token and PSA where a block has a single window.

Windows at sizes they do not divide: the map is padded at the bottom and on the right. Padded
pixels are masked: no query attends to them in DSA, and PSA averages only over the windows that
have a real pixel at the position, so results do not depend on what the padding holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import numpy as np

from effvit.config import ConfigError, ModelConfig, Resolution, unknown_name
from effvit.cost import (
    ArrayLedger,
    Cost,
    CostArrays,
    Count,
    IntArray,
    Ledger,
    OperationLedger,
    Operator,
    add_convolution,
    add_layer_norm,
    add_linear,
    add_matmul,
    ceil_div,
    in_chunks,
    shared_settings,
    smaller,
)
from effvit.designs.rules import check_count, check_entries, checked_ratio

WindowRepresentation = Literal["learned", "zero", "average", "depthwise", "none"]
"""How a window is represented among windows (paper section 4.5, Tables 6 and 7).

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
class SepViTConfig(ModelConfig):
    """A SepViT, published or not. Defaults are SepViT-T.

    Attributes:
        widths: Channels C of the four stages.
        depths: Blocks of each stage.
        heads: Attention heads of each stage; must divide the widths.
        windows: Window sides M in pixels of the stage's map, for each stage a pattern that repeats
            over its blocks: ``(7,)`` is DSSA throughout, ``(7, 14)`` alternates DSSA with GSA over
            groups of 2 x 2 windows. A window larger than the map is the whole map.
        mlp_ratio: Hidden width of the MLP over C.
        window_representation: See :data:`WindowRepresentation`.
        pointwise_attention: See :data:`PointwiseAttention`.
        overlapping_patch_embedding: Convolutions that overlap (OPE), or kernel = stride.
        conditional_position_encoding: Depthwise 3x3 convolution after each stage's first block.
        inner_shortcuts: Shortcuts around DSA and PSA inside the block: in the released code, not in
            the equations of arXiv v3.
    """

    family: ClassVar[str] = "sepvit"

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (1, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    windows: tuple[tuple[int, ...], ...] = ((7,), (7, 14), (7, 14), (7,))
    mlp_ratio: float = 4.0
    window_representation: WindowRepresentation = "learned"
    pointwise_attention: PointwiseAttention = "multi_window"
    overlapping_patch_embedding: bool = True
    conditional_position_encoding: bool = True
    inner_shortcuts: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_stages()
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

    def _check_stages(self) -> None:
        for name in ("widths", "depths", "heads"):
            check_entries(name, getattr(self, name), STAGES, "each of 4 stages")
        check_count("windows", self.windows, STAGES, "each of 4 stages")
        for pattern in self.windows:
            if not pattern or min(pattern) < 1:
                raise ConfigError(f"windows must be patterns of sides >= 1, got {self.windows!r}")

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Hidden width of the MLP in each stage."""
        return tuple(int(width * self.mlp_ratio) for width in self.widths)

    def block_windows(self, stage: int) -> tuple[int, ...]:
        """Window side of each block of a stage, the pattern written out."""
        pattern = self.windows[stage]
        return tuple(pattern[block % len(pattern)] for block in range(self.depths[stage]))

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
        windows = tuple(tuple(max(block.window) for block in stage.blocks) for stage in plan)
        written = self.replace(windows=windows)
        for pointwise in ("off", "multi_window"):
            simpler = written.replace(pointwise_attention=pointwise)
            if simpler.plan() == plan:
                unread = pointwise == "off"
                return simpler.replace(window_representation="none") if unread else simpler
        return written


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


def stage_maps(resolution: tuple[Count, Count]) -> list[tuple[Count, Count]]:
    """Heights and widths of the four stages' maps: strides 4, 8, 16, 32, rounded up."""
    height, width = resolution
    maps = []
    for stride in STRIDES:
        height, width = ceil_div(height, stride), ceil_div(width, stride)
        maps.append((height, width))
    return maps


# --- cost ---------------------------------------------------------------------------------------


def cost(config: SepViTConfig, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network; its parameters do not depend on ``resolution``.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1.
    """
    ledger = OperationLedger()
    inputs = config.in_channels
    size = resolution or config.image_size
    maps = stage_maps(size)
    image = stage_input = inputs * size[0] * size[1]
    for index, (stage, shape) in enumerate(zip(config.plan(), maps, strict=True)):
        name = f"stages.{index}"
        channels = config.widths[index]
        overlap = config.overlapping_patch_embedding
        held = image + stage_input
        _embedding_cost(ledger, name, index, inputs, channels, shape, overlap, held)
        for block, plan in enumerate(stage.blocks):
            _block_cost(
                ledger,
                f"{name}.blocks.{block}",
                shape=shape,
                channels=channels,
                heads=config.heads[index],
                hidden=config.hidden_widths[index],
                window=plan.window,
                design_grid=plan.grid,
                representation=REPRESENTATIONS.index(plan.representation),
                pointwise=int(plan.representation != "none"),
                held=held,
            )
            if block == 0:
                _position_cost(
                    ledger, name, channels, shape, int(config.conditional_position_encoding)
                )
        inputs = channels
        stage_input = channels * shape[0] * shape[1]
    _head_cost(ledger, inputs, maps[-1], config.num_classes)
    return ledger.total()


def _embedding_cost(
    ledger: Ledger,
    name: str,
    stage: int,
    inputs: Count,
    channels: Count,
    shape: tuple[Count, Count],
    overlap: Count,
    held: Count,
) -> None:
    """Patch embedding: convolution and layer norm; for ``held`` see :func:`_live_in_block`."""
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


def _position_cost(
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


def _head_cost(ledger: Ledger, channels: Count, shape: tuple[Count, Count], classes: int) -> None:
    """Final norm, average over positions, classifier."""
    add_layer_norm(ledger, "norm", channels=channels, rows=shape[0] * shape[1])
    ledger.add("pool", Operator.POOL, elements=channels)
    if classes:
        add_linear(ledger, "head", inputs=channels, outputs=classes, rows=1)


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
    """One block: DSA, PSA where ``pointwise`` is 1, projection, MLP; ``repeat`` such blocks.

    ``representation`` is an index into :data:`REPRESENTATIONS`, read only where ``pointwise`` is 1.
    For ``held`` see :func:`_live_in_block`.
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
    add_layer_norm(ledger, f"{name}.norm2", channels=channels, rows=pixels, repeat=repeat)
    add_linear(
        ledger, f"{name}.mlp.fc1", inputs=channels, outputs=hidden, rows=pixels, repeat=repeat
    )
    ledger.add(f"{name}.mlp.act", Operator.GELU, elements=pixels * hidden, repeat=repeat)
    add_linear(
        ledger, f"{name}.mlp.fc2", inputs=hidden, outputs=channels, rows=pixels, repeat=repeat
    )
    _live_in_block(
        ledger,
        held=held + windows * token * channels,
        map_elements=pixels * channels,
        token_elements=windows * tokens * channels,
        value_elements=windows * area * channels,
        weight_elements=windows * windows * heads,
        identity_elements=windows * windows,
        hidden_elements=pixels * hidden,
        mixing=mixing,
        repeat=repeat,
    )


def _live_in_block(
    ledger: Ledger,
    *,
    held: Count,
    map_elements: Count,
    token_elements: Count,
    value_elements: Count,
    weight_elements: Count,
    identity_elements: Count,
    hidden_elements: Count,
    mixing: Count,
    repeat: Count,
) -> None:
    """Elements alive at the moments of a block that can be the worst, in an eager forward pass.

    ``held`` is alive throughout the stage: the image, and the stage's input (for the first stage
    the image in channels_last order). The block's input is alive throughout the block, since its
    caller holds it, and so is a normed map throughout the attention or MLP that it is passed to.
    Not counted: masks and what kernels allocate inside.
    """
    attention = held + 2 * map_elements
    # Fused attention: windows, query, key, value, output.
    ledger.live(attention + 5 * token_elements, repeat)
    # PSA: features, value vectors, the weights before and after the shortcut's identity is added.
    weighing = 2 * weight_elements + identity_elements
    ledger.live(attention + token_elements + value_elements + weighing, mixing)
    # PSA: features, value vectors, weights, mixed value vectors.
    ledger.live(attention + token_elements + 2 * value_elements + weight_elements, mixing)
    # MLP: the block's input, the attention's sum, the normed map, GELU's input and output.
    ledger.live(held + 3 * map_elements + 2 * hidden_elements, repeat)


# --- many networks at once ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SepViTColumns:
    """Many configurations as columns: ``n`` networks of one design resolution.

    Attributes:
        widths: (n, 4). heads: (n, 4). hidden: (n, 4), width of the MLP's hidden layer.
        windows: (n, 4, k), distinct window sides of a stage; unused entries repeat a used one.
        counts: (n, 4, k), blocks of the stage with that window; 0 where unused.
        representation: (n,), index into :data:`REPRESENTATIONS`.
        pointwise: (n,), index into :data:`POINTWISE`.
        overlap: (n,), 1 with overlapping patch embedding. position: (n,), 1 with position encoding.
        image_size: Design resolution. in_channels, num_classes: as in the configuration.
    """

    widths: IntArray
    heads: IntArray
    hidden: IntArray
    windows: IntArray
    counts: IntArray
    representation: IntArray
    pointwise: IntArray
    overlap: IntArray
    position: IntArray
    image_size: Resolution = (224, 224)
    in_channels: int = 3
    num_classes: int = 1000

    def __len__(self) -> int:
        return len(self.widths)

    @classmethod
    def from_configs(cls, configs: Sequence[SepViTConfig]) -> SepViTColumns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        image_size, in_channels, num_classes = shared_settings(configs)
        patterns = [
            [sorted(set(config.block_windows(stage))) for stage in range(STAGES)]
            for config in configs
        ]
        kinds = max(len(sides) for stages in patterns for sides in stages)
        windows = np.empty((len(configs), STAGES, kinds), np.int64)
        counts = np.zeros_like(windows)
        for row, (config, stages) in enumerate(zip(configs, patterns, strict=True)):
            for stage, sides in enumerate(stages):
                blocks = config.block_windows(stage)
                windows[row, stage] = sides[0]
                windows[row, stage, : len(sides)] = sides
                counts[row, stage, : len(sides)] = [blocks.count(side) for side in sides]
        return cls(
            widths=np.array([c.widths for c in configs], np.int64),
            heads=np.array([c.heads for c in configs], np.int64),
            hidden=np.array([c.hidden_widths for c in configs], np.int64),
            windows=windows,
            counts=counts,
            representation=np.array(
                [REPRESENTATIONS.index(c.window_representation) for c in configs], np.int64
            ),
            pointwise=np.array([POINTWISE.index(c.pointwise_attention) for c in configs], np.int64),
            overlap=np.array([c.overlapping_patch_embedding for c in configs], np.int64),
            position=np.array([c.conditional_position_encoding for c in configs], np.int64),
            image_size=image_size,
            in_channels=in_channels,
            num_classes=num_classes,
        )


@in_chunks
def cost_arrays(columns: SepViTColumns, resolution: Resolution | None = None) -> CostArrays:
    """Cost many networks at once with the formulas of :func:`cost`.

    Args:
        columns: The networks.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        One entry a network, equal to what :func:`cost` says of it.
    """
    ledger = ArrayLedger(len(columns))
    size = resolution or columns.image_size
    maps = stage_maps(size)
    inputs: Count = columns.in_channels
    image = stage_input = inputs * size[0] * size[1]
    for stage, (shape, design) in enumerate(zip(maps, stage_maps(columns.image_size), strict=True)):
        channels = columns.widths[:, stage]
        held = image + stage_input
        _embedding_cost(ledger, "", stage, inputs, channels, shape, columns.overlap, held)
        _position_cost(ledger, "", channels, shape, columns.position)
        for kind in range(columns.windows.shape[2]):
            side = columns.windows[:, stage, kind]
            window = (smaller(side, design[0]), smaller(side, design[1]))
            grid = ceil_div(design[0], window[0]), ceil_div(design[1], window[1])
            several = grid[0] * grid[1] > 1
            _block_cost(
                ledger,
                "",
                shape=shape,
                channels=channels,
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
        inputs = channels
        stage_input = channels * shape[0] * shape[1]
    _head_cost(ledger, inputs, maps[-1], columns.num_classes)
    return ledger.total()


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
