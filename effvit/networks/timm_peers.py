"""Networks that are compared with, as timm builds them: Swin, Twins-SVT, PVTv2, MobileViT.

Only what this package promises of every network is added to timm's classes: a ``config``, any input
size, and attention as explicit products for operation counters; and to Swin the position encoding
that timm does not have. Weights load under timm's names.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from timm.layers import PatchEmbed
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer import SwinTransformer, SwinTransformerStage, WindowAttention
from timm.models.twins import PosConv, Twins
from torch import Tensor, nn

from effvit.config import ModelConfig, Resolution
from effvit.cost import ceil_div
from effvit.designs.mobilevit import (
    ATTENTION_STAGES,
    DEPTHS,
    PATCH,
    STAGES,
    STRIDES,
    MobileViTConfig,
)
from effvit.designs.pvtv2 import PVTv2Config
from effvit.designs.swin import SwinConfig
from effvit.designs.twins import TwinsSVTConfig
from effvit.networks.checkpoints import load_renamed
from effvit.networks.layers import Attention, initialise


class TimmPeer(Attention):
    """What is added to a network of timm's."""

    config: ModelConfig

    @property
    def fused(self) -> bool:
        """Whether attention runs as torch's fused kernel."""
        return all(module.fused_attn for module in self._switches())

    @fused.setter
    def fused(self, value: bool) -> None:
        for module in self._switches():
            module.fused_attn = value

    def _switches(self) -> list[Any]:
        return [module for module in self.modules() if hasattr(module, "fused_attn")]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, as timm does."""
        super().reset_classifier(num_classes, global_pool)  # type: ignore[misc]  # timm's
        self.config = self.config.replace(num_classes=num_classes)

    def load_timm_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under timm's names; see :mod:`effvit`."""
        load_renamed(self, state_dict, {}, "timm")


class UnbiasedWindowAttention(Attention):
    """Attention within windows as timm's Swin has it, without a bias for relative positions."""

    def __init__(self, biased: WindowAttention) -> None:
        super().__init__()
        self.heads = biased.num_heads
        self.qkv, self.proj = biased.qkv, biased.proj

    @property
    def fused_attn(self) -> bool:
        """The switch under timm's name."""
        return self.fused

    @fused_attn.setter
    def fused_attn(self, value: bool) -> None:
        self.fused = value

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: (B * N, L, C), L tokens in each of N windows.
            mask: (N, L, L), below 0 where a key of another region must not be attended to.

        Returns:
            (B * N, L, C).
        """
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        allowed = None
        if mask is not None:
            allowed = (mask == 0)[:, None].repeat(len(x) // len(mask), 1, 1, 1)
        return self.proj(self.attend(query, key, value, allowed).transpose(1, 2).flatten(2))


class ConditionalPositionEncoding(PosConv):  # type: ignore[misc]  # timm has no types
    """Position encoding generator of CPVT, as timm's Twins has it, on channels-last maps."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return super().forward(x.flatten(1, 2), x.shape[1:3]).view_as(x)


class Swin(TimmPeer, SwinTransformer):  # type: ignore[misc]  # timm has no types
    """A Swin Transformer; see :mod:`effvit.designs.swin`."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__(
            img_size=_rounded_up(config.image_size, 4),
            in_chans=config.in_channels,
            num_classes=config.num_classes,
            embed_dim=config.width,
            depths=config.depths,
            num_heads=config.heads,
            window_size=config.window,
            strict_img_size=False,
            embed_layer=functools.partial(PatchEmbed, dynamic_img_pad=True),
            drop_rate=config.drop_rate,
            drop_path_rate=config.drop_path_rate,
        )
        self.config = config
        if config.position_encoding == "conditional":
            for stage in self.get_submodule("layers").children():
                _encode_positions(stage)
        self.fused = True  # timm takes Swin's for an experiment; it computes the same


def _encode_positions(stage: SwinTransformerStage) -> None:
    """Replace the bias of a stage's attentions by an encoding after its first block."""
    for block in stage.blocks:
        block.attn = UnbiasedWindowAttention(block.attn)
    width = stage.blocks[0].dim
    position = ConditionalPositionEncoding(width, width).apply(initialise)
    first, *others = stage.blocks.named_children()
    stage.blocks = nn.Sequential(OrderedDict([first, ("position", position), *others]))


class TwinsSVT(TimmPeer, Twins):  # type: ignore[misc]  # timm has no types
    """A Twins-SVT; see :mod:`effvit.designs.twins`."""

    def __init__(self, config: TwinsSVTConfig) -> None:
        super().__init__(
            img_size=_rounded_up(config.image_size, 32),  # checked by timm, and not used
            in_chans=config.in_channels,
            num_classes=config.num_classes,
            embed_dims=config.widths,
            depths=config.depths,
            num_heads=config.heads,
            wss=config.windows,
            sr_ratios=config.sub_sampling,
            drop_rate=config.drop_rate,
            drop_path_rate=config.drop_path_rate,
        )
        self.config = config


class PVTv2(TimmPeer, PyramidVisionTransformerV2):  # type: ignore[misc]  # timm has no types
    """A PVTv2; see :mod:`effvit.designs.pvtv2`."""

    def __init__(self, config: PVTv2Config) -> None:
        super().__init__(
            in_chans=config.in_channels,
            num_classes=config.num_classes,
            embed_dims=config.widths,
            depths=config.depths,
            num_heads=config.heads,
            sr_ratios=config.reductions,
            mlp_ratios=config.mlp_ratios,
            drop_rate=config.drop_rate,
            drop_path_rate=config.drop_path_rate,
        )
        self.config = config


class MobileViT(TimmPeer, ByobNet):  # type: ignore[misc]  # timm has no types
    """A MobileViT; see :mod:`effvit.designs.mobilevit`."""

    def __init__(self, config: MobileViTConfig) -> None:
        super().__init__(
            ByoModelCfg(
                blocks=tuple(_mobilevit_stage(config, stage) for stage in range(STAGES)),
                stem_chs=config.widths[0],
                stem_type="3x3",
                stem_pool="",
                downsample="",
                act_layer="silu",
                num_features=config.head_width,
            ),
            in_chans=config.in_channels,
            num_classes=config.num_classes,
            drop_rate=config.drop_rate,
            drop_path_rate=config.drop_path_rate,
        )
        self.config = config


def _mobilevit_stage(config: MobileViTConfig, stage: int) -> tuple[ByoBlockCfg, ...]:
    """Inverted bottlenecks, and a MobileViT block in stages with attention, as timm names them."""
    width = config.widths[stage + 1]
    bottlenecks = ByoBlockCfg(
        type="bottle",
        d=DEPTHS[stage],
        c=width,
        s=STRIDES[stage],
        gs=1,
        br=config.expand_ratio,
        block_kwargs={"bottle_in": True, "linear_out": True},
    )
    if stage not in ATTENTION_STAGES:
        return (bottlenecks,)
    place = ATTENTION_STAGES.index(stage)
    options = {
        "transformer_dim": config.attention_widths[place],
        "transformer_depth": config.attention_depths[place],
        "patch_size": PATCH,
    }
    return bottlenecks, ByoBlockCfg(type="mobilevit", d=1, c=width, s=1, block_kwargs=options)


def _rounded_up(size: Resolution, multiple: int) -> Resolution:
    height, width = (ceil_div(side, multiple) * multiple for side in size)
    return height, width
