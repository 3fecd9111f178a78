"""MobileViTv2: the network. Paper header, equations and cost: effvit.designs.mobilevitv2.

Shapes in this file: B images, an H x W map of C channels, NCHW; tokens are the pixels of a map of d
channels. A patch is p x p pixels; the HW / p^2 pixels at one of its P = p^2 positions are a group.
Linear layers are 1x1 convolutions, so that no axis has to move.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import torch.nn.functional as F
from timm.layers import drop_path
from torch import Tensor, nn

from effvit.cost import ceil_div
from effvit.designs.mobilevitv2 import ATTENTION_STAGES, STAGES, STRIDES, MobileViTv2Config
from effvit.networks.backbone import Backbone, GlobalAverage, Stage
from effvit.networks.checkpoints import load_renamed
from effvit.networks.layers import (
    ACTIVATIONS,
    Convolving,
    ConvUnit,
    drop_path_rates,
    inverted_bottleneck,
)

NORM_EPS = 1e-5
ACTIVATION = "silu"


class SeparableSelfAttention(Convolving, nn.Module):
    """Separable self-attention (paper section 3.2), for each of P groups of N tokens.

        scores = softmax(W_Q x) over tokens,  context = sum_i scores_i (W_K x)_i,
        out = W_O (ReLU(W_V x) * context)

    One projection gives the query (1 channel), the key (d) and the value (d), in this order.

    Args:
        channels: Channels d.
        patch: Side p of a patch: pixels at the same of its P = p^2 positions are a group.
    """

    def __init__(self, channels: int, patch: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.patch = patch
        self.qkv = nn.Conv2d(channels, 1 + 2 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, H, W) -> (B, d, H, W), the patch divides the sides."""
        qkv = self.convolve(self.qkv, x)
        query, key, value = qkv.split((1, self.channels, self.channels), dim=1)
        context = self.in_patches(key * self.scores(query)).sum((2, 4))
        # Repeated along a row of the map, so that whole rows are multiplied by it.
        context = context.unsqueeze(3).expand(-1, -1, -1, x.shape[3] // self.patch, -1)
        context = context.flatten(3).unsqueeze(2)
        # Nothing of the size of the map is kept under a name of its own.
        return self.convolve(
            self.proj, (value.relu().unflatten(2, (-1, self.patch)) * context).flatten(2, 3)
        )

    def in_patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / p, p, W / p, p), a view."""
        return x.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))

    def scores(self, query: Tensor) -> Tensor:
        """Softmax over patches for each position in a patch, (B, 1, H, W) -> (B, 1, H, W)."""
        query = self.in_patches(query)
        patches = (query.shape[2], query.shape[4])
        scores = query.permute(0, 1, 3, 5, 2, 4).flatten(4).softmax(-1)
        scores = scores.unflatten(4, patches).permute(0, 1, 4, 2, 5, 3)
        return scores.flatten(4).flatten(2, 3)


class FeedForward(Convolving, nn.Module):
    """Two 1x1 convolutions with SiLU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.act = ACTIVATIONS[ACTIVATION]()
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, H, W) -> (B, d, H, W)."""
        return self.convolve(self.project, self.act(self.convolve(self.expand, x)))


class Unit(nn.Module):
    """Attention and feed-forward part, both pre-norm with a shortcut.

    The norms have one group: statistics over channels and all tokens of an image.
    """

    def __init__(self, channels: int, hidden: int, patch: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, channels, eps=NORM_EPS)
        self.attention = SeparableSelfAttention(channels, patch)
        self.norm2 = nn.GroupNorm(1, channels, eps=NORM_EPS)
        self.ffn = FeedForward(channels, hidden)
        self.drop_path_rate = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, H, W) -> (B, d, H, W)."""
        x = x + self._dropped(self.attention(self.norm1(x)))
        return x + self._dropped(self.ffn(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path_rate, self.training)


class AttentionBlock(Convolving, nn.Module):
    """Local representation, units, projection back; no shortcut around it.

    The released code unfolds the map to (B, d, P, N) for its units. Only what a group of tokens is
    depends on that, so here they take the map as it is.
    """

    def __init__(self, config: MobileViTv2Config, place: int, drop_paths: list[float]) -> None:
        super().__init__()
        channels = config.widths[ATTENTION_STAGES[place] + 1]
        width = config.attention_widths[place]
        self.patch = config.patch_sizes[place]
        self.local = ConvUnit(
            channels, channels, 3, groups=channels, norm_eps=NORM_EPS, activation=ACTIVATION
        )
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)
        self.units = nn.ModuleList(
            Unit(width, config.ffn_widths[place], self.patch, rate) for rate in drop_paths
        )
        self.norm = nn.GroupNorm(1, width, eps=NORM_EPS)
        self.expand = ConvUnit(width, channels, 1, norm_eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W'), the sides rounded up to multiples of the patch."""
        x = self.convolve(self.reduce, self.local(self.resize(x)))
        for unit in self.units:
            x = unit(x)
        return self.expand(self.norm(x))

    def resize(self, x: Tensor) -> Tensor:
        """Enlarge a map to sides that the patch divides, bilinearly, corners aligned."""
        height, width = (ceil_div(side, self.patch) * self.patch for side in x.shape[2:])
        if (height, width) == tuple(x.shape[2:]):
            return x
        return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


class MobileViTv2(Backbone[MobileViTv2Config]):
    """A MobileViTv2 of any configuration; maps at strides 2, 4, 8, 16, 32, sides rounded up.

    Stages 3 to 5 also round sides up to multiples of their patch. Stochastic depth acts on the
    attention units.
    """

    def __init__(self, config: MobileViTv2Config) -> None:
        super().__init__(config, config.widths[1:], (2, 4, 8, 16, 32), config.widths[-1])
        stem = ConvUnit(
            config.in_channels,
            config.widths[0],
            3,
            stride=2,
            norm_eps=NORM_EPS,
            activation=ACTIVATION,
        )
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.attention_depths)))
        stages = []
        for stage in range(STAGES):
            blocks: list[nn.Module] = [
                _bottleneck(config, stage, block) for block in range(config.depths[stage])
            ]
            if stage in ATTENTION_STAGES:
                place = ATTENTION_STAGES.index(stage)
                chosen = list(itertools.islice(rates, config.attention_depths[place]))
                blocks.append(AttentionBlock(config, place, chosen))
            stages.append(Stage(blocks))
        self.finish(stem, stages, GlobalAverage())

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under the released code's names; see :mod:`effvit`."""
        load_renamed(self, state_dict, OFFICIAL_NAMES.modules(self.config), "official")

    def load_timm_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under timm's names; see :mod:`effvit`."""
        load_renamed(self, state_dict, TIMM_NAMES.modules(self.config), "timm")


def _bottleneck(config: MobileViTv2Config, stage: int, block: int) -> nn.Module:
    """An inverted bottleneck, with a shortcut where input and output have one shape."""
    inputs, outputs = config.widths[stage + bool(block)], config.widths[stage + 1]
    stride = 1 if block else STRIDES[stage]
    return inverted_bottleneck(
        inputs,
        config.expanded(inputs),
        outputs,
        norm_eps=NORM_EPS,
        activation=ACTIVATION,
        stride=stride,
        shortcut=stride == 1 and inputs == outputs,
    )


# --- names in other code ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Names:
    """Where modules of ours are in other code; braces stand for numbers of stages and units.

    Attributes:
        ends: Stem and head.
        stage: Prefix of a stage.
        first: Number of the first stage.
        bottleneck: Parts of an inverted bottleneck.
        attention: Parts of an attention block around its units; ``{}`` is the number of units.
        unit: Prefix of a unit in its block.
        parts: Parts of a unit.
    """

    ends: Mapping[str, str]
    stage: str
    first: int
    bottleneck: Mapping[str, str]
    attention: Mapping[str, str]
    unit: str
    parts: Mapping[str, str]

    def modules(self, config: MobileViTv2Config) -> dict[str, str]:
        """Places in our network, and in the other code's."""
        table = dict(self.ends)
        for stage, depth in enumerate(config.depths):
            theirs = self.stage.format(stage + self.first)
            for block in range(depth):
                place = f"stages.{stage}.blocks.{block}."
                table |= _prefixed(place, f"{theirs}.{block}.", self.bottleneck)
            if stage in ATTENTION_STAGES:
                units = config.attention_depths[ATTENTION_STAGES.index(stage)]
                place, theirs = f"stages.{stage}.blocks.{depth}.", f"{theirs}.{depth}."
                around = {ours: name.format(units) for ours, name in self.attention.items()}
                table |= _prefixed(place, theirs, around)
                for unit in range(units):
                    prefix = f"{theirs}{self.unit.format(unit)}."
                    table |= _prefixed(f"{place}units.{unit}.", prefix, self.parts)
        return table


def _prefixed(ours: str, theirs: str, table: Mapping[str, str]) -> dict[str, str]:
    return {ours + key: theirs + value for key, value in table.items()}


OFFICIAL_NAMES = Names(
    ends={"stem": "conv_1.block", "head": "classifier.1"},
    stage="layer_{}",
    first=1,
    bottleneck={
        "expand": "block.exp_1x1.block",
        "depthwise": "block.conv_3x3.block",
        "project": "block.red_1x1.block",
    },
    attention={
        "local": "local_rep.0.block",
        "reduce": "local_rep.1.block.conv",
        "norm": "global_rep.{}",
        "expand": "conv_proj.block",
    },
    unit="global_rep.{}",
    parts={
        "norm1": "pre_norm_attn.0",
        "attention.qkv": "pre_norm_attn.1.qkv_proj.block.conv",
        "attention.proj": "pre_norm_attn.1.out_proj.block.conv",
        "norm2": "pre_norm_ffn.0",
        "ffn.expand": "pre_norm_ffn.1.block.conv",
        "ffn.project": "pre_norm_ffn.3.block.conv",
    },
)

TIMM_NAMES = Names(
    ends={"stem.conv": "stem.conv", "stem.norm": "stem.bn", "head": "head.fc"},
    stage="stages.{}",
    first=0,
    bottleneck={
        "expand.conv": "conv1_1x1.conv",
        "expand.norm": "conv1_1x1.bn",
        "depthwise.conv": "conv2_kxk.conv",
        "depthwise.norm": "conv2_kxk.bn",
        "project.conv": "conv3_1x1.conv",
        "project.norm": "conv3_1x1.bn",
    },
    attention={
        "local.conv": "conv_kxk.conv",
        "local.norm": "conv_kxk.bn",
        "reduce": "conv_1x1",
        "norm": "norm",
        "expand.conv": "conv_proj.conv",
        "expand.norm": "conv_proj.bn",
    },
    unit="transformer.{}",
    parts={
        "norm1": "norm1",
        "attention.qkv": "attn.qkv_proj",
        "attention.proj": "attn.out_proj",
        "norm2": "norm2",
        "ffn.expand": "mlp.fc1",
        "ffn.project": "mlp.fc2",
    },
)
