"""MobileViTv2. The design: configuration, cost, published variants.

Paper: Mehta, Rastegari, "Separable Self-attention for Mobile Vision Transformers", arXiv 2206.02680
(June 2022), TMLR 2023. The network itself is in :mod:`effvit.networks.mobilevitv2`.

Separable self-attention replaces the k x k scores of k tokens by one context vector. For tokens
x (k x d), with a query of one channel, and keys and values of d channels:

    scores  = softmax(x W_Q)                  (k,)      one score a token
    context = sum_i scores_i (x W_K)_i        (d,)
    out     = (ReLU(x W_V) * context) W_O     (k x d)   context broadcast to all tokens

The map is unfolded into patches of p x p pixels, and tokens are the pixels at one position of all
patches: p^2 positions P with N = HW / p^2 tokens each, attended to separately. A unit is pre-norm,
x + attention(norm(x)), then x + ffn(norm(x)). A stage with attention is

    depthwise 3x3 and 1x1 (C -> d), unfold, units, norm, fold, 1x1 (d -> C)

without a shortcut around it. Its norms are group norms of one group: statistics over channels and
all positions of an image.

Cost of one unit, for HW tokens of d channels and ffn ratio r, in multiply-accumulates:

    projections: HW d (1 + 2 d) + HW d^2        ffn: 2 r HW d^2

There is no matrix product. The attention itself is elementwise, a softmax over HW scores and two
products of HW d elements each (keys with scores, values with context); it is listed in the
breakdown, and like all counters of the field ``macs`` does not count it.

A map whose sides p does not divide is resized bilinearly to the next larger sides that it does,
before the depthwise convolution, and stays that large.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from effvit.config import ModelConfig, Resolution
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
    add_linear,
    add_norm,
    ceil_div,
    in_chunks,
    shared_settings,
)
from effvit.designs.blocks import ACTIVATIONS, Shape, add_conv_unit, add_inverted_bottleneck
from effvit.designs.rules import check_entries, checked_ratio

STAGES = 5
STRIDES = (1, 2, 2, 2, 2)
"""Of the stages, after the stem's 2: maps at 1/2, 1/4, 1/8, 1/16, 1/32 of the image."""

ATTENTION_STAGES = (2, 3, 4)
SILU = ACTIVATIONS["silu"]

BASE_WIDTHS = (32, 64, 128, 256, 384, 512)
WIDTH_DIVISORS = (8, 16, 8, 8, 8, 8)
BASE_ATTENTION_WIDTHS = (128, 192, 256)
STEM_BOUNDS = (16, 64)
"""Channels at width multiplier 1, stem first; what they are rounded to; the stem's limits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileViTv2Config(ModelConfig):
    """A MobileViTv2, published or not. Defaults are MobileViTv2-1.0.

    The released code rounds hidden widths to multiples of 8 and 16, which changes nothing in
    published variants; here ratios must give integers, so that a configuration is exact.

    Attributes:
        widths: Channels of the stem and of the five stages; see :func:`scaled_widths`.
        attention_widths: Channels d of the tokens in stages 3, 4 and 5.
        depths: Inverted bottlenecks of each stage, before its attention.
        attention_depths: Attention units of stages 3, 4 and 5.
        patch_sizes: Sides p of the patches in stages 3, 4 and 5, in pixels of the map.
        expand_ratio: Hidden channels of an inverted bottleneck over those of its input.
        ffn_ratio: Hidden channels of a unit's feed-forward part over d.
    """

    family: ClassVar[str] = "mobilevitv2"

    image_size: Resolution = (256, 256)
    widths: tuple[int, ...] = BASE_WIDTHS
    attention_widths: tuple[int, ...] = BASE_ATTENTION_WIDTHS
    depths: tuple[int, ...] = (1, 2, 1, 1, 1)
    attention_depths: tuple[int, ...] = (2, 4, 3)
    patch_sizes: tuple[int, ...] = (2, 2, 2)
    expand_ratio: float = 2.0
    ffn_ratio: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, count, place in (
            ("widths", STAGES + 1, "the stem and each of 5 stages"),
            ("depths", STAGES, "each of 5 stages"),
            ("attention_widths", len(ATTENTION_STAGES), "each of 3 attention stages"),
            ("attention_depths", len(ATTENTION_STAGES), "each of 3 attention stages"),
            ("patch_sizes", len(ATTENTION_STAGES), "each of 3 attention stages"),
        ):
            check_entries(name, getattr(self, name), count, place)
        for name, widths in (
            ("expand_ratio", self.bottleneck_inputs),
            ("ffn_ratio", self.attention_widths),
        ):
            object.__setattr__(self, name, checked_ratio(name, getattr(self, name), widths))

    @property
    def bottleneck_inputs(self) -> tuple[int, ...]:
        """Input channels of all inverted bottlenecks: of the first of a stage, then of others."""
        repeated = (w for w, depth in zip(self.widths[1:], self.depths, strict=True) if depth > 1)
        return (*self.widths[:-1], *repeated)

    def expanded(self, width: int) -> int:
        """Hidden channels of an inverted bottleneck with ``width`` input channels."""
        return int(width * self.expand_ratio)

    @property
    def ffn_widths(self) -> tuple[int, ...]:
        """Hidden channels of the feed-forward part in stages 3, 4 and 5."""
        return tuple(int(width * self.ffn_ratio) for width in self.attention_widths)


def scaled_widths(multipliers: float | Sequence[float]) -> tuple[int, ...]:
    """Channels of the stem and the five stages for a width multiplier, rounded as released.

    Args:
        multipliers: One for all, or six: of the stem and of each stage.
    """
    if isinstance(multipliers, int | float):
        multipliers = (multipliers,) * len(BASE_WIDTHS)
    low, high = STEM_BOUNDS
    stem = max(low, min(high, BASE_WIDTHS[0] * multipliers[0]))
    scaled = (stem, *(w * m for w, m in zip(BASE_WIDTHS[1:], multipliers[1:], strict=True)))
    return tuple(round_width(w, d) for w, d in zip(scaled, WIDTH_DIVISORS, strict=True))


def scaled_attention_widths(multipliers: float | Sequence[float]) -> tuple[int, ...]:
    """Channels of the tokens in stages 3, 4 and 5 for one width multiplier, or for one each."""
    if isinstance(multipliers, int | float):
        multipliers = (multipliers,) * len(BASE_ATTENTION_WIDTHS)
    scaled = (w * m for w, m in zip(BASE_ATTENTION_WIDTHS, multipliers, strict=True))
    return tuple(round_width(width, 8) for width in scaled)


def round_width(width: float, divisor: int) -> int:
    """Round to the nearest multiple of ``divisor``, but down by no more than a tenth."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


# --- cost ---------------------------------------------------------------------------------------


def cost(config: MobileViTv2Config, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1.
    """
    ledger = OperationLedger()
    image = resolution or config.image_size
    shape = _stem_cost(ledger, config.in_channels, config.widths[0], image)
    held = config.in_channels * image[0] * image[1]
    for stage in range(STAGES):
        name, inputs, outputs = f"stages.{stage}", config.widths[stage], config.widths[stage + 1]
        entered = held + inputs * shape[0] * shape[1]
        for block in range(config.depths[stage]):
            width = outputs if block else inputs
            shape = _bottleneck_cost(
                ledger,
                f"{name}.blocks.{block}",
                first=not block,
                stage=stage,
                widths=(width, config.expanded(width), outputs),
                shape=shape,
                held=entered,
            )
        if stage in ATTENTION_STAGES:
            place = ATTENTION_STAGES.index(stage)
            width, patch = config.attention_widths[place], config.patch_sizes[place]
            name = f"{name}.blocks.{config.depths[stage]}"
            entered += outputs * shape[0] * shape[1]
            shape = _local_cost(ledger, name, outputs, width, shape, patch, entered)
            for unit in range(config.attention_depths[place]):
                _unit_cost(
                    ledger,
                    f"{name}.units.{unit}",
                    channels=width,
                    hidden=config.ffn_widths[place],
                    pixels=shape[0] * shape[1],
                    held=entered,
                )
            _fold_cost(ledger, name, outputs, width, shape, entered)
    _head_cost(ledger, config.widths[-1], config.num_classes)
    return ledger.total()


def _stem_cost(ledger: Ledger, inputs: int, outputs: Count, image: Resolution) -> Shape:
    """3x3 convolution of stride 2; returns the shape of its map."""
    shape = ceil_div(image[0], 2), ceil_div(image[1], 2)
    add_conv_unit(
        ledger,
        "stem",
        inputs=inputs,
        outputs=outputs,
        kernel=3,
        pixels=shape[0] * shape[1],
        held=inputs * image[0] * image[1],
        activation=SILU,
    )
    return shape


def _bottleneck_cost(
    ledger: Ledger,
    name: str,
    *,
    first: bool,
    stage: int,
    widths: tuple[Count, Count, Count],
    shape: Shape,
    held: Count,
    repeat: Count = 1,
) -> Shape:
    """Inverted bottleneck, strided if it is the stage's first; returns the shape of its map.

    ``held`` is the image and the stage's input, which is the first block's own input.
    """
    inputs, hidden, outputs = widths
    before = shape[0] * shape[1]
    if first:
        shape = ceil_div(shape[0], STRIDES[stage]), ceil_div(shape[1], STRIDES[stage])
    add_inverted_bottleneck(
        ledger,
        name,
        inputs=inputs,
        hidden=hidden,
        outputs=outputs,
        pixels=(before, shape[0] * shape[1]),
        held=held + (0 if first else inputs * before),
        activation=SILU,
        repeat=repeat,
    )
    return shape


def _local_cost(
    ledger: Ledger,
    name: str,
    channels: Count,
    width: Count,
    shape: Shape,
    patch: Count,
    held: Count,
) -> Shape:
    """Resizing if needed, depthwise 3x3, 1x1 to the tokens' width; returns the resized shape.

    Here and in what follows of the block, ``held`` includes the block's input.
    """
    resized = ceil_div(shape[0], patch) * patch, ceil_div(shape[1], patch) * patch
    same = (shape[0] == resized[0]) * (shape[1] == resized[1])
    pixels = resized[0] * resized[1]
    ledger.add(f"{name}.resize", Operator.RESAMPLE, elements=pixels * channels, repeat=1 - same)
    add_conv_unit(
        ledger,
        f"{name}.local",
        inputs=channels,
        outputs=channels,
        kernel=3,
        pixels=pixels,
        held=held + (1 - same) * pixels * channels,
        groups=channels,
        activation=SILU,
    )
    add_convolution(
        ledger,
        f"{name}.reduce",
        inputs=channels,
        outputs=width,
        kernel=1,
        pixels=pixels,
        bias=False,
    )
    return resized


def _unit_cost(
    ledger: Ledger,
    name: str,
    *,
    channels: Count,
    hidden: Count,
    pixels: Count,
    held: Count,
    repeat: Count = 1,
) -> None:
    """Separable self-attention and feed-forward part, each with a norm before it."""
    tokens = pixels * channels
    _norm_cost(ledger, f"{name}.norm1", channels, pixels, repeat)
    add_separable_self_attention(
        ledger,
        f"{name}.attention",
        channels=channels,
        pixels=pixels,
        held=held + tokens,
        repeat=repeat,
    )
    _norm_cost(ledger, f"{name}.norm2", channels, pixels, repeat)
    _projection_cost(ledger, f"{name}.ffn.expand", channels, hidden, pixels, repeat)
    ledger.add(f"{name}.ffn.act", Operator.SILU, elements=pixels * hidden, repeat=repeat)
    _projection_cost(ledger, f"{name}.ffn.project", hidden, channels, pixels, repeat)
    # Input before and after attention, normed input, hidden layer, output.
    ledger.live(held + 4 * tokens + pixels * hidden, repeat)


def add_separable_self_attention(
    ledger: Ledger, name: str, *, channels: Count, pixels: Count, held: Count, repeat: Count = 1
) -> None:
    """Cost separable self-attention, without the norm before it.

    Args:
        ledger: Where to write.
        name: Place of the attention in the network.
        channels: Channels d of the tokens.
        pixels: Tokens of all groups together.
        held: Elements alive throughout, the input of the norm included, its output not.
        repeat: How many such attentions there are.
    """
    tokens = pixels * channels
    _projection_cost(ledger, f"{name}.qkv", channels, 1 + 2 * channels, pixels, repeat)
    ledger.add(f"{name}.scores", Operator.SOFTMAX, elements=pixels, repeat=repeat)
    ledger.add(f"{name}.context", Operator.PRODUCT, elements=tokens, repeat=repeat)
    ledger.add(f"{name}.relu", Operator.RELU, elements=tokens, repeat=repeat)
    ledger.add(f"{name}.gate", Operator.PRODUCT, elements=tokens, repeat=repeat)
    _projection_cost(ledger, f"{name}.proj", channels, channels, pixels, repeat)
    # Normed input, query, key and value, gated values and one more temporary.
    ledger.live(held + 5 * tokens + pixels, repeat)


def _projection_cost(
    ledger: Ledger, name: str, inputs: Count, outputs: Count, pixels: Count, repeat: Count
) -> None:
    """A linear layer over all tokens, written as a 1x1 convolution."""
    add_convolution(
        ledger, name, inputs=inputs, outputs=outputs, kernel=1, pixels=pixels, repeat=repeat
    )


def _norm_cost(
    ledger: Ledger, name: str, channels: Count, pixels: Count, repeat: Count = 1
) -> None:
    """A norm of one group."""
    add_norm(ledger, name, Operator.GROUP_NORM, channels=channels, rows=pixels, repeat=repeat)


def _fold_cost(
    ledger: Ledger, name: str, channels: Count, width: Count, shape: Shape, held: Count
) -> None:
    """Norm of the tokens, 1x1 back to the stage's width."""
    pixels = shape[0] * shape[1]
    _norm_cost(ledger, f"{name}.norm", width, pixels)
    add_conv_unit(
        ledger,
        f"{name}.expand",
        inputs=width,
        outputs=channels,
        kernel=1,
        pixels=pixels,
        held=held + width * pixels,
    )


def _head_cost(ledger: Ledger, channels: Count, classes: int) -> None:
    """Average over positions, classifier."""
    ledger.add("pool", Operator.POOL, elements=channels)
    if classes:
        add_linear(ledger, "head", inputs=channels, outputs=classes, rows=1)


# --- many networks at once ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileViTv2Columns(Columns):
    """Many configurations as columns: ``n`` networks of one design resolution.

    Attributes:
        widths: (n, 6). attention_widths: (n, 3). depths: (n, 5). attention_depths: (n, 3).
        patch_sizes: (n, 3). ffn_widths: (n, 3).
        first_hidden: (n, 5), hidden channels of each stage's first inverted bottleneck.
        other_hidden: (n, 5), of its others.
    """

    widths: IntArray
    attention_widths: IntArray
    depths: IntArray
    attention_depths: IntArray
    patch_sizes: IntArray
    ffn_widths: IntArray
    first_hidden: IntArray
    other_hidden: IntArray

    @classmethod
    def from_configs(cls, configs: Sequence[MobileViTv2Config]) -> MobileViTv2Columns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        return cls(
            widths=np.array([c.widths for c in configs], np.int64),
            attention_widths=np.array([c.attention_widths for c in configs], np.int64),
            depths=np.array([c.depths for c in configs], np.int64),
            attention_depths=np.array([c.attention_depths for c in configs], np.int64),
            patch_sizes=np.array([c.patch_sizes for c in configs], np.int64),
            ffn_widths=np.array([c.ffn_widths for c in configs], np.int64),
            first_hidden=np.array(
                [[c.expanded(width) for width in c.widths[:-1]] for c in configs], np.int64
            ),
            other_hidden=np.array(
                [[c.expanded(width) for width in c.widths[1:]] for c in configs], np.int64
            ),
            **shared_settings(configs),
        )


@in_chunks
def cost_arrays(
    columns: MobileViTv2Columns,
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
    image = resolution or columns.image_size
    shape = _stem_cost(ledger, columns.in_channels, columns.widths[:, 0], image)
    held = columns.in_channels * image[0] * image[1]
    for stage in range(STAGES):
        inputs, outputs = columns.widths[:, stage], columns.widths[:, stage + 1]
        entered = held + inputs * shape[0] * shape[1]
        for first in (True, False):
            hidden = columns.first_hidden if first else columns.other_hidden
            shape = _bottleneck_cost(
                ledger,
                "",
                first=first,
                stage=stage,
                widths=(inputs if first else outputs, hidden[:, stage], outputs),
                shape=shape,
                held=entered,
                repeat=1 if first else columns.depths[:, stage] - 1,
            )
        if stage in ATTENTION_STAGES:
            place = ATTENTION_STAGES.index(stage)
            width = columns.attention_widths[:, place]
            patch = columns.patch_sizes[:, place]
            entered = entered + outputs * shape[0] * shape[1]
            shape = _local_cost(ledger, "", outputs, width, shape, patch, entered)
            _unit_cost(
                ledger,
                "",
                channels=width,
                hidden=columns.ffn_widths[:, place],
                pixels=shape[0] * shape[1],
                held=entered,
                repeat=columns.attention_depths[:, place],
            )
            _fold_cost(ledger, "", outputs, width, shape, entered)
    _head_cost(ledger, columns.widths[:, -1], columns.num_classes)
    return ledger.total()


# --- published variants -------------------------------------------------------------------------

VARIANTS: dict[str, MobileViTv2Config] = {
    f"mobilevitv2_{percent:03d}": MobileViTv2Config(
        widths=scaled_widths(percent / 100),
        attention_widths=scaled_attention_widths(percent / 100),
    )
    for percent in (50, 75, 100, 125, 150, 175, 200)
}
"""Width multipliers 0.5 to 2.0 (paper Table 5), as released. The released recipe uses no stochastic
depth."""
