"""Hybrid: SepViT's macro-architecture with any attention type, block by block. The design.

The macro-architecture is in :mod:`effvit.designs.macro`. A block is pre-norm,
x + attention(norm(x)), then x + mlp(norm(x)). What stands for the attention is chosen for each
block from :data:`effvit.designs.attention.types.ATTENTION_TYPES`; each type's file has its paper
and its cost. With DSSA and GSA only it is a SepViT, to the last multiply-accumulate.

Positions are encoded by the convolution alone: window attention comes without Swin's relative
position bias, which makes ``("window", "shifted_window")`` the baseline that SepViT's Table 6 calls
Swin with CPVT, up to its patch embedding.

The network itself is in :mod:`effvit.networks.hybrid`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from effvit.config import ConfigError, Resolution, unknown_name
from effvit.cost import (
    ArrayLedger,
    Cost,
    CostArrays,
    Count,
    IntArray,
    Ledger,
    LedgerFactory,
    ceil_div,
    in_chunks,
)
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.attention.separable import SeparableAttention
from effvit.designs.attention.types import ATTENTION_TYPES, DesignAt
from effvit.designs.macro import (
    POINTWISE,
    REPRESENTATIONS,
    STAGES,
    MacroColumns,
    MacroConfig,
    macro_cost,
    macro_cost_arrays,
    stage_maps,
)
from effvit.designs.rules import check_count, check_entries, check_scales
from effvit.designs.tokens import add_mlp_branch

STAGE_SETTINGS = ("heads", "windows", "groups", "stripes", "sub_sampling", "linformer_lengths")
"""Fields with one number a stage that only some attention types read; 1 where none does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HybridConfig(MacroConfig):
    """A hybrid. Defaults are SepViT-T.

    Heads must also be even where cross-shaped windows have two branches. Of the base class's fields
    ``window_representation``, ``pointwise_attention`` and ``inner_shortcuts`` are read by ``dssa``
    and ``gsa``.

    Attributes:
        attention: Attention types, for each stage a pattern that repeats over its blocks:
            ``("dssa",)`` throughout, ``("dssa", "gsa")`` in turns. Blocks of type ``twins`` are,
            counted in their stage, in turns local (``window``) and global (``sub_sampled``).
        windows: Window side M of each stage in pixels of its map, for ``dssa``, ``gsa``,
            ``window``, ``shifted_window`` and ``twins``. Of the last three a window that covers the
            design resolution's map is no window: attention is full, at any size.
        groups: ``gsa`` attends over groups of so many windows down and across, of each stage.
        stripes: Width of the stripes of ``cross_window`` in each stage, in pixels of its map.
        sub_sampling: Stride at which each stage's ``twins`` sub-sample keys and values; 1 is none,
            which is full attention.
        linformer_lengths: Keys and values of each stage's ``linformer``.
        scales: Kernel sides of the aggregations of ``multi_scale_relu_linear``, odd, ascending.
    """

    family: ClassVar[str] = "hybrid"

    attention: tuple[tuple[str, ...], ...] = (
        ("dssa",),
        ("dssa", "gsa"),
        ("dssa", "gsa"),
        ("dssa",),
    )
    windows: tuple[int, ...] = (7, 7, 7, 7)
    groups: tuple[int, ...] = (2, 2, 2, 2)
    stripes: tuple[int, ...] = (1, 2, 7, 7)
    sub_sampling: tuple[int, ...] = (8, 4, 2, 1)
    linformer_lengths: tuple[int, ...] = (256, 256, 256, 256)
    scales: tuple[int, ...] = (5,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in STAGE_SETTINGS:
            check_entries(name, getattr(self, name), STAGES, "each of 4 stages")
        check_scales(self.scales)
        self._check_attention()

    def _check_attention(self) -> None:
        check_count("attention", self.attention, STAGES, "each of 4 stages")
        for stage, pattern in enumerate(self.attention):
            if not pattern or pattern.__class__ is not tuple:
                raise ConfigError(f"attention must be patterns of types, got {self.attention!r}")
            for name in pattern:
                if name not in ATTENTION_TYPES:
                    raise unknown_name("attention type", name, ATTENTION_TYPES)
            for design in self._designs(stage):
                problem = design.problem()
                if problem:
                    raise ConfigError(f"{problem} in stage {stage + 1}")

    def site(self, stage: int) -> Site:
        """A stage as attention types read it."""
        return Site(
            shape=stage_maps(self.image_size)[stage],
            channels=self.widths[stage],
            heads=self.heads[stage],
            window=self.windows[stage],
            group=self.groups[stage],
            stripe=self.stripes[stage],
            sub_sampling=self.sub_sampling[stage],
            length=self.linformer_lengths[stage],
            scales=self.scales,
            representation=REPRESENTATIONS.index(self.window_representation),
            pointwise=POINTWISE.index(self.pointwise_attention),
            shortcuts=int(self.inner_shortcuts),
        )

    def _designs(self, stage: int) -> list[AttentionDesign]:
        """Each block's attention in a stage."""
        site = self.site(stage)
        made: dict[DesignAt, AttentionDesign] = {}
        blocks = list(block_designs(self.attention[stage], self.depths[stage]))
        for design in blocks:
            if design not in made:
                made[design] = design(site)
        return [made[design] for design in blocks]

    def plan(self) -> tuple[StagePlan, ...]:
        """Lay the network out: what each block's attention is, in its normal form."""
        return tuple(
            StagePlan(shape, tuple(design.normal() for design in self._designs(stage)))
            for stage, shape in enumerate(stage_maps(self.image_size))
        )

    def canonical(self) -> HybridConfig:
        """Write patterns out under one name a design, and set what nothing reads to one value."""
        plan = self.plan()
        stages = [_written(stage.blocks) for stage in plan]
        changes: dict[str, Any] = {
            field: tuple(stage[field] for stage in stages) for field in stages[0]
        }
        used = {name for names in changes["attention"] for name in names}
        separable = used & {"dssa", "gsa"}
        changes["inner_shortcuts"] = self.inner_shortcuts or not separable
        changes["scales"] = self.scales if "multi_scale_relu_linear" in used else ()
        mixing = [
            design
            for stage in plan
            for design in stage.blocks
            if isinstance(design, SeparableAttention) and design.mixes
        ]
        if not mixing:
            changes |= {"window_representation": "none", "pointwise_attention": "off"}
        elif all(design.grid != (1, 1) for design in mixing):
            changes["pointwise_attention"] = "multi_window"
        return self.replace(**changes)


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage at the design resolution: the shape of its map, and its blocks' attention."""

    shape: Resolution
    blocks: tuple[AttentionDesign, ...]


def block_designs(pattern: Sequence[str], depth: int) -> Iterator[DesignAt]:
    """How the design of each block of a stage is made, the pattern written out."""
    seen: Counter[str] = Counter()
    for block in range(depth):
        name = pattern[block % len(pattern)]
        turns = ATTENTION_TYPES[name]
        yield turns[seen[name] % len(turns)]
        seen[name] += 1


def _written(blocks: Sequence[AttentionDesign]) -> Mapping[str, Any]:
    """A stage's fields in the form that canonical configurations have.

    Where windows have two sides the larger ones are groups of the smaller.
    """
    values: dict[str, Any] = dict.fromkeys(STAGE_SETTINGS, 1)
    for design in blocks:
        values |= design.settings()
    sides = [design.settings().get("windows", 0) for design in blocks]
    if any(sides):
        values["windows"] = min(side for side in sides if side)
        values["groups"] = ceil_div(max(sides), values["windows"])
    names = tuple(
        "gsa" if side > values["windows"] else design.name
        for design, side in zip(blocks, sides, strict=True)
    )
    return {"attention": names, **values}


# --- cost ---------------------------------------------------------------------------------------


def cost(config: HybridConfig, resolution: Resolution | None = None) -> Cost:
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
        hidden = config.hidden_widths[stage]
        _block_cost(ledger, name, plan[stage].blocks[block], shape, hidden, held)

    return macro_cost(config, resolution, add_block)


def _block_cost(
    ledger: Ledger,
    name: str,
    design: AttentionDesign,
    shape: Resolution,
    hidden: Count,
    held: Count,
    repeat: Count = 1,
) -> None:
    """One block: attention and MLP, each with a norm before it; ``repeat`` such blocks."""
    design.add_cost(ledger, name, shape=shape, held=held, repeat=repeat)
    pixels = shape[0] * shape[1]
    add_mlp_branch(
        ledger,
        name,
        channels=design.channels,
        hidden=hidden,
        rows=pixels,
        held=held + design.kept(shape) + pixels * design.channels,
        repeat=repeat,
    )


# --- many networks at once ----------------------------------------------------------------------

DESIGNS: tuple[DesignAt, ...] = tuple(
    dict.fromkeys(design for turns in ATTENTION_TYPES.values() for design in turns)
)
"""The distinct designs of all attention types."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HybridColumns(MacroColumns):
    """Many configurations as columns.

    Attributes:
        counts: (n, 4, len(DESIGNS)), blocks of the stage with that design.
        windows, groups, stripes, sub_sampling, linformer_lengths: (n, 4).
        scales: (n, k), 0 where unused.
        shortcuts: (n,), 1 with inner shortcuts.
    """

    counts: IntArray
    windows: IntArray
    groups: IntArray
    stripes: IntArray
    sub_sampling: IntArray
    linformer_lengths: IntArray
    scales: IntArray
    shortcuts: IntArray

    @classmethod
    def from_configs(cls, configs: Sequence[HybridConfig]) -> HybridColumns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        counts = np.zeros((len(configs), STAGES, len(DESIGNS)), np.int64)
        scales = np.zeros((len(configs), max(len(c.scales) for c in configs)), np.int64)
        for row, config in enumerate(configs):
            scales[row, : len(config.scales)] = config.scales
            for stage in range(STAGES):
                for design in block_designs(config.attention[stage], config.depths[stage]):
                    counts[row, stage, DESIGNS.index(design)] += 1
        settings: dict[str, Any] = {
            name: np.array([getattr(c, name) for c in configs], np.int64)
            for name in STAGE_SETTINGS
            if name != "heads"
        }
        return cls(
            counts=counts,
            scales=scales,
            shortcuts=np.array([c.inner_shortcuts for c in configs], np.int64),
            **settings,
            **cls.stacked(configs),
        )

    def site(self, stage: int, rows: IntArray) -> Site:
        """A stage of some of the networks, as attention types read it."""
        return Site(
            shape=stage_maps(self.image_size)[stage],
            channels=self.widths[rows, stage],
            heads=self.heads[rows, stage],
            window=self.windows[rows, stage],
            group=self.groups[rows, stage],
            stripe=self.stripes[rows, stage],
            sub_sampling=self.sub_sampling[rows, stage],
            length=self.linformer_lengths[rows, stage],
            scales=tuple(self.scales[rows].T),
            representation=self.representation[rows],
            pointwise=self.pointwise[rows],
            shortcuts=self.shortcuts[rows],
        )


@in_chunks
def cost_arrays(
    columns: HybridColumns,
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

    def add_blocks(ledger: ArrayLedger, stage: int, shape: Resolution, held: Count) -> None:
        held = np.broadcast_to(held, len(columns))
        for index, design in enumerate(DESIGNS):
            rows = np.flatnonzero(columns.counts[:, stage, index])
            if not len(rows):
                continue
            part = ledger.part(len(rows))
            _block_cost(
                part,
                "",
                design(columns.site(stage, rows)),
                shape,
                columns.hidden[rows, stage],
                held[rows],
                repeat=columns.counts[rows, stage, index],
            )
            ledger.merge(rows, part)

    return macro_cost_arrays(columns, resolution, add_blocks, ledgers)


VARIANTS: dict[str, HybridConfig] = {}
"""None: compositions are what a search makes of them, and no paper has published one."""
