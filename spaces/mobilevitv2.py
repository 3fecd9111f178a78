"""The space of MobileViTv2 variants (family: :mod:`effvit.designs.mobilevitv2`).

Published models scale all widths by one multiplier, 0.5 to 2 in steps of 0.25. Here the stem and
each stage have a multiplier of their own: an axis' values are the seven widths, in channels, that
the published multipliers give this stage. Tokens have half the channels of their stage, as in all
published models.

No two choices make the same network. A width depends on that of the stage before, a patch size on
the patch sizes before (a map that is resized for its patches stays that large), and all else is
independent. So the size is the number of chains of widths that never shrink, times that of valid
patch sizes, times the values of each other axis.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from effvit import ModelConfig
from effvit.config import Resolution
from effvit.cost import CostArrays, ceil_div
from effvit.designs.mobilevitv2 import (
    ATTENTION_STAGES,
    STAGES,
    STRIDES,
    MobileViTv2Columns,
    MobileViTv2Config,
    cost_arrays,
    scaled_widths,
)
from spaces.axes import Axis, Choices, InvalidVariant, Rule
from spaces.counted import Chain, Counted, Listed, Numbers, Product, side_by_side
from spaces.space import Space
from spaces.stages import STEM, growing_rules, stage_axes, stage_integers, stage_names

MULTIPLIERS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Width multipliers of the published models."""

WIDTHS = stage_names("width", (STEM, *range(1, STAGES + 1)))
ATTENTION_DEPTHS, PATCHES = (
    stage_names(prefix, (stage + 1 for stage in ATTENTION_STAGES))
    for prefix in ("attention_depth", "patch_size")
)

_WIDTH_VALUES = tuple(zip(*map(scaled_widths, MULTIPLIERS), strict=True))
_DEPTH_VALUES = (range(1, 5), range(1, 7), range(1, 6))
_PATCH_VALUES = ((1, 2, 4),) * len(PATCHES)

_SEARCHED = (
    "widths",
    "attention_widths",
    "attention_depths",
    "patch_sizes",
    "expand_ratio",
    "ffn_ratio",
)
"""Fields of the configuration that the axes set; the others stay at their defaults."""


class _Network(NamedTuple):
    """All that tells one network of the space from another."""

    widths: tuple[int, ...]
    attention_depths: tuple[int, ...]
    patch_sizes: tuple[int, ...]
    expand_ratio: float
    ffn_ratio: float


class MobileViTv2Space(Space):
    """MobileViTv2 variants: what no axis names is as in :class:`MobileViTv2Config`'s defaults.

    That is one inverted bottleneck a stage, two in stage 2, and tokens of half their stage's width.
    The seven published models are members at their design resolution of 256 and at any other whose
    last map holds a patch of 2 x 2.
    """

    name: ClassVar[str] = "mobilevitv2"
    AXES: ClassVar[tuple[Axis, ...]] = (
        *stage_axes(WIDTHS, _WIDTH_VALUES, "channels of"),
        *stage_axes(ATTENTION_DEPTHS, _DEPTH_VALUES, "attention units of"),
        *stage_axes(PATCHES, _PATCH_VALUES, "side of a patch in pixels of the map of"),
        Axis("expand_ratio", (1, 2, 3, 4), "hidden over input channels of inverted bottlenecks"),
        Axis("ffn_ratio", (1, 2, 3, 4), "hidden over token channels of feed-forward parts"),
    )

    def _make_rules(self) -> tuple[Rule, ...]:
        return (
            *growing_rules(WIDTHS),
            *(_patch_rule(place, self.resolution) for place in range(len(PATCHES))),
        )

    # --- networks -------------------------------------------------------------------------------

    def _count(self) -> Counted[Any]:
        return Product(
            Chain([self._axis[name].integers for name in WIDTHS], operator.le),
            Product(*(Listed(self._axis[name].integers) for name in ATTENTION_DEPTHS)),
            Listed(stage_integers(found, PATCHES) for found in self._valid_choices(*PATCHES)),
            Listed(self._axis["expand_ratio"].integers),
            Listed(self._axis["ffn_ratio"].integers),
        )

    def _numbered(self, parts: Any) -> MobileViTv2Config:  # noqa: ANN401 - as in the base class
        widths, depths, patches, expand, ffn = parts
        return self._config(_Network(widths, depths, patches, float(expand), float(ffn)))

    def _costs(self, numbers: Numbers) -> CostArrays:
        chain, depths, patches, expand, ffn = self._networks.columns(numbers)
        widths = side_by_side([width.integers() for width in chain])
        tokens = widths[:, [stage + 1 for stage in ATTENTION_STAGES]] // 2
        hidden = widths * expand.integers()[:, None]
        return cost_arrays(
            MobileViTv2Columns.from_configs([MobileViTv2Config(image_size=self.resolution)]).varied(
                widths=widths,
                attention_widths=tokens,
                attention_depths=side_by_side([depth.integers() for depth in depths]),
                patch_sizes=patches.integers(),
                ffn_widths=tokens * ffn.integers()[:, None],
                first_hidden=hidden[:, :-1],
                other_hidden=hidden[:, 1:],
            )
        )

    def _config(self, network: _Network) -> MobileViTv2Config:
        return MobileViTv2Config(
            image_size=self.resolution,
            widths=network.widths,
            attention_widths=token_widths(network.widths),
            attention_depths=network.attention_depths,
            patch_sizes=network.patch_sizes,
            expand_ratio=network.expand_ratio,
            ffn_ratio=network.ffn_ratio,
        )

    def _identity(self, choices: Choices) -> _Network:
        return _Network(
            stage_integers(choices, WIDTHS),
            stage_integers(choices, ATTENTION_DEPTHS),
            stage_integers(choices, PATCHES),
            float(choices["expand_ratio"]),
            float(choices["ffn_ratio"]),
        )

    def _build(self, choices: Choices) -> MobileViTv2Config:
        return self._config(self._identity(choices))

    # --- the way back ---------------------------------------------------------------------------

    def encodings(self, config: ModelConfig) -> Iterator[Choices]:
        """The valid choices that make this same network: always one."""
        if not isinstance(config, MobileViTv2Config):
            raise InvalidVariant(
                f"space mobilevitv2 holds family mobilevitv2, got family {config.family}"
            )
        network = config.canonical()
        shown = {
            **dict(zip(WIDTHS, network.widths, strict=True)),
            **dict(zip(ATTENTION_DEPTHS, network.attention_depths, strict=True)),
            **dict(zip(PATCHES, network.patch_sizes, strict=True)),
            "expand_ratio": network.expand_ratio,
            "ffn_ratio": network.ffn_ratio,
        }
        choices = self._combined({name: (value,) for name, value in shown.items()})
        tokens = token_widths(network.widths)
        if network.attention_widths != tokens:
            raise InvalidVariant(
                "attention_widths must be half of the widths of stages 3, 4 and 5, "
                f"got {network.attention_widths} (nearest valid: {tokens})"
            )
        self._check_fixed(network, _SEARCHED)
        return choices


# --- what choices mean --------------------------------------------------------------------------


def token_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Channels of the tokens in stages 3, 4 and 5: half of the stages', as published.

    Args:
        widths: Channels of the stem and of the five stages.
    """
    return tuple(widths[stage + 1] // 2 for stage in ATTENTION_STAGES)


def attention_map(resolution: Resolution, patches: Sequence[int]) -> Resolution:
    """Height and width of the map that an attention stage makes patches of.

    Args:
        resolution: Of the image, in pixels.
        patches: Patch sides of the attention stages before it: their maps are resized to multiples
            of these and stay that large.
    """
    first = ATTENTION_STAGES[0]
    stride = 2 * math.prod(STRIDES[: first + 1])
    height, width = (ceil_div(side, stride) for side in resolution)
    for patch, step in zip(patches, STRIDES[first + 1 :], strict=False):
        height, width = (ceil_div(ceil_div(side, patch) * patch, step) for side in (height, width))
    return height, width


# --- rules --------------------------------------------------------------------------------------


def _patch_rule(place: int, resolution: Resolution) -> Rule:
    """The patch of one attention stage fits its map; ``place`` is 0 for the first of them."""
    *before, name = PATCHES[: place + 1]

    def shape(choices: Choices) -> Resolution:
        return attention_map(resolution, stage_integers(choices, before))

    def statement(choices: Choices) -> str:
        height, width = shape(choices)
        return (
            f"{name} must be at most the shorter side of its stage's map, "
            f"got {choices[name]} on {height} x {width}"
        )

    return Rule(
        name=f"{name}_fits",
        reason="a map smaller than a patch would be stretched to the patch's size",
        reads=(*before, name),
        holds=lambda choices: int(choices[name]) <= min(shape(choices)),
        statement=statement,
    )
