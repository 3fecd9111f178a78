"""CSWin's cross-shaped window attention.

Paper: Dong et al., "CSWin Transformer", arXiv 2107.00652, sections 3.2 and 3.3. Half of the heads
attend within vertical stripes of width sw, the others within horizontal ones, and a depthwise 3x3
convolution of the values encodes positions (LePE). Cost on an H x W map of C channels (section
3.2), in multiply-accumulates, LePE's share last:

    HW C (4 C + sw H + sw W) + 9 HW C

All else is said where CSWin is, in :mod:`effvit.designs.cswin`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from effvit.cost import Count, Ledger, smaller
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.blocks import Shape
from effvit.designs.cswin import add_cross_shaped_attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossWindowAttention(AttentionDesign):
    """Attention within a cross of stripes; see the module.

    Attributes:
        heads: Attention heads of both branches together.
        stripe: Width of a stripe, cut to the design resolution's map.
        whole: 1 where a stripe is as wide as that map: one branch over the whole map then.
    """

    network: ClassVar[str] = "effvit.networks.attention.cross:CrossWindowAttention"

    heads: Count
    stripe: Count
    whole: Count

    @classmethod
    def at(cls, site: Site) -> CrossWindowAttention:
        """With the stage's stripes."""
        height, width = site.cut(site.stripe)
        return cls(
            channels=site.channels,
            heads=site.heads,
            stripe=height + width - smaller(height, width),
            whole=site.covers(site.stripe),
        )

    @property
    def name(self) -> str:
        """See the base class."""
        return "cross_window"

    def problem(self) -> str | None:
        """Each of two branches needs as many heads."""
        if self.whole or self.heads % 2 == 0:
            return None
        return (
            "heads must be even where cross-shaped windows have two branches, got "
            f"{self.heads} (nearest valid: {self.heads + 1})"
        )

    def settings(self) -> Mapping[str, int]:
        """See the base class."""
        return {"heads": self.heads, "stripes": self.stripe}

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        self.add_norm(ledger, name, shape, repeat)
        add_cross_shaped_attention(
            ledger,
            f"{name}.attention",
            shape=shape,
            channels=self.channels,
            heads=self.heads,
            split=self.stripe,
            whole=self.whole,
            held=held + shape[0] * shape[1] * self.channels,
            repeat=repeat,
        )
