"""Twins' global sub-sampled attention.

Paper: Chu et al., "Twins: Revisiting the Design of Spatial Attention in Vision Transformers", arXiv
2104.13840, section 3.2 (GSA there). All pixels attend to keys and values that a convolution of
kernel and stride s takes from the map; before it stands, in the block before, attention within
windows (LSA). Cost on an H x W map of C channels, in multiply-accumulates; the paper counts the
pair's products only, 2 M^2 HW C + 2 (HW)^2 C / s^2:

    LSA: 4 HW C^2 + 2 M^2 HW C
    GSA: 2 HW C^2 + 2 HW C^2 / s^2 + HW C^2 + 2 (HW)^2 C / s^2

Sizes that s does not divide: the map is zero-padded at the bottom and on the right before the
convolution, so that no pixel is lost (Twins' code drops those that remain).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from effvit.cost import Count, Ledger, add_convolution, add_layer_norm, add_linear, ceil_div
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.attention.full import FullAttention
from effvit.designs.blocks import Shape
from effvit.designs.tokens import add_attention_products


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubSampledAttention(AttentionDesign):
    """Attention to sub-sampled keys and values; see the module.

    Attributes:
        heads: Attention heads.
        kernel: Height and width of the convolution that sub-samples, and its stride; cut to the
            design resolution's map.
    """

    network: ClassVar[str] = "effvit.networks.attention.sub_sampled:SubSampledAttention"

    heads: Count
    kernel: Shape

    @classmethod
    def at(cls, site: Site) -> SubSampledAttention:
        """With the stage's stride."""
        return cls(channels=site.channels, heads=site.heads, kernel=site.cut(site.sub_sampling))

    @property
    def name(self) -> str:
        """See the base class."""
        return "sub_sampled"

    def normal(self) -> AttentionDesign:
        """Full attention where nothing is sub-sampled."""
        return self._full() if self.kernel == (1, 1) else self

    def settings(self) -> Mapping[str, int]:
        """See the base class."""
        return {"heads": self.heads, "sub_sampling": max(self.kernel)}

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        area, width = self.kernel[0] * self.kernel[1], self.channels
        still = repeat * (area == 1)
        self._full().add_cost(ledger, name, shape=shape, held=held, repeat=still)
        repeat = repeat * (area > 1)
        self.add_norm(ledger, name, shape, repeat)
        pixels, place = shape[0] * shape[1], f"{name}.attention"
        keys = ceil_div(shape[0], self.kernel[0]) * ceil_div(shape[1], self.kernel[1])
        add_linear(ledger, f"{place}.q", inputs=width, outputs=width, rows=pixels, repeat=repeat)
        add_convolution(
            ledger,
            f"{place}.sr",
            inputs=width,
            outputs=width,
            kernel=area,
            pixels=keys,
            repeat=repeat,
        )
        add_layer_norm(ledger, f"{place}.norm", channels=width, rows=keys, repeat=repeat)
        add_linear(ledger, f"{place}.kv", inputs=width, outputs=2 * width, rows=keys, repeat=repeat)
        add_attention_products(
            ledger,
            place,
            batch=1,
            heads=self.heads,
            queries=pixels,
            keys=keys,
            channels=width,
            repeat=repeat,
        )
        add_linear(ledger, f"{place}.proj", inputs=width, outputs=width, rows=pixels, repeat=repeat)
        # Input, normed map, queries, keys and values, attended values before and after projection.
        ledger.live(held + 5 * pixels * width + 3 * keys * width, repeat)

    def _full(self) -> FullAttention:
        return FullAttention(channels=self.channels, heads=self.heads)
