"""Attention within windows, shifted or not.

Paper: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv
2103.14030, section 3.2; without shifts also Chu et al., "Twins", arXiv 2104.13840, section 3.2,
"locally-grouped self-attention" (LSA).

Softmax attention within windows of M x M pixels. Swin alternates between windows from the corner
on and windows shifted by M / 2, in a stage's pattern ``("window", "shifted_window")``. A shifted
map is rolled, so that it has no more windows than before (section 3.2, "Efficient batch
computation"); a mask keeps apart what the roll brought together. There is no bias for relative
positions: the macro-architecture's convolution encodes them.

Cost on an H x W map of C channels (equation 2), shifted or not, in multiply-accumulates:

    4 HW C^2 + 2 M^2 HW C

Windows at sizes they do not divide: the map is zero-padded at the bottom and on the right, as for
SepViT; no query attends to padding. Of a window that covers the map of the design resolution
nothing is left but full attention, also at larger sizes (as CSWin's stripes that are as wide as the
map).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from effvit.cost import Count, Ledger, add_linear, ceil_div
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.attention.full import FullAttention
from effvit.designs.blocks import Shape
from effvit.designs.macro import NONE
from effvit.designs.sepvit import add_separable_attention
from effvit.designs.tokens import add_attention_products


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowAttention(AttentionDesign):
    """Attention within windows from the map's corner on: SepViT's DSA and nothing after it.

    Attributes:
        heads: Attention heads.
        window: Height and width of a window, cut to the design resolution's map.
        whole: 1 where a window covers that map: attention is full then.
    """

    network: ClassVar[str] = "effvit.networks.attention.windows:WindowAttention"

    heads: Count
    window: Shape
    whole: Count

    @classmethod
    def at(cls, site: Site) -> WindowAttention:
        """With the stage's windows."""
        return cls(
            channels=site.channels,
            heads=site.heads,
            window=site.cut(site.window),
            whole=site.covers(site.window),
        )

    @property
    def name(self) -> str:
        """See the base class."""
        return "window"

    def normal(self) -> AttentionDesign:
        """Full attention where a window covers the map."""
        return self._full() if self.whole else self

    def settings(self) -> Mapping[str, int]:
        """See the base class."""
        return {"heads": self.heads, "windows": max(self.window)}

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        self._full().add_cost(ledger, name, shape=shape, held=held, repeat=repeat * self.whole)
        add_separable_attention(
            ledger,
            name,
            shape=shape,
            channels=self.channels,
            heads=self.heads,
            window=self.window,
            design_grid=(0, 0),  # not read without tokens
            representation=NONE,
            pointwise=0,
            held=held,
            repeat=repeat * (1 - self.whole),
        )

    def _full(self) -> FullAttention:
        return FullAttention(channels=self.channels, heads=self.heads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftedWindowAttention(WindowAttention):
    """Attention within shifted windows.

    Attributes:
        shift: Pixels by which windows are shifted down and across.
    """

    network: ClassVar[str] = "effvit.networks.attention.windows:ShiftedWindowAttention"

    shift: Shape

    @classmethod
    def at(cls, site: Site) -> ShiftedWindowAttention:
        """With the stage's windows, shifted by half along axes that have several."""
        window = site.cut(site.window)
        height, width = (
            (side // 2) * (side < length) for side, length in zip(window, site.shape, strict=True)
        )
        return cls(
            channels=site.channels,
            heads=site.heads,
            window=window,
            whole=site.covers(site.window),
            shift=(height, width),
        )

    @property
    def name(self) -> str:
        """See the base class."""
        return "shifted_window"

    def normal(self) -> AttentionDesign:
        """Windows from the corner on where nothing is shifted."""
        return self._unshifted().normal() if self.shift == (0, 0) else self

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        shifted = 1 * (self.shift[0] + self.shift[1] > 0)
        still = repeat * (1 - shifted)
        self._unshifted().add_cost(ledger, name, shape=shape, held=held, repeat=still)
        repeat = repeat * shifted
        self.add_norm(ledger, name, shape, repeat)
        grid = ceil_div(shape[0], self.window[0]), ceil_div(shape[1], self.window[1])
        windows, area = grid[0] * grid[1], self.window[0] * self.window[1]
        pixels, place, width = shape[0] * shape[1], f"{name}.attention", self.channels
        rows = windows * area
        add_linear(
            ledger, f"{place}.qkv", inputs=width, outputs=3 * width, rows=rows, repeat=repeat
        )
        add_attention_products(
            ledger,
            place,
            batch=windows,
            heads=self.heads,
            queries=area,
            keys=area,
            channels=width,
            repeat=repeat,
        )
        add_linear(ledger, f"{place}.proj", inputs=width, outputs=width, rows=pixels, repeat=repeat)
        # Input, normed map; windows, query, key and value; or the last three and attended values,
        # with the mask as bytes and, for the fused kernel, as numbers.
        mask = (5 * windows * area**2) // 4
        ledger.live(held + 2 * pixels * width + 4 * rows * width + mask, repeat)

    def _unshifted(self) -> WindowAttention:
        return WindowAttention(
            channels=self.channels, heads=self.heads, window=self.window, whole=self.whole
        )
