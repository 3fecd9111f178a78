"""Linformer's attention to projected keys and values.

Paper: Wang et al., "Linformer: Self-Attention with Linear Complexity", arXiv 2006.04768, section 4
(equation 7). Keys and values of n = HW pixels are projected along the pixels to k, by learned k x n
matrices E and F that all heads of a layer share ("headwise sharing"):

    softmax(Q (E K)^T / sqrt(d)) F V

O(n k) in the paper; on a map of C channels, in multiply-accumulates:

    4 n C^2 + 2 n k C (projections) + 2 n k C (scores and values)

E and F belong to the pixels of the design resolution's map. At another size they are resampled
bilinearly, and scaled by the ratio of the numbers of pixels: a projection is a sum over pixels, and
stays one over the same picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from effvit.cost import Count, Ledger, Operator, add_linear, add_matmul, smaller
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.blocks import Shape
from effvit.designs.tokens import add_attention_products


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinformerAttention(AttentionDesign):
    """Attention to projected keys and values; see the module.

    Attributes:
        heads: Attention heads.
        length: Projected keys and values k, no more than the design resolution's map has pixels.
        positions: Height and width of that map, to which the projections belong.
    """

    network: ClassVar[str] = "effvit.networks.attention.linformer:LinformerAttention"

    heads: Count
    length: Count
    positions: Shape

    @classmethod
    def at(cls, site: Site) -> LinformerAttention:
        """With the stage's length."""
        return cls(
            channels=site.channels,
            heads=site.heads,
            length=smaller(site.length, site.shape[0] * site.shape[1]),
            positions=site.shape,
        )

    @property
    def name(self) -> str:
        """See the base class."""
        return "linformer"

    def settings(self) -> Mapping[str, int]:
        """See the base class."""
        return {"heads": self.heads, "linformer_lengths": self.length}

    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """See the base class."""
        self.add_norm(ledger, name, shape, repeat)
        pixels, place, width = shape[0] * shape[1], f"{name}.attention", self.channels
        add_linear(
            ledger, f"{place}.qkv", inputs=width, outputs=3 * width, rows=pixels, repeat=repeat
        )
        resized = 1 - (shape[0] == self.positions[0]) * (shape[1] == self.positions[1])
        for part in ("keys", "values"):
            self._projection_cost(ledger, f"{place}.{part}", pixels, resized, repeat)
        add_attention_products(
            ledger,
            place,
            batch=1,
            heads=self.heads,
            queries=pixels,
            keys=self.length,
            channels=width,
            repeat=repeat,
        )
        add_linear(ledger, f"{place}.proj", inputs=width, outputs=width, rows=pixels, repeat=repeat)
        # Input, normed map, query, key and value; a resampled projection, projected keys and
        # values, the latter before and after they are scaled.
        projecting = resized * self.length * pixels + (2 + resized) * self.length * width
        ledger.live(held + 5 * pixels * width + projecting, repeat)
        # Projected keys and values, attended values.
        ledger.live(held + 6 * pixels * width + 2 * self.length * width, repeat)

    def _projection_cost(
        self, ledger: Ledger, name: str, pixels: Count, resized: Count, repeat: Count
    ) -> None:
        """One projection: its parameters, resampled for another size, times the keys or values."""
        designed = self.positions[0] * self.positions[1]
        ledger.add(name, Operator.PARAMETER, params=self.length * designed, repeat=repeat)
        ledger.add(
            f"{name}.resampling",
            Operator.RESAMPLE,
            elements=self.length * pixels,
            repeat=repeat * resized,
        )
        add_matmul(
            ledger,
            f"{name}.product",
            batch=1,
            rows=self.length,
            inner=pixels,
            columns=self.channels,
            repeat=repeat,
        )
