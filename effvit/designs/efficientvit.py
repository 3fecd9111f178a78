"""EfficientViT (MIT). The design: configuration, cost, published variants.

Paper: Cai, Li, Hu, Gan, Han, "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense
Prediction", arXiv 2205.14756 (v1 May 2022, v6 February 2024), ICCV 2023. The network itself is in
:mod:`effvit.networks.efficientvit`.

ReLU linear attention of one head, for N pixels with queries, keys and values of d channels:

    out_i = ReLU(q_i) (sum_j ReLU(k_j)^T v_j) / (ReLU(q_i) . sum_j ReLU(k_j) + eps)

No softmax, no scale, no position term; linear in N, because keys meet values first. Multi-scale
aggregation adds, for each scale s, heads on coarser tokens: a depthwise s x s convolution over
query, key and value, then a 1x1 convolution within each head's query, key or value. An attention
block is x + proj(attention(qkv(x))), then x + MBConv(x), the local part; both without pre-norm.

Cost of one attention on an H x W map of C channels with S scales, in multiply-accumulates; the
denominators are one more row of the values, hence d + 1:

    qkv and proj: HW (3 C^2 + (1 + S) C^2)        attention: 2 (1 + S) HW C (d + 1)
    aggregation:  sum over scales of 3 HW C (s^2 + d)

Forms of the paper: arXiv v2 (September 2022) has one scale, ``scales=()``; the poster draws two
aggregations, ``scales=(3, 5)``; released code and checkpoints have one, ``scales=(5,)``.

The released code adds eps = 1e-15 to the denominators; timm adds 1e-5, see
:attr:`EfficientViTConfig.attention_eps`. Where HW <= d the released code computes the same function
from an N x N matrix; here it is always the linear form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

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
    add_matmul,
    ceil_div,
    in_chunks,
    shared_settings,
)
from effvit.designs.blocks import (
    ACTIVATIONS,
    Activation,
    Shape,
    add_conv_unit,
    add_inverted_bottleneck,
)
from effvit.designs.rules import check_count, check_entries, check_scales, checked_ratio

StageKind = Literal["mbconv", "mbconv_few_norms", "fused", "attention"]
"""Blocks of a stage.

``mbconv``: 1x1, depthwise 3x3, 1x1, each with batch norm. ``mbconv_few_norms``: batch norm after
the last only, biases in the others. ``fused``: 3x3, then 1x1. ``attention``: multi-scale linear
attention and an ``mbconv_few_norms``. The stage's first block has stride 2 and no shortcut; it is
of the stage's kind, or ``mbconv_few_norms`` where the stage attends.
"""

StemKind = Literal["depthwise", "dense"]
"""Blocks of the stem: depthwise 3x3 and 1x1 (B series), or two 3x3 convolutions (L series)."""

ActivationName = Literal["hardswish", "gelu"]
"""Activation outside attention (GELU: its tanh approximation); in attention it is ReLU."""

STAGES = 4
STAGE_KINDS: tuple[str, ...] = get_args(StageKind)
STEM_KINDS: tuple[str, ...] = get_args(StemKind)
MBCONV, FEW_NORMS, FUSED, ATTENTION = range(len(STAGE_KINDS))
DEPTHWISE, DENSE = range(len(STEM_KINDS))

CHOICES = {"stem": STEM_KINDS, "activation": get_args(ActivationName)}

RELEASED_ATTENTION_EPS = 1e-15
TIMM_ATTENTION_EPS = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class EfficientViTConfig(ModelConfig):
    """An EfficientViT, published or not. Defaults are EfficientViT-B1.

    Attributes:
        widths: Channels of the stem and of the four stages.
        depths: Blocks of the stem after its first convolution, and of each stage after its
            stride-2 block. (The released ``depth_list`` also counts the stride-2 blocks of the B
            series' first two stages.)
        kinds: Kind of each stage, see :data:`StageKind`: which stages attend.
        expand_ratios: Hidden channels of each stage's blocks over their input channels.
        downsample_ratios: The same for the stride-2 blocks.
        head_dim: Channels d of an attention head; must divide the widths of stages that attend.
        scales: Kernel sides of the aggregations, odd, ascending.
        stem: Kind of the stem's blocks.
        activation: Activation outside attention.
        head_widths: Channels of the classification head's 1x1 convolution and linear layer.
        norm_eps: Added to variances by all norms.
        attention_eps: Added to the attention's denominators: 1e-15 as released; 1e-5 in timm,
            whose outputs differ by that much. (In its L series timm's first norm of the head also
            keeps a ``norm_eps`` of 1e-5.)
    """

    family: ClassVar[str] = "efficientvit"

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 1, 2, 3, 4)
    kinds: tuple[StageKind, ...] = ("mbconv", "mbconv", "attention", "attention")
    expand_ratios: tuple[float, ...] = (4.0, 4.0, 4.0, 4.0)
    downsample_ratios: tuple[float, ...] = (4.0, 4.0, 4.0, 4.0)
    head_dim: int = 16
    scales: tuple[int, ...] = (5,)
    stem: StemKind = "depthwise"
    activation: ActivationName = "hardswish"
    head_widths: tuple[int, ...] = (1536, 1600)
    norm_eps: float = 1e-5
    attention_eps: float = RELEASED_ATTENTION_EPS

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = "each of 4 stages"
        check_entries("widths", self.widths, STAGES + 1, f"the stem and {stages}")
        check_entries("depths", self.depths, STAGES + 1, f"the stem and {stages}", least=0)
        check_entries("head_widths", self.head_widths, 2, "its convolution and its linear layer")
        for name in ("kinds", "downsample_ratios", "expand_ratios"):
            check_count(name, getattr(self, name), STAGES, stages)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for kind in self.kinds:
            if kind not in STAGE_KINDS:
                raise unknown_name("stage kind", kind, STAGE_KINDS)
        self._check_ratios("downsample_ratios", self.widths[:-1])
        self._check_ratios("expand_ratios", self.widths[1:])
        self._check_attention()
        for name in ("norm_eps", "attention_eps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)!r}")

    def _check_ratios(self, name: str, widths: Sequence[int]) -> None:
        pairs = zip(getattr(self, name), widths, strict=True)
        ratios = tuple(checked_ratio(name, ratio, (width,)) for ratio, width in pairs)
        object.__setattr__(self, name, ratios)

    def _check_attention(self) -> None:
        if self.head_dim < 1:
            raise ConfigError(f"head_dim must be at least 1, got {self.head_dim}")
        for width, kind in zip(self.widths[1:], self.kinds, strict=True):
            if kind == "attention" and width % self.head_dim:
                nearest = max(1, round(width / self.head_dim)) * self.head_dim
                raise ConfigError(
                    "width of a stage that attends must be divisible by head_dim, got "
                    f"{width} and {self.head_dim} (nearest valid width: {nearest})"
                )
        check_scales(self.scales)

    @property
    def downsample_hidden(self) -> tuple[int, ...]:
        """Hidden channels of each stage's stride-2 block."""
        pairs = zip(self.widths[:-1], self.downsample_ratios, strict=True)
        return tuple(int(width * ratio) for width, ratio in pairs)

    @property
    def block_hidden(self) -> tuple[int, ...]:
        """Hidden channels of each stage's other blocks."""
        pairs = zip(self.widths[1:], self.expand_ratios, strict=True)
        return tuple(int(width * ratio) for width, ratio in pairs)

    def canonical(self) -> EfficientViTConfig:
        """Set what nothing reads to one value: of stages without blocks, of attention unused."""
        kinds: list[StageKind] = []
        ratios = []
        for kind, depth, ratio in zip(self.kinds, self.depths[1:], self.expand_ratios, strict=True):
            kinds.append("mbconv_few_norms" if kind == "attention" and not depth else kind)
            ratios.append(ratio if depth else 1.0)
        changes: dict[str, object] = {"kinds": tuple(kinds), "expand_ratios": tuple(ratios)}
        if not self.depths[0]:
            changes["stem"] = "depthwise"
        if "attention" not in kinds:
            changes |= {"head_dim": 1, "scales": (), "attention_eps": RELEASED_ATTENTION_EPS}
        return self.replace(**changes)


# --- cost ---------------------------------------------------------------------------------------


def cost(config: EfficientViTConfig, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1.
    """
    ledger = OperationLedger()
    size = resolution or config.image_size
    image = config.in_channels * size[0] * size[1]
    activation = ACTIVATIONS[config.activation]
    shape = _halved(size)
    kind = STEM_KINDS.index(config.stem)
    width = config.widths[0]
    _stem_cost(ledger, config.in_channels, width, shape, image, activation)
    for block in range(config.depths[0]):
        name = f"stem.{block + 1}"
        _stem_block_cost(ledger, name, kind, width, shape, image, activation)
    for stage in range(STAGES):
        inputs, width = config.widths[stage : stage + 2]
        kind = STAGE_KINDS.index(config.kinds[stage])
        held = image + inputs * shape[0] * shape[1]
        before, shape = shape, _halved(shape)
        _downsample_cost(
            ledger,
            f"stages.{stage}.blocks.0",
            kind=kind,
            widths=(inputs, config.downsample_hidden[stage], width),
            shapes=(before, shape),
            held=held,
            activation=activation,
        )
        for block in range(1, config.depths[stage + 1] + 1):
            _block_cost(
                ledger,
                f"stages.{stage}.blocks.{block}",
                kind=kind,
                channels=width,
                hidden=config.block_hidden[stage],
                shape=shape,
                head_dim=config.head_dim,
                scales=config.scales,
                held=held,
                activation=activation,
            )
    head = (config.widths[-1], config.head_widths[0], config.head_widths[1])
    _head_cost(ledger, head, shape, config.num_classes, image, activation)
    return ledger.total()


def _halved(shape: Shape) -> Shape:
    return ceil_div(shape[0], 2), ceil_div(shape[1], 2)


def _stem_cost(
    ledger: Ledger, inputs: int, outputs: Count, shape: Shape, image: int, activation: Activation
) -> None:
    """3x3 convolution of stride 2."""
    add_conv_unit(
        ledger,
        "stem.0",
        inputs=inputs,
        outputs=outputs,
        kernel=3,
        pixels=shape[0] * shape[1],
        held=image,
        activation=activation,
    )


def _stem_block_cost(
    ledger: Ledger,
    name: str,
    kind: Count,
    channels: Count,
    shape: Shape,
    image: int,
    activation: Activation,
    repeat: Count = 1,
) -> None:
    """Two convolutions with a shortcut: depthwise 3x3 and 1x1, or 3x3 and 3x3."""
    pixels = shape[0] * shape[1]
    elements = pixels * channels
    for kernel, parts, chosen in (
        (1, ("depthwise", "project"), DEPTHWISE),
        (3, ("first", "second"), DENSE),
    ):
        add_conv_unit(
            ledger,
            f"{name}.{parts[0]}",
            inputs=channels,
            outputs=channels,
            kernel=3,
            pixels=pixels,
            held=image + elements,
            groups=channels if chosen == DEPTHWISE else 1,
            activation=activation,
            repeat=repeat * (kind == chosen),
        )
        add_conv_unit(
            ledger,
            f"{name}.{parts[1]}",
            inputs=channels,
            outputs=channels,
            kernel=kernel,
            pixels=pixels,
            held=image + 2 * elements,
            repeat=repeat * (kind == chosen),
        )


def _downsample_cost(
    ledger: Ledger,
    name: str,
    *,
    kind: Count,
    widths: tuple[Count, Count, Count],
    shapes: tuple[Shape, Shape],
    held: Count,
    activation: Activation,
) -> None:
    """The stride-2 block of a stage; ``held`` is the image and the stage's input."""
    inputs, hidden, outputs = widths
    pixels = (shapes[0][0] * shapes[0][1], shapes[1][0] * shapes[1][1])
    add_inverted_bottleneck(
        ledger,
        name,
        inputs=inputs,
        hidden=hidden,
        outputs=outputs,
        pixels=pixels,
        held=held,
        activation=activation,
        normed=kind == MBCONV,
        repeat=1 * (kind != FUSED),
    )
    _fused_cost(ledger, name, widths, pixels[1], held, activation, 1 * (kind == FUSED))


def _fused_cost(
    ledger: Ledger,
    name: str,
    widths: tuple[Count, Count, Count],
    pixels: Count,
    held: Count,
    activation: Activation,
    repeat: Count,
) -> None:
    """3x3 to the hidden channels, 1x1 back; ``held`` includes the input."""
    inputs, hidden, outputs = widths
    add_conv_unit(
        ledger,
        f"{name}.expand",
        inputs=inputs,
        outputs=hidden,
        kernel=3,
        pixels=pixels,
        held=held,
        activation=activation,
        repeat=repeat,
    )
    add_conv_unit(
        ledger,
        f"{name}.project",
        inputs=hidden,
        outputs=outputs,
        kernel=1,
        pixels=pixels,
        held=held + hidden * pixels,
        repeat=repeat,
    )


def _block_cost(
    ledger: Ledger,
    name: str,
    *,
    kind: Count,
    channels: Count,
    hidden: Count,
    shape: Shape,
    head_dim: Count,
    scales: Sequence[Count],
    held: Count,
    activation: Activation,
    repeat: Count = 1,
) -> None:
    """One block with shortcuts; ``held`` is the image and the stage's input."""
    pixels = shape[0] * shape[1]
    entered = held + pixels * channels
    attends = repeat * (kind == ATTENTION)
    add_linear_attention(
        ledger,
        f"{name}.attention",
        channels=channels,
        pixels=pixels,
        head_dim=head_dim,
        scales=scales,
        held=entered,
        repeat=attends,
    )
    widths = (channels, hidden, channels)
    places = ((f"{name}.local", attends), (name, repeat * (kind < FUSED)))
    for place, times in places:
        add_inverted_bottleneck(
            ledger,
            place,
            inputs=channels,
            hidden=hidden,
            outputs=channels,
            pixels=(pixels, pixels),
            held=entered,
            activation=activation,
            normed=kind == MBCONV,
            repeat=times,
        )
    fused = repeat * (kind == FUSED)
    _fused_cost(ledger, name, widths, pixels, entered, activation, fused)


def add_linear_attention(
    ledger: Ledger,
    name: str,
    *,
    channels: Count,
    pixels: Count,
    head_dim: Count,
    scales: Sequence[Count],
    held: Count,
    repeat: Count = 1,
) -> None:
    """Cost multi-scale ReLU linear attention.

    Args:
        ledger: Where to write.
        name: Place of the attention in the network.
        channels: Channels C.
        pixels: Tokens, HW.
        head_dim: Channels d of a head.
        scales: Kernel sides of the aggregations; 0 is none.
        held: Elements alive throughout, its input included.
        repeat: How many such attentions there are.
    """

    def convolve(
        place: str, inputs: Count, outputs: Count, kernel: Count, groups: Count, repeat: Count
    ) -> None:
        add_convolution(
            ledger,
            f"{name}.{place}",
            inputs=inputs,
            outputs=outputs,
            kernel=kernel,
            pixels=pixels,
            groups=groups,
            bias=False,
            repeat=repeat,
        )

    heads = ceil_div(channels, head_dim)  # at least 1, also of stages that do not attend
    convolve("qkv", channels, 3 * channels, 1, 1, repeat)
    branches: Count = 1
    for index, scale in enumerate(scales):
        used = scale > 0
        place, times = f"aggregations.{index}", repeat * used
        convolve(f"{place}.0", 3 * channels, 3 * channels, scale**2, 3 * channels, times)
        convolve(f"{place}.1", 3 * channels, 3 * channels, 1, 3 * heads, times)
        branches = branches + used
    mixed = branches * channels
    ledger.add(f"{name}.relu", Operator.RELU, elements=2 * pixels * mixed, repeat=repeat)
    for product, rows, inner, columns in (
        ("key_value", head_dim + 1, pixels, head_dim),
        ("query", head_dim + 1, head_dim, pixels),
    ):
        add_matmul(
            ledger,
            f"{name}.{product}",
            batch=branches * heads,
            rows=rows,
            inner=inner,
            columns=columns,
            repeat=repeat,
        )
    add_conv_unit(
        ledger,
        f"{name}.proj",
        inputs=mixed,
        outputs=channels,
        kernel=1,
        pixels=pixels,
        held=held + pixels * mixed,
        repeat=repeat,
    )
    # Query, key and value of every branch, twice while they are joined; then, beside one of these,
    # keys times values, values with their row of ones, sums and quotients, both with denominators.
    joined = 3 * pixels * mixed
    ledger.live(held + 2 * joined, repeat * (branches > 1))
    products = branches * heads * (head_dim + 1) * head_dim
    ledger.live(held + joined + products + 3 * pixels * (mixed + branches * heads), repeat)


def _head_cost(
    ledger: Ledger,
    widths: tuple[Count, Count, Count],
    shape: Shape,
    classes: int,
    image: int,
    activation: Activation,
) -> None:
    """1x1 convolution, average over positions, linear layer, norm, classifier."""
    channels, wide, last = widths
    pixels = shape[0] * shape[1]
    add_conv_unit(
        ledger,
        "neck.conv",
        inputs=channels,
        outputs=wide,
        kernel=1,
        pixels=pixels,
        held=image + channels * pixels,
        activation=activation,
    )
    ledger.add("neck.pool", Operator.ADAPTIVE_POOL, elements=wide, reads=wide * pixels)
    add_linear(ledger, "neck.linear", inputs=wide, outputs=last, rows=1, bias=False)
    add_layer_norm(ledger, "neck.norm", channels=last, rows=1)
    ledger.add("neck.act", activation.operator, elements=last)
    if classes:
        add_linear(ledger, "head", inputs=last, outputs=classes, rows=1)


# --- many networks at once ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class EfficientViTColumns(Columns):
    """Many configurations as columns: ``n`` networks of one design resolution.

    Attributes:
        widths: (n, 5). depths: (n, 5). kinds: (n, 4), indices into :data:`STAGE_KINDS`.
        block_hidden: (n, 4). downsample_hidden: (n, 4).
        head_dim: (n,). scales: (n, k), 0 where unused. stem: (n,), index into
            :data:`STEM_KINDS`. gelu: (n,), 1 if the activation is GELU. head_widths: (n, 2).
    """

    widths: IntArray
    depths: IntArray
    kinds: IntArray
    block_hidden: IntArray
    downsample_hidden: IntArray
    head_dim: IntArray
    scales: IntArray
    stem: IntArray
    gelu: IntArray
    head_widths: IntArray

    @classmethod
    def from_configs(cls, configs: Sequence[EfficientViTConfig]) -> EfficientViTColumns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        scales = np.zeros((len(configs), max(len(c.scales) for c in configs)), np.int64)
        for row, config in enumerate(configs):
            scales[row, : len(config.scales)] = config.scales
        return cls(
            widths=np.array([c.widths for c in configs], np.int64),
            depths=np.array([c.depths for c in configs], np.int64),
            kinds=np.array(
                [[STAGE_KINDS.index(kind) for kind in c.kinds] for c in configs], np.int64
            ),
            block_hidden=np.array([c.block_hidden for c in configs], np.int64),
            downsample_hidden=np.array([c.downsample_hidden for c in configs], np.int64),
            head_dim=np.array([c.head_dim for c in configs], np.int64),
            scales=scales,
            stem=np.array([STEM_KINDS.index(c.stem) for c in configs], np.int64),
            gelu=np.array([c.activation == "gelu" for c in configs], np.int64),
            head_widths=np.array([c.head_widths for c in configs], np.int64),
            **shared_settings(configs),
        )


@in_chunks
def cost_arrays(
    columns: EfficientViTColumns,
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
    image = columns.in_channels * size[0] * size[1]
    # Where networks differ, all are written down as GELU: totals do not read the name.
    operator = Operator.GELU if columns.gelu.any() else Operator.HARDSWISH
    activation = Activation(operator, copies=columns.gelu)
    shape = _halved(size)
    width = columns.widths[:, 0]
    _stem_cost(ledger, columns.in_channels, width, shape, image, activation)
    repeat = columns.depths[:, 0]
    _stem_block_cost(ledger, "", columns.stem, width, shape, image, activation, repeat)
    for stage in range(STAGES):
        inputs, width = width, columns.widths[:, stage + 1]
        kind = columns.kinds[:, stage]
        held = image + inputs * shape[0] * shape[1]
        before, shape = shape, _halved(shape)
        _downsample_cost(
            ledger,
            "",
            kind=kind,
            widths=(inputs, columns.downsample_hidden[:, stage], width),
            shapes=(before, shape),
            held=held,
            activation=activation,
        )
        _block_cost(
            ledger,
            "",
            kind=kind,
            channels=width,
            hidden=columns.block_hidden[:, stage],
            shape=shape,
            head_dim=columns.head_dim,
            scales=tuple(columns.scales.T),
            held=held,
            activation=activation,
            repeat=columns.depths[:, stage + 1],
        )
    head = (width, columns.head_widths[:, 0], columns.head_widths[:, 1])
    _head_cost(ledger, head, shape, columns.num_classes, image, activation)
    return ledger.total()


# --- published variants -------------------------------------------------------------------------

_L_SERIES = EfficientViTConfig(
    widths=(32, 64, 128, 256, 512),
    depths=(1, 1, 1, 6, 6),
    kinds=("fused", "fused", "mbconv_few_norms", "attention"),
    expand_ratios=(4.0, 4.0, 4.0, 6.0),
    downsample_ratios=(16.0, 16.0, 16.0, 24.0),
    head_dim=32,
    stem="dense",
    activation="gelu",
    head_widths=(3072, 3200),
    norm_eps=1e-7,
    drop_path_rate=0.1,
)

VARIANTS: dict[str, EfficientViTConfig] = {
    "efficientvit_b0": EfficientViTConfig(
        widths=(8, 16, 32, 64, 128),
        depths=(1, 1, 1, 2, 2),
        head_widths=(1024, 1280),
        drop_path_rate=0.05,
    ),
    "efficientvit_b1": EfficientViTConfig(drop_path_rate=0.05),
    "efficientvit_b2": EfficientViTConfig(
        widths=(24, 48, 96, 192, 384),
        depths=(1, 2, 3, 4, 6),
        head_dim=32,
        head_widths=(2304, 2560),
        drop_path_rate=0.05,
    ),
    "efficientvit_b3": EfficientViTConfig(
        widths=(32, 64, 128, 256, 512),
        depths=(1, 3, 5, 6, 9),
        head_dim=32,
        head_widths=(2304, 2560),
        drop_path_rate=0.1,
    ),
    "efficientvit_l1": _L_SERIES,
    "efficientvit_l2": _L_SERIES.replace(depths=(1, 2, 2, 8, 8)),
    "efficientvit_l3": _L_SERIES.replace(
        widths=(64, 128, 256, 512, 1024), depths=(1, 2, 2, 8, 8), head_widths=(6144, 6400)
    ),
}
"""As released, B series and L series.

Drop path: the released ImageNet configurations, 0.05 in ``default.yaml`` (B1 and B2; B0 has none of
its own) and 0.1 in those of B3 and of the L series. There the rate rises from shortcut to shortcut
and with the progress of training, and the first two (L1) or three (L2, L3) shortcuts have none;
here it rises from 0 block by block.
"""
