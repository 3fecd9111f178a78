"""Multi-head self-attention over the whole map.

Paper: Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2; over an image's
map Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv 2010.11929, section 3.1.

Cost on an H x W map of C channels (as in Liu et al., "Swin Transformer", arXiv 2103.14030,
equation 1), in multiply-accumulates:

    4 HW C^2 + 2 (HW)^2 C
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from effvit.cost import Count, Ledger, add_linear
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.blocks import Shape
from effvit.designs.tokens import add_attention_products


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullAttention(AttentionDesign):
    """Multi-head self-attention; see the module."""

    network: ClassVar[str] = "effvit.networks.attention.full:FullAttention"

    heads: Count

    @classmethod
    def at(cls, site: Site) -> FullAttention:
        """Over the whole map."""
        return cls(channels=site.channels, heads=site.heads)

    @property
    def name(self) -> str:
        """See the base class."""
        return "full"

    def settings(self) -> Mapping[str, int]:
        """See the base class."""
        return {"heads": self.heads}

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        self.add_norm(ledger, name, shape, repeat)
        pixels = shape[0] * shape[1]
        place = f"{name}.attention"
        add_linear(
            ledger,
            f"{place}.qkv",
            inputs=self.channels,
            outputs=3 * self.channels,
            rows=pixels,
            repeat=repeat,
        )
        add_attention_products(
            ledger,
            place,
            batch=1,
            heads=self.heads,
            queries=pixels,
            keys=pixels,
            channels=self.channels,
            repeat=repeat,
        )
        add_linear(
            ledger,
            f"{place}.proj",
            inputs=self.channels,
            outputs=self.channels,
            rows=pixels,
            repeat=repeat,
        )
        # Input, normed map; query, key and value, attended values.
        ledger.live(held + 6 * pixels * self.channels, repeat)
