"""The space of EfficientViT variants (family: :mod:`effvit.designs.efficientvit`).

This is the B series opened up: its stem, its activation, and one expand ratio for all blocks. The L
series is not in it. That one has another stem, another activation, fused blocks, norms with another
eps, and stride-2 blocks four times as wide; as axes these would mostly make networks that nobody
proposed.

How distinct networks are counted without listing them. What the stages are (their kinds) and the
head width say which widths may be chosen: an attending stage's must split into heads. For each of
these few forms, widths are a chain that never shrinks, depths are independent, and the scales are
those whose kernels fit the maps attended to. Without any attending stage nothing reads head width
and scales, and there is one form instead of one for each head width.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from effvit import ModelConfig
from effvit.config import Resolution
from effvit.cost import CostArrays, ceil_div
from effvit.designs.efficientvit import (
    STAGE_KINDS,
    STAGES,
    EfficientViTColumns,
    EfficientViTConfig,
    StageKind,
    cost_arrays,
)
from spaces.axes import Axis, Choices, InvalidVariant, Rule
from spaces.counted import Chain, Counted, Listed, Numbers, Product, Union, side_by_side
from spaces.space import Space
from spaces.stages import STEM, growing_rules, stage_axes, stage_integers, stage_names

ATTENTION: StageKind = "attention"
KIND_VALUES: tuple[StageKind, ...] = ("mbconv", ATTENTION)
EMPTY_ATTENTION: StageKind = "mbconv_few_norms"
"""What an attention stage without blocks is: its stride-2 block, which is of this kind."""

NUMBERS = range(1, STAGES + 1)
WIDTHS, DEPTHS = (stage_names(prefix, (STEM, *NUMBERS)) for prefix in ("width", "depth"))
KINDS = stage_names("kind", NUMBERS)

_WIDTH_VALUES = (
    range(8, 33, 8),
    range(16, 65, 8),
    range(32, 129, 16),
    range(64, 257, 32),
    range(128, 513, 64),
)
_DEPTH_VALUES = (range(3), range(1, 5), range(1, 7), range(1, 9), range(1, 11))


def scales_name(scales: Sequence[int]) -> str:
    """Name of a value of axis ``scales``: ``"none"``, ``"5x5"``, ``"3x3+5x5"``."""
    return "+".join(f"{scale}x{scale}" for scale in scales) or "none"


def classifier_name(widths: Sequence[int]) -> str:
    """Name of a value of axis ``classifier``, as in ``"1024+1280"``."""
    return "+".join(map(str, widths))


SCALES = {scales_name(scales): scales for scales in ((), (3,), (5,), (3, 5))}
"""Kernel sides of the aggregations: arXiv v2, smaller than released, released, the poster's."""

MOST_SCALES = max(map(len, SCALES.values()))

CLASSIFIERS = {
    classifier_name(widths): widths for widths in ((1024, 1280), (1536, 1600), (2304, 2560))
}
"""Channels of the classifier's 1x1 convolution and linear layer: as in B0; B1; B2 and B3."""

_SEARCHED = (
    "widths",
    "depths",
    "kinds",
    "expand_ratios",
    "downsample_ratios",
    "head_dim",
    "scales",
    "head_widths",
)
"""Fields of the configuration that the axes set; the others stay at their defaults."""


class _Network(NamedTuple):
    """All that tells one network of the space from another.

    Kinds are what the stages are: :data:`EMPTY_ATTENTION` where there is no block to attend. Where
    no stage attends, ``head_width`` is 1 and ``scales`` are empty.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kinds: tuple[StageKind, ...]
    head_width: int
    scales: tuple[int, ...]
    expand_ratio: float
    classifier: tuple[int, ...]


class EfficientViTSpace(Space):
    """EfficientViT variants: what no axis names is as in :class:`EfficientViTConfig`'s defaults.

    Distinct networks are those whose canonical configurations differ. Choices collapse where no
    stage attends, so that nothing reads head width and scales. B0 to B3 are members.
    """

    name: ClassVar[str] = "efficientvit"
    AXES: ClassVar[tuple[Axis, ...]] = (
        *stage_axes(WIDTHS, _WIDTH_VALUES, "channels of"),
        *stage_axes(DEPTHS, _DEPTH_VALUES, "blocks after the stride-2 one of"),
        *stage_axes(KINDS, (KIND_VALUES,) * STAGES, "whether there is attention in"),
        Axis("head_width", (8, 16, 24, 32), "channels of an attention head, in all stages"),
        Axis("scales", tuple(SCALES), "kernel sides of the aggregations in attention"),
        Axis("expand_ratio", (2, 3, 4, 5, 6), "hidden over input channels of all blocks"),
        Axis("classifier", tuple(CLASSIFIERS), "channels of the classifier's two hidden layers"),
    )

    def _make_rules(self) -> tuple[Rule, ...]:
        maps = stage_maps(self.resolution)
        return (
            *growing_rules(WIDTHS),
            *(_head_rule(stage) for stage in range(STAGES)),
            *(_scale_rule(stage, shape) for stage, shape in enumerate(maps)),
        )

    # --- networks -------------------------------------------------------------------------------

    def _count(self) -> Counted[Any]:
        stages = [self._depths_by_kind(stage) for stage in range(STAGES)]
        heads = self._axis["head_width"].integers
        forms = [
            self._form(stages, kinds, head)
            for kinds in itertools.product(*stages)
            for head in (heads if ATTENTION in kinds else (1,))
        ]
        return Product(
            Listed(self._axis["expand_ratio"].integers),
            Listed(CLASSIFIERS[str(name)] for name in self._axis["classifier"].values),
            Listed(self._axis[DEPTHS[0]].integers),
            Union(forms),
        )

    def _depths_by_kind(self, stage: int) -> dict[StageKind, Listed[int]]:
        """Depths of a stage by what it then is, in the order of the axes' values."""
        found: dict[StageKind, list[int]] = {}
        for choices in self._valid_choices(KINDS[stage], DEPTHS[stage + 1]):
            depth = int(choices[DEPTHS[stage + 1]])
            found.setdefault(stage_kind(choices, stage), []).append(depth)
        return {kind: Listed(depths) for kind, depths in found.items()}

    def _form(
        self,
        stages: Sequence[Mapping[StageKind, Listed[int]]],
        kinds: tuple[StageKind, ...],
        head: int,
    ) -> Counted[tuple[Any, ...]]:
        """Widths, depths and scales of stages of these kinds with heads of this width."""
        layers = [self._axis[name].integers for name in WIDTHS]
        for stage, kind in enumerate(kinds, start=1):
            if kind == ATTENTION:
                layers[stage] = tuple(width for width in layers[stage] if width % head == 0)
        return Product(
            Listed([(kinds, head)]),
            Chain(layers, operator.le),
            Product(*(stage[kind] for stage, kind in zip(stages, kinds, strict=True))),
            Listed(self._scales(kinds)),
        )

    def _scales(self, kinds: tuple[StageKind, ...]) -> list[tuple[int, ...]]:
        """Scales that fit all maps attended to."""
        if ATTENTION not in kinds:
            return [()]
        maps = stage_maps(self.resolution)
        attended = [shape for shape, kind in zip(maps, kinds, strict=True) if kind == ATTENTION]
        known = [SCALES[str(name)] for name in self._axis["scales"].values]
        return [scales for scales in known if all(fits(scales, shape) for shape in attended)]

    def _numbered(self, parts: Any) -> EfficientViTConfig:  # noqa: ANN401 - as in the base class
        ratio, classifier, stem, ((kinds, head), widths, depths, scales) = parts
        depths = (stem, *depths)
        return self._config(_Network(widths, depths, kinds, head, scales, float(ratio), classifier))

    def _costs(self, numbers: Numbers) -> CostArrays:
        ratios, classifier, stem, (forms, chain, depths, scales) = self._networks.columns(numbers)
        widths = side_by_side([width.integers() for width in chain])
        blocks = side_by_side([depth.integers() for depth in (stem, *depths)])
        ratio = ratios.integers()[:, None]
        return cost_arrays(
            EfficientViTColumns.from_configs(
                [EfficientViTConfig(image_size=self.resolution)]
            ).varied(
                widths=widths,
                depths=blocks,
                kinds=forms.integers(lambda form: list(map(STAGE_KINDS.index, form[0]))),
                head_dim=forms.integers(lambda form: form[1]),
                downsample_hidden=widths[:, :-1] * ratio,
                block_hidden=widths[:, 1:] * np.where(blocks[:, 1:] > 0, ratio, 1),
                scales=scales.integers(lambda sides: (*sides, 0, 0)[:MOST_SCALES]),
                head_widths=classifier.integers(),
            )
        )

    def _config(self, network: _Network) -> EfficientViTConfig:
        ratio = network.expand_ratio
        return EfficientViTConfig(
            image_size=self.resolution,
            widths=network.widths,
            depths=network.depths,
            kinds=network.kinds,
            expand_ratios=tuple(ratio if depth else 1.0 for depth in network.depths[1:]),
            downsample_ratios=(ratio,) * STAGES,
            head_dim=network.head_width,
            scales=network.scales,
            head_widths=network.classifier,
        )

    def _identity(self, choices: Choices) -> _Network:
        kinds = tuple(stage_kind(choices, stage) for stage in range(STAGES))
        attends = ATTENTION in kinds
        return _Network(
            stage_integers(choices, WIDTHS),
            stage_integers(choices, DEPTHS),
            kinds,
            int(choices["head_width"]) if attends else 1,
            SCALES[str(choices["scales"])] if attends else (),
            float(choices["expand_ratio"]),
            CLASSIFIERS[str(choices["classifier"])],
        )

    def _build(self, choices: Choices) -> EfficientViTConfig:
        return self._config(self._identity(choices))

    # --- the way back ---------------------------------------------------------------------------

    def encodings(self, config: ModelConfig) -> Iterator[Choices]:
        """All valid choices that make this same network, in a fixed order."""
        if not isinstance(config, EfficientViTConfig):
            raise InvalidVariant(
                f"space efficientvit holds family efficientvit, got family {config.family}"
            )
        network = config.canonical()
        attends = ATTENTION in network.kinds
        shown: dict[str, Sequence[object]] = {
            **{name: (width,) for name, width in zip(WIDTHS, network.widths, strict=True)},
            **{name: (depth,) for name, depth in zip(DEPTHS, network.depths, strict=True)},
            **{name: (kind,) for name, kind in zip(KINDS, _shown_kinds(network), strict=True)},
            "head_width": (network.head_dim,) if attends else self._axis["head_width"].values,
            "scales": (scales_name(network.scales),) if attends else self._axis["scales"].values,
            "expand_ratio": (_shown_ratio(network),),
            "classifier": (classifier_name(network.head_widths),),
        }
        choices = self._combined(shown)
        self._check_fixed(network, _SEARCHED)
        return choices


def _shown_kinds(config: EfficientViTConfig) -> list[StageKind]:
    """What a canonical configuration's kinds were chosen as."""
    return [
        ATTENTION if kind == EMPTY_ATTENTION and not depth else kind
        for kind, depth in zip(config.kinds, config.depths[1:], strict=True)
    ]


def _shown_ratio(config: EfficientViTConfig) -> float:
    """The expand ratio that all blocks of a configuration share.

    Raises:
        InvalidVariant: They share none.
    """
    pairs = zip(config.expand_ratios, config.depths[1:], strict=True)
    ratios = {*config.downsample_ratios, *(ratio for ratio, depth in pairs if depth)}
    if len(ratios) != 1:
        raise InvalidVariant(f"all blocks share one expand_ratio, got {sorted(ratios)}")
    return ratios.pop()


# --- what choices mean --------------------------------------------------------------------------


def stage_kind(choices: Choices, stage: int) -> StageKind:
    """What a stage is.

    Args:
        choices: At least the stage's kind and depth.
        stage: 0 to 3.
    """
    kind = cast("StageKind", choices[KINDS[stage]])
    return EMPTY_ATTENTION if kind == ATTENTION and not choices[DEPTHS[stage + 1]] else kind


def stage_maps(resolution: Resolution) -> tuple[Resolution, ...]:
    """Height and width of the four stages' maps: 1/4, 1/8, 1/16 and 1/32 of the image."""
    height, width = resolution
    strides = [2 ** (stage + 2) for stage in range(STAGES)]
    return tuple((ceil_div(height, stride), ceil_div(width, stride)) for stride in strides)


def fits(scales: Sequence[int], shape: Resolution) -> bool:
    """Whether every weight of the aggregations' kernels meets a map of this shape.

    A kernel of side s reaches s // 2 pixels from its centre; on a map no longer than that, its
    outer weights only ever meet padding.
    """
    return all(scale // 2 < min(shape) for scale in scales)


# --- rules --------------------------------------------------------------------------------------


def _head_rule(stage: int) -> Rule:
    width, depth, kind = WIDTHS[stage + 1], DEPTHS[stage + 1], KINDS[stage]

    def holds(choices: Choices) -> bool:
        attends = stage_kind(choices, stage) == ATTENTION
        return not attends or int(choices[width]) % int(choices["head_width"]) == 0

    return Rule(
        name=f"{width}_splits",
        reason="attention splits channels evenly over heads",
        reads=(width, "head_width", kind, depth),
        holds=holds,
        statement=lambda choices: (
            f"{width} of a stage that attends must be divisible by head_width, "
            f"got {choices[width]} and {choices['head_width']}"
        ),
    )


def _scale_rule(stage: int, shape: Resolution) -> Rule:
    depth, kind = DEPTHS[stage + 1], KINDS[stage]

    def holds(choices: Choices) -> bool:
        attends = stage_kind(choices, stage) == ATTENTION
        return not attends or fits(SCALES[str(choices["scales"])], shape)

    return Rule(
        name=f"scales_fit_{stage + 1}",
        reason="outer weights of larger kernels would only ever meet padding",
        reads=("scales", kind, depth),
        holds=holds,
        statement=lambda choices: (
            f"scales must be below twice the shorter side of the map of stage {stage + 1}, which "
            f"attends, got {choices['scales']} on {shape[0]} x {shape[1]}"
        ),
    )
