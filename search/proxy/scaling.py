"""How a variant is scaled down to what the proxy trains: a rule for each family, in :data:`RULES`.

Rules take a variant at its design resolution to canvases of 96 x 96 pixels. They have in common:

- Maps shrink with the image, at the strides that the family has: one of them has a pixel a cell.
- Widths follow a power law around a small published variant, see :func:`scaled_width`. It is
  monotone, so that variants keep their order, and makes wide ones affordable.
- What relates positions keeps its relation to the map; how, each rule says.
- Depths, which stages attend and how, heads, ratios, kernels and all switches stay. What acts in
  training only (dropout, stochastic depth) is off: a short run does not overfit.

A family also says whether distant cells can meet before the last stage: whether a block there
relates all cells with one another. What the last stage relates comes too late, as the head reads it
as one value for four cells. Convolutions and windows hand on what is near, block by block; that can
reach far in a deep variant, but no short run can be counted on to make use of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from effvit.config import ConfigError, ModelConfig, Resolution
from effvit.cost import ceil_div
from effvit.designs.attention.convolution import SeparableConvolution
from effvit.designs.attention.cross import CrossWindowAttention
from effvit.designs.attention.design import AttentionDesign
from effvit.designs.attention.separable import SeparableAttention
from effvit.designs.attention.windows import WindowAttention
from effvit.designs.efficientvit import EfficientViTConfig
from effvit.designs.hybrid import HybridConfig
from effvit.designs.macro import MacroConfig, stage_maps
from effvit.designs.mobilevitv2 import (
    ATTENTION_STAGES,
    BASE_ATTENTION_WIDTHS,
    BASE_WIDTHS,
    MobileViTv2Config,
)
from effvit.designs.sepvit import SepViTConfig
from search.proxy.digits import CANVAS
from spaces.mobilevitv2 import attention_map

_SMALLEST_WINDOW = 2


@dataclasses.dataclass(frozen=True)
class Rule:
    """How variants of a family are scaled.

    Attributes:
        scale: Makes the variant that the proxy trains.
        cells_meet: Whether distant cells of a scaled variant can meet before the last stage.
        least_steps: Of a training, where the user does not say. Families that relate cells in one
            or two stages only, behind many layers, find the relation later.
    """

    scale: Callable[[Any], ModelConfig]
    cells_meet: Callable[[Any], bool]
    least_steps: int = 1


def proxy_config(config: ModelConfig) -> ModelConfig:
    """Scale a variant down to what the proxy trains, by the rule of its family.

    Raises:
        ConfigError: A family without a rule, or a scaled value breaks a rule of the family.
    """
    return rule(config.family).scale(config)


def cells_meet(config: ModelConfig) -> bool:
    """Whether distant cells can meet before the last stage of a scaled variant."""
    return rule(config.family).cells_meet(config)


def family_steps(family: str, steps: int) -> int:
    """Steps that a family takes where a recipe asks for ``steps``.

    Raises:
        ConfigError: A family without a rule.
    """
    return max(steps, rule(family).least_steps)


def rule(family: str) -> Rule:
    """The rule of a family.

    Raises:
        ConfigError: There is none.
    """
    if family not in RULES:
        raise ConfigError(f"the proxy scales families {', '.join(RULES)}, got family {family!r}")
    return RULES[family]


# --- what the rules share -----------------------------------------------------------------------

ON_CANVAS: Mapping[str, Any] = {
    "image_size": (CANVAS, CANVAS),
    "in_channels": 3,
    "num_classes": 0,
    "drop_rate": 0.0,
    "drop_path_rate": 0.0,
}
"""Fields that all families set alike."""


def scaled_width(
    width: int, reference: float, target: float, exponent: float, *, multiple: int = 1
) -> int:
    """Channels that remain of ``width``: ``target * (width / reference) ^ exponent``.

    Args:
        width: Channels of the variant.
        reference: Channels, in the same place, of the variant around which widths are scaled.
        target: What becomes of these.
        exponent: From 0, all alike, to 1, in proportion.
        multiple: What the result must be divisible by.
    """
    wanted = target * math.pow(width / reference, exponent)
    return max(1, round(wanted / multiple)) * multiple


def whole_ratio(ratio: float, widths: Sequence[int]) -> float:
    """Keep a ratio, or the nearest whole one where hidden widths would not be integers."""
    whole = all((width * ratio).is_integer() for width in widths)
    return ratio if whole else float(max(1, round(ratio)))


# --- SepViT's macro-architecture ----------------------------------------------------------------

_MACRO_REFERENCE = 32  # SepViT-Lite's first stage, and what it becomes
_MACRO_TARGET = 12  # below, whether the relation is found depends on the seed
_MACRO_EXPONENT = 0.6  # 32, 96 and 128 channels become 12, 24 and 28
_MACRO_MULTIPLE = 4  # in the first stage; twice as many in each next, for divisors among heads
_LEAST_HEAD_WIDTH = 4


def scale_sepvit(config: SepViTConfig) -> SepViTConfig:
    """Scale a SepViT: three eighths of SepViT-Lite's widths, and as many windows as before.

    At 224 pixels maps of 56, 28, 14 and 7 become 24, 12, 6 and 3. A block's window gets the side
    that :func:`scaled_window` gives it, which there takes 7 to 3 and 14 to 6 with exactly the
    original's numbers of windows. A single window stays one and several stay several, so a block
    mixes windows exactly if the original does.
    """
    small = stage_maps((CANVAS, CANVAS))
    windows = tuple(
        tuple(scaled_window(side, shape, small[stage][0]) for side in config.block_windows(stage))
        for stage, shape in enumerate(stage_maps(config.image_size))
    )
    return config.replace(**ON_CANVAS, **_macro_fields(config), windows=windows)


def _macro_fields(config: MacroConfig) -> Mapping[str, Any]:
    """Widths, their heads, and the MLP ratio."""
    widths = tuple(
        scaled_width(
            width,
            _MACRO_REFERENCE << stage,
            _MACRO_TARGET << stage,
            _MACRO_EXPONENT,
            multiple=_MACRO_MULTIPLE << stage,
        )
        for stage, width in enumerate(config.widths)
    )
    return {
        "widths": widths,
        "heads": tuple(map(scaled_heads, config.heads, widths)),
        "mlp_ratio": whole_ratio(config.mlp_ratio, widths),
    }


def scaled_heads(heads: int, width: int) -> int:
    """Heads for ``width`` channels: as many as before, or the nearest number that divides them.

    A head keeps four channels. An even number stays even: attention in two branches needs that.
    """
    step = 2 if heads % 2 == 0 else 1
    numbers = range(step, width // _LEAST_HEAD_WIDTH + 1, step)
    divisors = [number for number in numbers if width % number == 0]
    return min(divisors or [1], key=lambda number: abs(math.log(number / heads)))


def scaled_window(side: int, shape: Resolution, small: int, candidates: Sequence[int] = ()) -> int:
    """Window side on a square map of side ``small`` for one on a map of ``shape``.

    It is the side that keeps the number of windows nearest to the original's (in ratio), of those
    the one that pads least, of those the one nearest to the original in proportion. Numbers of
    windows above what windows of 2 x 2 give are cut to that.

    Args:
        side: Of the window, in pixels of the map.
        shape: Height and width of the map.
        small: Side of the small map.
        candidates: Sides to choose from; if not given, all that make several windows.
    """
    count = ceil_div(shape[0], min(side, shape[0])) * ceil_div(shape[1], min(side, shape[1]))
    if count == 1:
        return small
    proportional = side * small / math.sqrt(shape[0] * shape[1])

    def distance(candidate: int) -> tuple[float, int, float]:
        across = ceil_div(small, candidate)
        return (
            abs(math.log(across**2 / count)),
            across * candidate - small,
            abs(candidate - proportional),
        )

    return min(candidates or range(_SMALLEST_WINDOW, small), key=distance)


def _sepvit_cells_meet(config: SepViTConfig) -> bool:
    """A block with PSA, or with a single window."""
    return any(
        block.representation != "none" or block.grid == (1, 1)
        for stage in config.plan()[:-1]
        for block in stage.blocks
    )


# --- hybrids ------------------------------------------------------------------------------------

_CROSSES_THAT_MEET = 2  # one relates rows and columns, the next all of them


def scale_hybrid(config: HybridConfig) -> HybridConfig:
    """Scale a hybrid as a SepViT, and what other attention types read in the same spirit.

    Windows, groups of them, and stripes keep their numbers. The strides of Twins' sub-sampling
    stay, and Linformer keeps its keys' share of the map: both are 3 x 3 keys in all stages where
    the original has 7 x 7 at 224 pixels. Kernels of aggregations stay.
    """
    small = [shape[0] for shape in stage_maps((CANVAS, CANVAS))]
    maps = stage_maps(config.image_size)
    windows = tuple(map(scaled_window, config.windows, maps, small))
    return config.replace(
        **ON_CANVAS,
        **_macro_fields(config),
        windows=windows,
        groups=tuple(map(_scaled_group, config.windows, config.groups, windows, maps, small)),
        stripes=tuple(map(_scaled_stripe, config.stripes, maps, small)),
        linformer_lengths=tuple(
            max(1, round(length * side**2 / (shape[0] * shape[1])))
            for length, shape, side in zip(config.linformer_lengths, maps, small, strict=True)
        ),
    )


def _scaled_group(before: int, group: int, window: int, shape: Resolution, small: int) -> int:
    """Windows along a side that GSA gathers, for windows of ``before`` that become ``window``."""
    groups: Sequence[int] = range(2 * window, small, window) or [window]
    scaled: int = ceil_div(scaled_window(before * group, shape, small, groups), window)
    return scaled


def _scaled_stripe(stripe: int, shape: Resolution, small: int) -> int:
    """Width of stripes, as many as before of a square map with as many pixels."""
    side = round(math.sqrt(shape[0] * shape[1]))
    if stripe >= max(shape):
        return small
    count = ceil_div(side, stripe)

    def distance(candidate: int) -> tuple[float, int]:
        return abs(math.log(ceil_div(small, candidate) / count)), -small % candidate

    return min(range(1, small), key=distance)


def _hybrid_cells_meet(config: HybridConfig) -> bool:
    """A block that attends to the whole map or a digest of it, that has PSA, or two crosses."""
    return any(_blocks_meet(stage.blocks) for stage in config.plan()[:-1])


def _blocks_meet(blocks: Sequence[AttentionDesign]) -> bool:
    crosses = [b for b in blocks if isinstance(b, CrossWindowAttention) and not b.whole]
    if len(crosses) >= _CROSSES_THAT_MEET:
        return True
    return any(_relates_all(block) for block in blocks if block not in crosses)


def _relates_all(block: AttentionDesign) -> bool:
    if isinstance(block, SeparableAttention):
        return bool(block.mixes or block.grid == (1, 1))
    return not isinstance(block, WindowAttention | SeparableConvolution)


# --- MobileViTv2 --------------------------------------------------------------------------------

_MOBILEVITV2_SHARE = 1 / 4
_MOBILEVITV2_EXPONENT = 1 / 3


def scale_mobilevitv2(config: MobileViTv2Config) -> MobileViTv2Config:
    """Scale a MobileViTv2: a quarter of MobileViTv2-1.0's widths, and patches of the same side.

    Maps of 128, 64, 32, 16 and 8 at 256 pixels become 48, 24, 12, 6 and 3. What a patch's side
    means is how far the 3 x 3 convolution before the attention has to reach, since positions within
    a patch are attended to separately; so it stays, as far as the map is divisible by it (no map is
    resized) and has several patches. A single patch stays one.
    """
    widths = tuple(
        scaled_width(width, base, base * _MOBILEVITV2_SHARE, _MOBILEVITV2_EXPONENT)
        for width, base in zip(config.widths, BASE_WIDTHS, strict=True)
    )
    tokens = tuple(
        scaled_width(width, base, base * _MOBILEVITV2_SHARE, _MOBILEVITV2_EXPONENT)
        for width, base in zip(config.attention_widths, BASE_ATTENTION_WIDTHS, strict=True)
    )
    scaled = config.replace(
        **ON_CANVAS,
        widths=widths,
        attention_widths=tokens,
        patch_sizes=tuple(_scaled_patch(config, place) for place in range(len(tokens))),
        expand_ratio=1.0,
        ffn_ratio=whole_ratio(config.ffn_ratio, tokens),
    )
    return scaled.replace(expand_ratio=whole_ratio(config.expand_ratio, scaled.bottleneck_inputs))


def _scaled_patch(config: MobileViTv2Config, place: int) -> int:
    """Side of the patches of an attention stage, 0 to 2."""
    side = config.patch_sizes[place]
    small = attention_map((CANVAS, CANVAS), (1,) * place)[0]
    if side >= max(attention_map(config.image_size, config.patch_sizes[:place])):
        return small
    return max(patch for patch in range(1, small) if small % patch == 0 and patch <= side)


def _mobilevitv2_cells_meet(config: MobileViTv2Config) -> bool:
    """An attention stage with several patches: the context of a position is that of all patches."""
    return any(
        config.patch_sizes[place] < attention_map((CANVAS, CANVAS), config.patch_sizes[:place])[0]
        for place in range(len(ATTENTION_STAGES) - 1)
    )


# --- EfficientViT -------------------------------------------------------------------------------

_EFFICIENTVIT_REFERENCE = 16  # EfficientViT-B1's stem, and what it becomes
_EFFICIENTVIT_TARGET = 8
_EFFICIENTVIT_EXPONENT = 1 / 3


def scale_efficientvit(config: EfficientViTConfig) -> EfficientViTConfig:
    """Scale an EfficientViT: half of EfficientViT-B1's widths, and heads half as wide.

    Maps of 56, 28, 14 and 7 at 224 pixels become 24, 12, 6 and 3. Attention is global, so nothing
    else depends on the map; aggregations keep their kernels.
    """
    head_dim = max(1, config.head_dim * _EFFICIENTVIT_TARGET // _EFFICIENTVIT_REFERENCE)
    multiples = (1, *(head_dim if kind == "attention" else 1 for kind in config.kinds))
    widths = tuple(
        scaled_width(
            width,
            _EFFICIENTVIT_REFERENCE << place,
            _EFFICIENTVIT_TARGET << place,
            _EFFICIENTVIT_EXPONENT,
            multiple=multiple,
        )
        for place, (width, multiple) in enumerate(zip(config.widths, multiples, strict=True))
    )
    return config.replace(
        **ON_CANVAS,
        widths=widths,
        head_dim=head_dim,
        expand_ratios=tuple(map(_kept_ratio, config.expand_ratios, widths[1:])),
        downsample_ratios=tuple(map(_kept_ratio, config.downsample_ratios, widths[:-1])),
    )


def _kept_ratio(ratio: float, width: int) -> float:
    return whole_ratio(ratio, (width,))


def _efficientvit_cells_meet(config: EfficientViTConfig) -> bool:
    """A stage that attends, and has blocks to do so."""
    stages = zip(config.kinds[:-1], config.depths[1:-1], strict=True)
    return any(kind == "attention" and depth for kind, depth in stages)


RULES: Mapping[str, Rule] = {
    "sepvit": Rule(scale_sepvit, _sepvit_cells_meet),
    "mobilevitv2": Rule(scale_mobilevitv2, _mobilevitv2_cells_meet, least_steps=360),
    "efficientvit": Rule(scale_efficientvit, _efficientvit_cells_meet, least_steps=240),
    "hybrid": Rule(scale_hybrid, _hybrid_cells_meet),
}
"""By family. A new family adds its two functions and a row."""
