"""What a stage's choices in the space of hybrids mean: the designs of its blocks.

A stage's *sequence* is the designs of its blocks in their normal form, which two choices share
exactly when they make the same blocks. The space itself is in :mod:`spaces.hybrid`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import TypeAlias

from effvit.config import Resolution
from effvit.cost import ceil_div
from effvit.designs.attention.cross import CrossWindowAttention
from effvit.designs.attention.design import AttentionDesign
from effvit.designs.attention.separable import SeparableAttention
from effvit.designs.attention.types import ATTENTION_TYPES
from effvit.designs.attention.windows import WindowAttention
from effvit.designs.hybrid import HybridConfig
from effvit.designs.macro import REPRESENTATIONS, STAGES, MacroConfig, stage_maps
from effvit.designs.sepvit import SepViTConfig
from spaces.axes import Choices, Rule
from spaces.efficientvit import fits
from spaces.sepvit import ATTENTIONS, DEPTHS, MAX_PADDING, WIDTHS, Pair

Blocks: TypeAlias = tuple[AttentionDesign, ...]
"""Designs of a stage's blocks in their normal form, for one channel and one head: a sequence."""

CROSS, MULTI_SCALE = "cross_window", "multi_scale_relu_linear"

ATTENTION: Mapping[str, tuple[str, ...]] = {
    "dssa": ("dssa",),
    "dssa+gsa": ("dssa", "gsa"),
    "gsa": ("gsa",),
    "window": ("window",),
    "window+shifted": ("window", "shifted_window"),
    "twins": ("twins",),
    CROSS: (CROSS,),
    "separable": ("separable",),
    "relu_linear": ("relu_linear",),
    MULTI_SCALE: (MULTI_SCALE,),
    "linformer": ("linformer",),
    "full": ("full",),
    "convolution": ("convolution",),
}
"""Values of a stage's attention, and the pattern of types that its blocks follow."""

FIXED: Mapping[str, tuple[int, ...]] = {
    "stripes": (1, 2, 7, 7),
    "sub_sampling": (8, 4, 2, 1),
    "linformer_lengths": (49, 49, 49, 49),
    "scales": (5,),
}
"""What single types read: CSWin's and Twins' published values, EfficientViT's released one, and for
Linformer as many keys and values as Twins keeps of a map at 224 pixels, 7 x 7."""

NONE = "none"

_PERIOD = math.lcm(
    *(
        math.lcm(*(len(ATTENTION_TYPES[name]) for name in pattern)) * len(pattern)
        for pattern in ATTENTION.values()
    )
)
"""After so many blocks all patterns begin again."""


def pair_of(choices: Choices) -> Pair:
    """Window size and group count."""
    return int(choices["window_size"]), int(choices["group_count"])


@functools.lru_cache(maxsize=1024)
def _planned(resolution: Resolution, pair: Pair, attention: str) -> tuple[Blocks, ...]:
    """Blocks of the four stages with this attention, until they repeat."""
    plan = alike(resolution, pair, attention, _PERIOD).plan()
    return tuple(tuple(map(plain, stage.blocks)) for stage in plan)


def alike(resolution: Resolution, pair: Pair, attention: str, depth: int) -> HybridConfig:
    """A hybrid with the same attention and depth in all stages; widths mean nothing."""
    return HybridConfig.from_dict({
        **FIXED,
        "image_size": resolution,
        "widths": (2,) * STAGES,
        "heads": (2,) * STAGES,
        "depths": (depth,) * STAGES,
        "attention": (ATTENTION[attention],) * STAGES,
        "windows": pair[:1] * STAGES,
        "groups": pair[1:] * STAGES,
    })  # fmt: skip


def stage_blocks(choices: Choices, stage: int, resolution: Resolution) -> Blocks:
    """Designs of a stage's blocks.

    Args:
        choices: At least window size, group count, and the stage's depth and attention.
        stage: 0 to 3.
        resolution: Of the image, in pixels.
    """
    blocks = _planned(resolution, pair_of(choices), str(choices[ATTENTIONS[stage]]))[stage]
    return tuple(itertools.islice(itertools.cycle(blocks), int(choices[DEPTHS[stage]])))


def plain(design: AttentionDesign) -> AttentionDesign:
    """The same design for one channel and one head, with windows represented in any way."""
    changes: dict[str, int] = {"channels": 1}
    if hasattr(design, "heads"):
        changes["heads"] = 1
    if isinstance(design, SeparableAttention):
        changes |= {"mixes": 0, "representation": REPRESENTATIONS.index(NONE)}
    return dataclasses.replace(design, **changes)


def several_windows(blocks: Blocks) -> bool:
    """Whether any block has several windows, so that it mixes them by their representations."""
    return any(isinstance(b, SeparableAttention) and b.grid != (1, 1) for b in blocks)


def head_divisor(blocks: Blocks) -> int:
    """What the number of heads must be divisible by; 0 where no block has heads."""
    if any(isinstance(design, CrossWindowAttention) and not design.whole for design in blocks):
        return 2  # its two branches share the heads
    return int(any(hasattr(design, "heads") for design in blocks))


def windows_of(design: AttentionDesign, shape: Resolution) -> tuple[Resolution, ...]:
    """Height and width of the windows, or of both kinds of stripes, that a map is cut into."""
    if isinstance(design, SeparableAttention | WindowAttention):
        return (design.window,)
    if isinstance(design, CrossWindowAttention) and not design.whole:
        height, width = shape
        return (height, min(design.stripe, width)), (min(design.stripe, height), width)
    return ()


def as_hybrid(config: SepViTConfig) -> HybridConfig:
    """The hybrid that is the same network as a SepViT with at most two window sides in a stage."""
    shared = {name: getattr(config, name) for name in MacroConfig.field_names()}
    return HybridConfig(
        **shared,
        attention=tuple(
            tuple("dssa" if side == min(pattern) else "gsa" for side in pattern)
            for pattern in config.windows
        ),
        windows=tuple(map(min, config.windows)),
        groups=tuple(ceil_div(max(pattern), min(pattern)) for pattern in config.windows),
    )


# --- rules --------------------------------------------------------------------------------------


def block_rules(resolution: Resolution) -> tuple[Rule, ...]:
    """What keeps a stage's attention from its width or its map."""
    makers = (_head_rule, _scale_rule, _padding_rule)
    return tuple(make(stage, resolution) for make in makers for stage in range(STAGES))


def _head_rule(stage: int, resolution: Resolution) -> Rule:
    width, attention = WIDTHS[stage], ATTENTIONS[stage]

    divisors = {name: head_divisor(_planned(resolution, (1, 1), name)[stage]) for name in ATTENTION}

    def unit(choices: Choices) -> int:
        """Channels that the width must be a multiple of; 0 without heads."""
        return divisors[str(choices[attention])] * int(choices["head_width"])

    def statement(choices: Choices) -> str:
        twice = unit(choices) > int(choices["head_width"])
        divisor = "twice head_width" if twice else "head_width"
        return (
            f"{width} of {choices[attention]} must be divisible by {divisor}, "
            f"got {choices[width]} and {choices['head_width']}"
        )

    return Rule(
        name=f"{width}_splits",
        reason="attention splits channels evenly over heads, and heads over two kinds of stripes",
        reads=(width, "head_width", attention),
        holds=lambda choices: not unit(choices) or int(choices[width]) % unit(choices) == 0,
        statement=statement,
    )


def _scale_rule(stage: int, resolution: Resolution) -> Rule:
    name, shape, scales = ATTENTIONS[stage], stage_maps(resolution)[stage], FIXED["scales"]
    valid = fits(scales, shape)
    return Rule(
        name=f"scales_fit_{stage + 1}",
        reason="outer weights of larger kernels would only ever meet padding",
        reads=(name,),
        holds=lambda choices: valid or choices[name] != MULTI_SCALE,
        statement=lambda choices: (
            f"{name} {choices[name]} needs a map whose shorter side is over {max(scales) // 2}, "
            f"got {shape[0]} x {shape[1]}"
        ),
    )


def _padding_rule(stage: int, resolution: Resolution) -> Rule:
    shape = stage_maps(resolution)[stage]
    area = math.prod(shape)

    @functools.cache
    def added(blocks: Blocks) -> tuple[float, Resolution]:
        """Largest share that padding adds to the map, and the window or stripe that does."""
        return max(
            (math.prod(padded(shape, window)) / area - 1, window)
            for design in blocks
            for window in (shape, *windows_of(design, shape))
        )

    def statement(choices: Choices) -> str:
        share, window = added(stage_blocks(choices, stage, resolution))
        sides = (f"{height} x {width}" for height, width in (window, shape, padded(shape, window)))
        return (
            "stage {}'s windows may add at most {:.1%} positions to its map, got {:.1%} from "
            "windows of {} on {} (padded to {})".format(stage + 1, MAX_PADDING, share, *sides)
        )

    return Rule(
        name=f"padding_{stage + 1}",
        reason="padded positions cost what real ones cost and are thrown away",
        reads=("window_size", "group_count", ATTENTIONS[stage], DEPTHS[stage]),
        holds=lambda choices: added(stage_blocks(choices, stage, resolution))[0] <= MAX_PADDING,
        statement=statement,
    )


def padded(shape: Resolution, window: Resolution) -> Resolution:
    """Height and width of a map after padding to whole windows."""
    height, width = (ceil_div(a, b) * b for a, b in zip(shape, window, strict=True))
    return height, width
