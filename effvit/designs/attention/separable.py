"""SepViT's depthwise separable self-attention, over windows (DSSA) or groups of them (GSA).

Paper: Li et al., "SepViT: Separable Vision Transformer", arXiv 2203.15380, sections 3.2 and 3.3.
Attention within windows of M x M pixels (DSA), then among the N windows (PSA). Cost on an H x W map
of C channels (section 3.2), in multiply-accumulates:

    DSA:  3 HW C^2 + 3 N C^2 + 2 N (M^2 + 1)^2 C
    PSA:    HW C^2 + 2 N C^2 + N^2 C + N HW C

For GSA M is the side of a group of windows. All else is said where SepViT is, in
:mod:`effvit.designs.sepvit`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, get_args

from effvit.cost import Count, Ledger, ceil_div
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.attention.windows import WindowAttention
from effvit.designs.blocks import Shape
from effvit.designs.macro import (
    ALWAYS,
    LEARNED,
    MULTI_WINDOW,
    NONE,
    ZERO,
    WindowRepresentation,
)
from effvit.designs.sepvit import BlockPlan, add_separable_attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparableAttention(AttentionDesign):
    """DSSA, or GSA, which is the same over larger windows; see the module.

    Attributes:
        heads: Attention heads.
        window: Height and width of a window, cut to the design resolution's map.
        grid: Windows down and across that map.
        representation: Index into :data:`effvit.designs.macro.REPRESENTATIONS`; that of "none"
            where windows are not mixed.
        mixes: 1 where pointwise attention mixes windows, else 0.
        shortcuts: 1 with inner shortcuts, else 0.
    """

    network: ClassVar[str] = "effvit.networks.sepvit:SeparableAttention"

    heads: Count
    window: Shape
    grid: Shape
    representation: Count
    mixes: Count
    shortcuts: Count

    @classmethod
    def at(cls, site: Site) -> SeparableAttention:
        """DSSA: over windows."""
        return cls._over(site, site.window)

    @classmethod
    def grouped(cls, site: Site) -> SeparableAttention:
        """GSA: over groups of windows."""
        return cls._over(site, site.window * site.group)

    @classmethod
    def _over(cls, site: Site, side: Count) -> SeparableAttention:
        window = site.cut(side)
        grid = ceil_div(site.shape[0], window[0]), ceil_div(site.shape[1], window[1])
        several = grid[0] * grid[1] > 1
        asked = (site.pointwise == ALWAYS) | (site.pointwise == MULTI_WINDOW) & several
        mixes = 1 * asked * (site.representation != NONE)
        return cls(
            channels=site.channels,
            heads=site.heads,
            window=window,
            grid=grid,
            representation=mixes * site.representation + (1 - mixes) * NONE,
            mixes=mixes,
            shortcuts=site.shortcuts,
        )

    def plan(self) -> BlockPlan:
        """The same as SepViT has it; of one network only."""
        return BlockPlan(
            self.window, self.grid, get_args(WindowRepresentation)[self.representation]
        )

    @property
    def name(self) -> str:
        """DSSA, whatever the side: which of two sides is a group of the other, the stage tells."""
        return "dssa"

    def normal(self) -> AttentionDesign:
        """Window attention where several windows are not mixed and there are no shortcuts.

        One window is not full attention: at larger inputs it keeps its side.
        """
        if self.mixes or self.shortcuts or self.grid == (1, 1):
            return self
        return WindowAttention(
            channels=self.channels, heads=self.heads, window=self.window, whole=0
        )

    def settings(self) -> Mapping[str, int]:
        """See the base class."""
        return {"heads": self.heads, "windows": max(self.window)}

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        add_separable_attention(
            ledger,
            name,
            shape=shape,
            channels=self.channels,
            heads=self.heads,
            window=self.window,
            design_grid=self.grid,
            representation=self.representation,
            pointwise=self.mixes,
            held=held,
            repeat=repeat,
        )

    def kept(self, shape: Shape) -> Count:
        """Window tokens."""
        grid = ceil_div(shape[0], self.window[0]), ceil_div(shape[1], self.window[1])
        token = (self.representation == LEARNED) | (self.representation == ZERO)
        return token * grid[0] * grid[1] * self.channels
