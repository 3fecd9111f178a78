"""CSWin's cross-shaped window attention, with the face of the attention types."""

from __future__ import annotations

from effvit.designs.attention import cross
from effvit.networks.cswin import CrossShapedAttention


class CrossWindowAttention(CrossShapedAttention):
    """Attention within a cross of stripes; see the base class."""

    def __init__(self, design: cross.CrossWindowAttention) -> None:
        super().__init__(design.channels, design.heads, None if design.whole else design.stripe)
