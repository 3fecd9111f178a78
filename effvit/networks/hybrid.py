"""Hybrid: the network. Macro-architecture, attention types and cost: effvit.designs.hybrid."""

from __future__ import annotations

from torch import nn

from effvit.designs.hybrid import HybridConfig
from effvit.networks.attention.block import build_block
from effvit.networks.sepvit import MacroBackbone


class Hybrid(MacroBackbone[HybridConfig]):
    """A hybrid of any configuration.

    Parts have SepViT's names: weights of a SepViT load where the blocks are DSSA and GSA alike.
    """

    def __init__(self, config: HybridConfig) -> None:
        plan = config.plan()

        def build(stage: int, block: int, rate: float) -> nn.Module:
            return build_block(plan[stage].blocks[block], config.hidden_widths[stage], rate)

        super().__init__(config, build)
