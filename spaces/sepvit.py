"""The space of SepViT variants (family: :mod:`effvit.designs.sepvit`).

How its distinct networks are counted without listing them. Widths and head width make *shapes*;
window size, group count, depths and attention patterns make, stage by stage, *sequences*: the
window sides of the stage's blocks, cut to its map. All stages share one window size and one group
count, here called a *pair*. A sequence may come from several pairs, and sequences of four stages
form a network exactly when at least one pair makes all four. With the pairs of a sequence as a bit
mask, that is: the bitwise "and" of the four masks is not 0. Sequences with equal masks behave
alike, so the count sums products over classes of them, not over the sequences themselves.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import numpy as np

from effvit import ModelConfig
from effvit.config import Resolution
from effvit.cost import CostArrays, IntArray, ceil_div
from effvit.designs.macro import (
    MULTI_WINDOW,
    NONE,
    OFF,
    REPRESENTATIONS,
    STAGES,
    WindowRepresentation,
    stage_maps,
)
from effvit.designs.sepvit import SepViTColumns, SepViTConfig, cost_arrays, window_kinds
from spaces.axes import Axis, Choices, InvalidVariant, Rule, Value
from spaces.counted import Column, Counted, Listed, Numbers, Product, Union, side_by_side
from spaces.space import Space
from spaces.stages import growing_rules, stage_axes, stage_integers, stage_names

Sides: TypeAlias = tuple[int, ...]
"""Window side of each block of a stage, in pixels of the stage's map, cut to it: a sequence."""

Pair: TypeAlias = tuple[int, int]
"""Window size and group count."""

MAX_PADDING = 0.5
"""Positions that padding may add to a stage's map, as a share of the map's own."""

DSSA, ALTERNATE, GSA = ATTENTION = ("dssa", "alternate", "gsa")
"""Attention of a stage's blocks: all DSSA; DSSA, GSA, DSSA, ... as published; all GSA."""


WIDTHS, DEPTHS, ATTENTIONS = (
    stage_names(prefix, range(1, STAGES + 1)) for prefix in ("width", "depth", "attention")
)

_WIDTH_VALUES = (range(32, 129, 32), range(64, 257, 32), range(128, 513, 64), range(256, 1025, 128))
_DEPTH_VALUES = (range(1, 4), range(1, 5), range(2, 15, 2), range(1, 4))

_SEARCHED = (
    "widths",
    "depths",
    "heads",
    "windows",
    "mlp_ratio",
    "window_representation",
    "pointwise_attention",
)
"""Fields of the configuration that the axes set; the others stay at their defaults."""


class _Network(NamedTuple):
    """All that tells one network of the space from another."""

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratio: float
    windows: tuple[Sides, ...]
    representation: str


@dataclasses.dataclass(frozen=True)
class _Stage:
    """The valid sequences of one stage.

    Attributes:
        shape: Height and width of the stage's map.
        sequence: The sequence that ``(window size, group count, depth, attention)`` make.
        sources: Where each sequence comes from: attention patterns by pair.
    """

    shape: Resolution
    sequence: Mapping[tuple[Value, ...], Sides]
    sources: Mapping[Sides, Mapping[Pair, list[str]]]

    def several(self, sides: Sides) -> bool:
        """Whether any block has several windows, so that it mixes among them."""
        height, width = self.shape
        return any(side < height or side < width for side in sides)

    def nearest(self, sides: Sides) -> Sides:
        """The valid sequence that differs least in depth, then in window sides."""
        return min(
            self.sources,
            key=lambda other: (
                abs(len(other) - len(sides)),
                sum(abs(a - b) for a, b in zip(other, sides, strict=False)),
            ),
        )


class _Class(NamedTuple):
    """Sequences of a stage that come from the same pairs and agree in having several windows."""

    pairs: int
    several: bool
    members: Listed[Sides]


class SepViTSpace(Space):
    """SepViT variants: everything the axes do not name is as in :class:`SepViTConfig`'s defaults.

    Distinct networks are those whose canonical configurations differ. Choices collapse where

    - a window is larger than the map, which then is the window;
    - a pattern has no GSA block, or only GSA blocks, and so reads one product of window size and
      group count, or none of the group count;
    - no block has several windows, so that nothing reads the window representation.
    """

    name: ClassVar[str] = "sepvit"
    AXES: ClassVar[tuple[Axis, ...]] = (
        *stage_axes(WIDTHS, _WIDTH_VALUES, "channels of"),
        *stage_axes(DEPTHS, _DEPTH_VALUES, "blocks of"),
        Axis("window_size", (4, 7, 8, 14), "side of a DSSA window in pixels of the stage's map"),
        Axis("group_count", (2, 3, 4), "windows along a side that GSA gathers into one"),
        *(
            Axis(name, ATTENTION, f"attention of stage {stage}'s blocks")
            for stage, name in enumerate(ATTENTIONS, start=1)
        ),
        Axis("window_representation", REPRESENTATIONS, "what stands for a window among windows"),
        Axis("mlp_ratio", (2, 3, 4), "hidden width of the MLP over channels"),
        Axis("head_width", (16, 24, 32, 64), "channels of an attention head, in all stages"),
    )

    def _make_rules(self) -> tuple[Rule, ...]:
        maps = stage_maps(self.resolution)
        return (
            *growing_rules(WIDTHS),
            *(_head_rule(stage) for stage in range(STAGES)),
            *(_padding_rule(stage, shape) for stage, shape in enumerate(maps)),
        )

    # --- tables, made once ----------------------------------------------------------------------

    @functools.cached_property
    def _stages(self) -> tuple[_Stage, ...]:
        return tuple(self._stage(stage) for stage in range(STAGES))

    def _stage(self, stage: int) -> _Stage:
        shape = stage_maps(self.resolution)[stage]
        names = ("window_size", "group_count", DEPTHS[stage], ATTENTIONS[stage])
        made: dict[tuple[Value, ...], Sides] = {}
        sources: dict[Sides, dict[Pair, list[str]]] = defaultdict(lambda: defaultdict(list))
        for choices in self._valid_choices(*names):
            sides = tuple(min(side, max(shape)) for side in block_sides(choices, stage))
            made[tuple(choices.values())] = sides
            sources[sides][_pair(choices)].append(str(choices[ATTENTIONS[stage]]))
        return _Stage(shape, made, sources)

    @functools.cached_property
    def _pairs(self) -> tuple[Pair, ...]:
        return tuple(map(_pair, self._valid_choices("window_size", "group_count")))

    def _classes(self, stage: _Stage) -> list[_Class]:
        """Group a stage's sequences."""
        classes: dict[tuple[int, bool], list[Sides]] = defaultdict(list)
        for sides, sources in stage.sources.items():
            pairs = sum(1 << bit for bit, pair in enumerate(self._pairs) if pair in sources)
            classes[pairs, stage.several(sides)].append(sides)
        return [_Class(*key, Listed(members)) for key, members in classes.items()]

    def _windows(self) -> Counted[tuple[Any, ...]]:
        """All networks' representations and windows, each once."""
        every = (1 << len(self._pairs)) - 1
        partial: list[tuple[int, bool, tuple[Listed[Sides], ...]]] = [(every, False, ())]
        for stage in self._stages:
            partial = [
                (pairs & kind.pairs, several or kind.several, (*sequences, kind.members))
                for (pairs, several, sequences), kind in itertools.product(
                    partial, self._classes(stage)
                )
                if pairs & kind.pairs
            ]
        several = Listed(map(str, self._axis["window_representation"].values))
        single = Listed(["none"])
        return Union(
            Product(several if mixes else single, *sequences) for _, mixes, sequences in partial
        )

    # --- networks -------------------------------------------------------------------------------

    def _count(self) -> Counted[Any]:
        shapes = Listed(map(_shape, self._valid_choices("head_width", *WIDTHS)))
        return Product(shapes, Listed(self._axis["mlp_ratio"].integers), self._windows())

    def _numbered(self, parts: Any) -> SepViTConfig:  # noqa: ANN401 - as in the base class
        (widths, heads), ratio, (representation, *windows) = parts
        return self._config(_Network(widths, heads, float(ratio), tuple(windows), representation))

    def _costs(self, numbers: Numbers) -> CostArrays:
        shapes, ratios, (representation, *windows) = self._networks.columns(numbers)
        shape = shapes.integers()
        kinds = side_by_side([sides.integers(_kinds) for sides in windows])
        columns = SepViTColumns.from_configs([SepViTConfig(image_size=self.resolution)])
        return cost_arrays(
            columns.varied(
                widths=shape[:, 0],
                heads=shape[:, 1],
                hidden=shape[:, 0] * ratios.integers()[:, None],
                windows=kinds[:, :, 0],
                counts=kinds[:, :, 1],
                **mixing(representation),
            )
        )

    def _config(self, network: _Network) -> SepViTConfig:
        mixes = network.representation != "none"
        return SepViTConfig(
            image_size=self.resolution,
            widths=network.widths,
            depths=tuple(map(len, network.windows)),
            heads=network.heads,
            windows=network.windows,
            mlp_ratio=network.mlp_ratio,
            window_representation=cast("WindowRepresentation", network.representation),
            pointwise_attention="multi_window" if mixes else "off",
        )

    def _identity(self, choices: Choices) -> _Network:
        size, groups = _pair(choices)
        windows = tuple(
            stage.sequence[size, groups, choices[depth], choices[attention]]
            for stage, depth, attention in zip(self._stages, DEPTHS, ATTENTIONS, strict=True)
        )
        mixes = any(map(_Stage.several, self._stages, windows))
        return _Network(
            *_shape(choices),
            float(choices["mlp_ratio"]),
            windows,
            str(choices["window_representation"]) if mixes else "none",
        )

    def _build(self, choices: Choices) -> SepViTConfig:
        return self._config(self._identity(choices))

    # --- the way back ---------------------------------------------------------------------------

    def encodings(self, config: ModelConfig) -> Iterator[Choices]:
        """All valid choices that make this same network, in a fixed order."""
        if not isinstance(config, SepViTConfig):
            raise InvalidVariant(f"space sepvit holds family sepvit, got family {config.family}")
        network = config.canonical()
        fixed = self._locate_shape(network)
        windows = tuple(network.block_windows(stage) for stage in range(STAGES))
        pairs = self._locate_windows(windows)
        mixes = any(map(_Stage.several, self._stages, windows))
        representation = self._axis["window_representation"]
        if mixes:
            representation.write(network.window_representation)
        names = (network.window_representation,) if mixes else representation.values
        self._check_rest(network)
        return (
            {**fixed, **made, "window_representation": name}
            for pair in pairs
            for made in self._window_choices(windows, pair)
            for name in names
        )

    def _locate_shape(self, config: SepViTConfig) -> dict[str, Value]:
        """Read the axes off a configuration that it shows directly."""
        heads = {width // count for width, count in zip(config.widths, config.heads, strict=True)}
        if len(heads) != 1:
            raise InvalidVariant(f"all stages share one head_width, got {sorted(heads)}")
        found: dict[str, Value] = {
            **dict(zip(WIDTHS, config.widths, strict=True)),
            **dict(zip(DEPTHS, config.depths, strict=True)),
            "head_width": heads.pop(),
        }
        for name, value in (*found.items(), ("mlp_ratio", config.mlp_ratio)):
            self._axis[name].write(value)
        found["mlp_ratio"] = int(config.mlp_ratio)
        for rule in self.rules:
            if found.keys() >= set(rule.reads) and not rule.holds(found):
                raise InvalidVariant(f"{rule.statement(found)} ({rule.reason})")
        return found

    def _locate_windows(self, windows: tuple[Sides, ...]) -> list[Pair]:
        """Pairs that make these windows."""
        for number, (stage, sides) in enumerate(zip(self._stages, windows, strict=True), start=1):
            if sides not in stage.sources:
                raise InvalidVariant(
                    f"stage {number}'s windows must come from a window_size, group_count and "
                    f"attention of the space and pad no more than it allows, got {sides} "
                    f"(nearest valid: {stage.nearest(sides)})"
                )
        pairs = [
            pair
            for pair in self._pairs
            if all(
                pair in stage.sources[sides]
                for stage, sides in zip(self._stages, windows, strict=True)
            )
        ]
        if not pairs:
            raise InvalidVariant(
                "all stages must share one window_size and group_count of the space, got windows "
                f"{windows}"
            )
        return pairs

    def _window_choices(self, windows: tuple[Sides, ...], pair: Pair) -> Iterator[dict[str, Value]]:
        """All attention patterns that make these windows from a pair."""
        patterns = (
            stage.sources[sides][pair] for stage, sides in zip(self._stages, windows, strict=True)
        )
        for attention in itertools.product(*patterns):
            yield {
                "window_size": pair[0],
                "group_count": pair[1],
                **dict(zip(ATTENTIONS, attention, strict=True)),
            }

    def _check_rest(self, config: SepViTConfig) -> None:
        self._check_fixed(config, _SEARCHED)
        if config.pointwise_attention == "always":
            raise InvalidVariant(
                "pointwise_attention must be multi_window or off in this space, got 'always' with "
                "single-window blocks"
            )


# --- what choices mean --------------------------------------------------------------------------


def _pair(choices: Choices) -> Pair:
    return int(choices["window_size"]), int(choices["group_count"])


def _shape(choices: Choices) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths and heads of the four stages."""
    widths = stage_integers(choices, WIDTHS)
    return widths, tuple(width // int(choices["head_width"]) for width in widths)


def _kinds(sides: Sides) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two window sides of a stage's blocks, and how many blocks have each."""
    distinct, counts = window_kinds(sides, len(sides))
    return (distinct[0], distinct[-1]), (counts[0], sum(counts[1:]))


def mixing(representation: Column[str]) -> dict[str, IntArray]:
    """What of :class:`MacroColumns` follows from how networks represent windows."""
    found = representation.integers(REPRESENTATIONS.index)
    return {"representation": found, "pointwise": np.where(found == NONE, OFF, MULTI_WINDOW)}


def block_sides(choices: Choices, stage: int) -> Sides:
    """Window side of each block of a stage, not yet cut to the map.

    Args:
        choices: At least window size, group count, and the stage's depth and attention.
        stage: 0 to 3.
    """
    depth, attention = int(choices[DEPTHS[stage]]), str(choices[ATTENTIONS[stage]])
    return _written_out(*_pair(choices), attention, depth)


@functools.lru_cache(maxsize=4096)
def _written_out(size: int, groups: int, attention: str, depth: int) -> Sides:
    patterns = {DSSA: (size,), ALTERNATE: (size, size * groups), GSA: (size * groups,)}
    return tuple(itertools.islice(itertools.cycle(patterns[attention]), depth))


def padded_map(shape: Resolution, side: int) -> Resolution:
    """Height and width of a map after padding to whole windows, which are cut to the map first."""
    height, width = (ceil_div(length, min(side, length)) * min(side, length) for length in shape)
    return height, width


# --- rules --------------------------------------------------------------------------------------


def _head_rule(stage: int) -> Rule:
    name = WIDTHS[stage]
    return Rule(
        name=f"{name}_splits",
        reason="attention splits channels evenly over heads",
        reads=(name, "head_width"),
        holds=lambda choices: int(choices[name]) % int(choices["head_width"]) == 0,
        statement=lambda choices: (
            f"{name} must be divisible by head_width, "
            f"got {choices[name]} and {choices['head_width']}"
        ),
    )


def _padding_rule(stage: int, shape: Resolution) -> Rule:
    area = shape[0] * shape[1]

    @functools.cache
    def added(sides: Sides) -> tuple[float, int]:
        """Largest share that padding adds to the map, and the window side that does."""
        return max((math.prod(padded_map(shape, side)) / area - 1, side) for side in set(sides))

    def statement(choices: Choices) -> str:
        share, side = added(block_sides(choices, stage))
        height, width = padded_map(shape, side)
        return (
            f"stage {stage + 1}'s windows may add at most {MAX_PADDING:.1%} positions to its map, "
            f"got {share:.1%} from windows of {side} on {shape[0]} x {shape[1]} "
            f"(padded to {height} x {width})"
        )

    return Rule(
        name=f"padding_{stage + 1}",
        reason="padded positions cost what real ones cost and are thrown away",
        reads=("window_size", "group_count", ATTENTIONS[stage], DEPTHS[stage]),
        holds=lambda choices: added(block_sides(choices, stage))[0] <= MAX_PADDING,
        statement=statement,
    )
