"""PiT as timm builds it. Paper header, formulas and cost: effvit.designs.pit."""

from __future__ import annotations

import torch.nn.functional as F
from timm.models.pit import PoolingVisionTransformer
from torch import Tensor, nn

from effvit.config import Resolution
from effvit.designs.pit import PiTConfig
from effvit.networks.timm_peers import TimmPeer


class PiT(TimmPeer, PoolingVisionTransformer):  # type: ignore[misc]  # timm has no types
    """A PiT at any input size: timm's takes one. Weights load under timm's names."""

    patch_embed: nn.Module
    pos_drop: nn.Module
    transformers: nn.Module
    norm: nn.Module
    pos_embed: Tensor
    cls_token: Tensor

    def __init__(self, config: PiTConfig) -> None:
        super().__init__(
            img_size=config.image_size,
            patch_size=config.patch,
            stride=config.stride,
            base_dims=config.head_widths,
            depth=config.depths,
            heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            num_classes=config.num_classes,
            in_chans=config.in_channels,
            drop_rate=config.drop_rate,
            drop_path_rate=config.drop_path_rate,
        )
        self.config = config

    def forward_features(self, x: Tensor) -> Tensor:
        """Class token after the final norm, (B, in_channels, H, W) -> (B, 1, C)."""
        x = self.patch_embed(x)
        x = self.pos_drop(x + self._positions((x.shape[2], x.shape[3])))
        _, token = self.transformers((x, self.cls_token.repeat(len(x), 1, 1)))
        return self.norm(token)

    def _positions(self, shape: Resolution) -> Tensor:
        """Positions (1, C, H, W) of a map, resampled bilinearly where it is not the design's."""
        if shape == tuple(self.pos_embed.shape[2:]):
            return self.pos_embed
        return F.interpolate(self.pos_embed, shape, mode="bilinear", align_corners=False)
