"""Which part of a shared tensor a variant's parameter is: rules of each family, by name.

Every parameter of a scaled variant is a slice of a tensor that all variants share which have a
parameter of that name and kind. A shared tensor has one axis for each of the parameter's; what an
axis is, a *role* says:

- ``first``: channels whose order means nothing. A variant has the first ones.
- ``stream``: channels of a stage's map, with its heads interleaved: channel ``c`` belongs to head
  ``c mod h``. The first channels then hold a share of every head, so a narrower variant has whole
  heads, narrower ones; where heads lie one after the other, slices would cut them. The block is
  the family's own under a fixed permutation of channels.
- ``before``: the stream of the stage before, of the image in the first stage.
- ``packed``: several streams one after the other, such as queries, keys and values.
- ``query_packed``: one channel, then two streams (MobileViTv2's context scores come first);
  ``first_query_packed`` the same where channels' order means nothing.
- ``headwise``: three streams, head by head (EfficientViT's order of queries, keys and values).
- ``branch``: a share of the stream (branches of cross-shaped windows).
- ``whole``: never sliced. Tensors that differ in such an axis, in a kernel's side or in a window
  token's grid, are not shared: the size is part of the shared tensor's key.

Depths are sliced by name as well: a stage of two blocks has the first two.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from effvit.config import ConfigError, ModelConfig
from effvit.designs.efficientvit import EfficientViTConfig
from effvit.designs.hybrid import HybridConfig
from effvit.designs.macro import MacroConfig
from effvit.designs.mobilevitv2 import MobileViTv2Config


@dataclasses.dataclass(frozen=True)
class AxisSlice:
    """Where the elements of a parameter's axis lie in the shared tensor's.

    The shared axis is ``lead`` elements, then ``parts`` parts as wide as the widest variant needs.

    Attributes:
        group: Names what is as wide: axes of one group share the widest variant's extent.
        part, place: Of each element after the lead, (n,).
        extent: Places of a part that this parameter needs.
        parts, lead: See above.
    """

    group: str
    part: Tensor
    place: Tensor
    extent: int
    parts: int = 1
    lead: int = 0

    def index(self, extent: int) -> Tensor:
        """Elements of the shared axis, in the parameter's order, (n,)."""
        body = self.lead + self.part * extent + self.place
        return torch.cat((torch.arange(self.lead), body))

    def size(self, extent: int) -> int:
        """Elements of the shared axis."""
        return self.lead + self.parts * extent


@dataclasses.dataclass(frozen=True)
class Share:
    """What a parameter is of the shared weights: a tensor's key, and the slice of each axis."""

    key: str
    axes: tuple[AxisSlice, ...]


@dataclasses.dataclass(frozen=True)
class _Axis:
    """An axis of a parameter, and the streams of its network.

    Attributes:
        size: Elements.
        number: Of the axis in its parameter.
        name: Of the parameter.
        at: Number of the parameter's stage, from 0; None outside of stages.
        widths, heads: Of all stages.
    """

    size: int
    number: int
    name: str
    at: int | None
    widths: Sequence[int]
    heads: Sequence[int]

    @property
    def stage(self) -> int:
        """Number of its stage; only what is in one has streams."""
        assert self.at is not None
        return self.at

    def stream(self, stage: int) -> Tensor:
        """Place of each channel of a stage's map in the shared stream, (C,)."""
        return interleaved(self.widths[stage], self.heads[stage])


@functools.lru_cache(maxsize=512)
def interleaved(channels: int, heads: int) -> Tensor:
    """Where channels that lie head by head go when heads alternate, (C,)."""
    channel, width = torch.arange(channels), channels // heads
    return channel % width * heads + channel // width


# --- roles --------------------------------------------------------------------------------------


def _in_order(group: str, size: int) -> AxisSlice:
    order = torch.arange(size)
    return AxisSlice(group, torch.zeros_like(order), order, size)


def _first(axis: _Axis) -> AxisSlice:
    return _in_order(_group(axis), axis.size)


def _group(axis: _Axis) -> str:
    """What is as wide as an axis whose channels are the first: the same axis of all blocks."""
    where = re.sub(r"blocks\.\d+", "blocks", axis.name)
    return f"{where}.{axis.number}"


def _whole(axis: _Axis) -> AxisSlice:
    return _in_order(str(axis.size), axis.size)


def _streams(stage: int, order: Tensor, parts: int, lead: int = 0) -> AxisSlice:
    part = torch.arange(parts).repeat_interleave(len(order))
    extent = int(order.max()) + 1
    return AxisSlice(f"stream.{stage}", part, order.repeat(parts), extent, parts, lead)


def _stream(axis: _Axis) -> AxisSlice:
    return _streams(axis.stage, axis.stream(axis.stage), 1)


def _before(axis: _Axis) -> AxisSlice:
    before = axis.stage - 1
    return _whole(axis) if before < 0 else _streams(before, axis.stream(before), 1)


def _packed(axis: _Axis) -> AxisSlice:
    order = axis.stream(axis.stage)
    return _streams(axis.stage, order, axis.size // len(order))


def _query_packed(axis: _Axis) -> AxisSlice:
    return _streams(axis.stage, axis.stream(axis.stage), 2, lead=1)


def _first_query_packed(axis: _Axis) -> AxisSlice:
    slices = _streams(axis.stage, torch.arange((axis.size - 1) // 2), 2, lead=1)
    return dataclasses.replace(slices, group=_group(axis))


def _headwise(axis: _Axis) -> AxisSlice:
    order = axis.stream(axis.stage)
    # Streams by (part, head, channel of the head), as the parameter has them: head by head.
    parts = torch.stack((torch.arange(3).repeat_interleave(len(order)), order.repeat(3)))
    by_head = parts.unflatten(1, (3, axis.heads[axis.stage], -1)).transpose(1, 2)
    part, place = by_head.flatten(1)
    return AxisSlice(f"stream.{axis.stage}", part, place, int(order.max()) + 1, 3)


def _branch(axis: _Axis) -> AxisSlice:
    found = re.search(r"branches\.(\d+)", axis.name)
    assert found is not None
    start = int(found[1]) * axis.size
    order = axis.stream(axis.stage)[start : start + axis.size]
    slices = _streams(axis.stage, order, 1)
    return dataclasses.replace(slices, extent=axis.widths[axis.stage])


_ROLES: Mapping[str, Callable[[_Axis], AxisSlice]] = {
    "first": _first,
    "whole": _whole,
    "stream": _stream,
    "before": _before,
    "packed": _packed,
    "query_packed": _query_packed,
    "first_query_packed": _first_query_packed,
    "headwise": _headwise,
    "branch": _branch,
}

# --- families -----------------------------------------------------------------------------------

Rules = tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]
"""Roles of the axes of parameters whose names match, the first that does; others are ``whole``."""


def _rules(*rows: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), tuple(roles.split())) for pattern, roles in rows)


_MACRO = _rules(
    (r"embed\.conv\.weight$", "stream before"),
    (r"attention\.aggregations\.\d+\.\d+\.weight$", "headwise"),
    (r"multi_scale.*attention\.qkv\.|relu_linear.*attention\.qkv\.", "headwise stream"),
    (r"separable.*attention\.qkv\.", "query_packed stream"),
    (r"attention\.(qkv|kv|token_qk)\.", "packed stream"),
    (r"attention\.proj\.conv\.weight$", "stream packed"),
    (r"attention\.(q|sr|proj)\.", "stream stream"),
    (r"attention\.branches\.\d+\.lepe\.", "branch"),
    (r"attention\.(keys|values)$", "whole whole"),
    (r"attention\.pwconv1\.weight$", "packed stream"),
    (r"attention\.dwconv\.weight$", "packed"),
    (r"attention\.pwconv2\.weight$", "stream packed"),
    (r"mlp\.fc1\.", "first stream"),
    (r"mlp\.fc2\.", "stream first"),
    (r"\.token$", "whole whole stream"),
    (r"^readings\.\d+\.weight$", "whole stream"),
    (r"^readings\.\d+\.bias$", "whole"),
    (r"\.(norm\d?|token_norm|position|representation)\.|^norms\.|embed\.", "stream"),
)
_MOBILEVITV2 = _rules(
    (r"attention\.qkv\.", "first_query_packed first"),
    (r"^readings\.\d+\.weight$", "whole first"),
    (r"^readings\.\d+\.bias$", "whole"),
    (r"", "first first"),
)
_EFFICIENTVIT = _rules(
    (r"attention\.proj\.conv\.weight$", "first packed"),
    (r"attention\.aggregations\.\d+\.1\.weight$", "first whole"),
    (r"^readings\.\d+\.weight$", "whole first"),
    (r"^readings\.\d+\.bias$", "whole"),
    (r"", "first first"),
)


@dataclasses.dataclass(frozen=True)
class Family:
    """How parameters of a family are shared.

    Attributes:
        rules: Roles of axes.
        streams: Widths and heads of the stages of a scaled variant.
        kinds: Attention types of its blocks, by stage, where they differ: parameters of one name
            are then shared among blocks of one type.
    """

    rules: Rules
    streams: Callable[[Any], tuple[Sequence[int], Sequence[int]]]
    kinds: Callable[[Any], Sequence[Sequence[str]]] | None = None


def _macro_streams(config: MacroConfig) -> tuple[Sequence[int], Sequence[int]]:
    return config.widths, config.heads


def _after_stem(
    config: MobileViTv2Config | EfficientViTConfig,
) -> tuple[Sequence[int], Sequence[int]]:
    return config.widths[1:], [1] * len(config.widths[1:])


def _attention_types(config: HybridConfig) -> Sequence[Sequence[str]]:
    return config.attention


FAMILIES: Mapping[str, Family] = {
    "sepvit": Family(_MACRO, _macro_streams),
    "hybrid": Family(_MACRO, _macro_streams, _attention_types),
    "mobilevitv2": Family(_MOBILEVITV2, _after_stem),
    "efficientvit": Family(_EFFICIENTVIT, _after_stem),
}
"""Families whose variants share weights by name."""

_STAGE = re.compile(r"^(?:body\.stages|norms|readings)\.(\d+)")
_BLOCK = re.compile(r"\.blocks\.(\d+)\.")
_TOKEN_MIXING = re.compile(r"\.attention\.token_")


def family_rules(family: str) -> Family:
    """Look up how a family shares weights.

    Raises:
        ConfigError: It does not.
    """
    if family not in FAMILIES:
        raise ConfigError(
            f"a supernet shares weights of families {', '.join(FAMILIES)}, got family {family!r}"
        )
    return FAMILIES[family]


def share(name: str, shape: Sequence[int], config: ModelConfig) -> Share:
    """Say what a parameter of a scaled variant's network is of the shared weights.

    Args:
        name: Of the parameter, in :class:`search.proxy.network.ProxyNetwork`.
        shape: Its shape.
        config: The scaled variant.

    Raises:
        ConfigError: The family has no rules, or none for this parameter.
    """
    family = family_rules(config.family)
    stage = int(found[1]) if (found := _STAGE.match(name)) else None
    kind = _kind(name, config, family, stage)
    kinded = name.replace(".attention.", f".{kind}.attention.") if kind else name
    widths, heads = family.streams(config)
    roles = _roles(kinded, family.rules, len(shape))
    axes = tuple(
        _ROLES[role](_Axis(size, number, kinded, stage, widths, heads))
        for number, (role, size) in enumerate(zip(roles, shape, strict=True))
    )
    kept = [str(size) for role, size in zip(roles, shape, strict=True) if role == "whole"]
    parts = [str(axis.parts) for axis, role in zip(axes, roles, strict=True) if role == "packed"]
    key = re.sub(r"branches\.\d+", "branches", kinded)
    return Share("@".join((key, *parts, "x".join(kept))).rstrip("@"), axes)


def _kind(name: str, config: ModelConfig, family: Family, stage: int | None) -> str:
    """Type of the attention whose parameter it is; of what reads a window's token, also of that."""
    block = _BLOCK.search(name)
    if stage is None or block is None or ".attention." not in name:
        return ""
    kind = family.kinds(config)[stage][int(block[1])] if family.kinds else ""
    if _TOKEN_MIXING.search(name):
        representation = getattr(config, "window_representation", "")
        learned = representation in ("zero", "learned")
        kind = f"{kind}_{'token' if learned else representation}".lstrip("_")
    return kind


def _roles(name: str, rules: Rules, axes: int) -> tuple[str, ...]:
    for pattern, roles in rules:
        if pattern.search(name):
            return (*roles, *["whole"] * axes)[:axes]
    raise ConfigError(f"a supernet has no rule for parameter {name}")
