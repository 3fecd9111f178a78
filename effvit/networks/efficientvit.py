"""EfficientViT: the network. Paper header, equations and cost: effvit.designs.efficientvit.

Shapes in this file: B images, an H x W map of C channels, NCHW; S scales beside the original one,
h = (1 + S) C / d heads of d channels, N = HW pixels.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from timm.layers import drop_path
from torch import Tensor, nn

from effvit.designs.efficientvit import STAGES, EfficientViTConfig
from effvit.networks.backbone import Backbone, Stage
from effvit.networks.checkpoints import load_renamed
from effvit.networks.layers import (
    ACTIVATIONS,
    ConvBlock,
    Convolving,
    ConvUnit,
    drop_path_rates,
    inverted_bottleneck,
)


class MultiScaleLinearAttention(Convolving, nn.Module):
    """ReLU linear attention over the original tokens and one aggregation a scale (LiteMLA).

        out_i = ReLU(q_i) (sum_j ReLU(k_j)^T v_j) / (ReLU(q_i) . sum_j ReLU(k_j) + eps)

    The projection's channels go head by head: d of the query, d of the key, d of the value. As
    released, sums and quotients are computed in float32 or better, whatever autocast says.

    Args:
        channels: Channels C.
        head_dim: Channels d of a head.
        scales: Kernel sides of the aggregations.
        attention_eps: Added to the denominators.
        norm_eps: Of the batch norm after the projection.
    """

    def __init__(
        self,
        channels: int,
        head_dim: int,
        scales: Sequence[int],
        *,
        attention_eps: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.eps = attention_eps
        heads = channels // head_dim
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.aggregations = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    3 * channels,
                    3 * channels,
                    scale,
                    padding=scale // 2,
                    groups=3 * channels,
                    bias=False,
                ),
                nn.Conv2d(3 * channels, 3 * channels, 1, groups=3 * heads, bias=False),
            )
            for scale in scales
        )
        mixed = (1 + len(scales)) * channels
        self.proj = ConvUnit(mixed, channels, 1, norm_eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        height, width = x.shape[2:]
        tokens = self.project_tokens(x).unflatten(1, (-1, 3 * self.head_dim)).flatten(3)
        with full_precision(tokens):
            mixed = self.attend(tokens)
        return self.proj(mixed.flatten(1, 2).unflatten(2, (height, width)))

    def project_tokens(self, x: Tensor) -> Tensor:
        """Queries, keys and values of every scale, (B, C, H, W) -> (B, (1 + S) 3 C, H, W)."""
        qkv = self.convolve(self.qkv, x)
        branches = [self.aggregate(aggregation, qkv) for aggregation in self.aggregations]
        return torch.cat((qkv, *branches), dim=1) if branches else qkv

    def aggregate(self, aggregation: nn.Module, qkv: Tensor) -> Tensor:
        """Sum over nearby tokens, then mix each query, key or value; (B, 3 C, H, W) -> same."""
        depthwise, pointwise = aggregation.children()
        assert isinstance(pointwise, nn.Conv2d)
        return self.convolve(pointwise, depthwise(qkv))

    def attend(self, tokens: Tensor) -> Tensor:
        """Attend in every head, (B, h, 3 d, N) -> (B, h, d, N)."""
        dtype = tokens.dtype
        if dtype in (torch.float16, torch.bfloat16):
            tokens = tokens.float()
        query, key, value = tokens.chunk(3, dim=2)
        # A last row of ones among the values gives the denominators.
        value = F.pad(value, (0, 0, 0, 1), value=1.0)
        key_value = value @ key.relu().transpose(-2, -1)
        out = key_value @ query.relu()
        # The minimum changes nothing here. Export to ONNX drops the addition of an eps of 1e-15; a
        # pixel whose queries are all dead would then be 0 / 0.
        denominators = (out[:, :, -1:] + self.eps).clamp_min(torch.finfo(out.dtype).tiny)
        return (out[:, :, :-1] / denominators).to(dtype)


@contextlib.contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    """Switch autocast off for a tensor's device, if it is on."""
    kind = like.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        yield
        return
    with torch.autocast(kind, enabled=False):
        yield


class AttentionBlock(nn.Module):
    """Multi-scale linear attention and inverted bottleneck, both with a shortcut, no pre-norm."""

    def __init__(self, channels: int, hidden: int, config: EfficientViTConfig, rate: float) -> None:
        super().__init__()
        self.attention = MultiScaleLinearAttention(
            channels,
            config.head_dim,
            config.scales,
            attention_eps=config.attention_eps,
            norm_eps=config.norm_eps,
        )
        self.local = inverted_bottleneck(
            channels,
            hidden,
            channels,
            norm_eps=config.norm_eps,
            activation=config.activation,
            few_norms=True,
            shortcut=True,
            drop_path=rate,
        )
        self.drop_path_rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = x + drop_path(self.attention(x), self.drop_path_rate, self.training)
        return self.local(x)


class Neck(nn.Module):
    """1x1 convolution, average over positions, linear layer, norm, activation."""

    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__()
        wide, last = config.head_widths
        self.conv = ConvUnit(
            config.widths[-1], wide, 1, norm_eps=config.norm_eps, activation=config.activation
        )
        self.linear = nn.Linear(wide, last, bias=False)
        self.norm = nn.LayerNorm(last, eps=config.norm_eps)
        self.act = ACTIVATIONS[config.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, head width)."""
        x = F.adaptive_avg_pool2d(self.conv(x), 1).flatten(1)
        return self.act(self.norm(self.linear(x)))


class EfficientViT(Backbone[EfficientViTConfig]):
    """An EfficientViT of any configuration; maps at strides 4, 8, 16, 32, sides rounded up.

    Stochastic depth acts on all blocks with shortcuts but the stem's.
    """

    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__(config, config.widths[1:], (4, 8, 16, 32), config.head_widths[-1])
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths[1:])))
        stages = []
        for stage in range(STAGES):
            chosen = itertools.islice(rates, config.depths[stage + 1])
            stages.append(
                Stage([_downsample(config, stage), *(_block(config, stage, r) for r in chosen)])
            )
        self.finish(_stem(config), stages, Neck(config))

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under the released code's names; see :mod:`effvit`."""
        load_renamed(self, state_dict, official_modules(self.config), "official")

    def load_timm_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under timm's names; see :mod:`effvit`."""
        load_renamed(self, state_dict, timm_modules(self.config), "timm")


def _stem(config: EfficientViTConfig) -> nn.Sequential:
    """Convolution of stride 2, then blocks with shortcuts, (B, C_in, H, W) -> (B, C, H/2, W/2)."""
    width, eps, act = config.widths[0], config.norm_eps, config.activation
    first = ConvUnit(config.in_channels, width, 3, stride=2, norm_eps=eps, activation=act)
    blocks = []
    for _ in range(config.depths[0]):
        if config.stem == "depthwise":
            parts = {
                "depthwise": ConvUnit(width, width, 3, groups=width, norm_eps=eps, activation=act),
                "project": ConvUnit(width, width, 1, norm_eps=eps),
            }
        else:
            parts = {
                "first": ConvUnit(width, width, 3, norm_eps=eps, activation=act),
                "second": ConvUnit(width, width, 3, norm_eps=eps),
            }
        blocks.append(ConvBlock(parts, shortcut=True))
    return nn.Sequential(first, *blocks)


def _downsample(config: EfficientViTConfig, stage: int) -> nn.Module:
    """The stride-2 block of a stage, without a shortcut."""
    inputs, outputs = config.widths[stage : stage + 2]
    hidden = config.downsample_hidden[stage]
    return _convolutions(config, stage, (inputs, hidden, outputs), stride=2)


def _block(config: EfficientViTConfig, stage: int, rate: float) -> nn.Module:
    """A block of a stage, with shortcuts."""
    width, hidden = config.widths[stage + 1], config.block_hidden[stage]
    if config.kinds[stage] == "attention":
        return AttentionBlock(width, hidden, config, rate)
    return _convolutions(config, stage, (width, hidden, width), shortcut=True, rate=rate)


def _convolutions(
    config: EfficientViTConfig,
    stage: int,
    widths: tuple[int, int, int],
    *,
    stride: int = 1,
    shortcut: bool = False,
    rate: float = 0.0,
) -> ConvBlock:
    """A fused or inverted bottleneck of the stage's kind."""
    inputs, hidden, outputs = widths
    eps, act = config.norm_eps, config.activation
    kind = config.kinds[stage]
    if kind == "fused":
        parts = {
            "expand": ConvUnit(inputs, hidden, 3, stride=stride, norm_eps=eps, activation=act),
            "project": ConvUnit(hidden, outputs, 1, norm_eps=eps),
        }
        return ConvBlock(parts, shortcut, rate)
    return inverted_bottleneck(
        inputs,
        hidden,
        outputs,
        norm_eps=eps,
        activation=act,
        stride=stride,
        few_norms=kind != "mbconv",
        shortcut=shortcut,
        drop_path=rate,
    )


# --- names in other code ------------------------------------------------------------------------

INVERTED_PARTS = {"expand": "inverted_conv", "depthwise": "depth_conv", "project": "point_conv"}
FUSED_PARTS = {"expand": "spatial_conv", "project": "point_conv"}
STEM_PARTS = {
    "depthwise": {"depthwise": "depth_conv", "project": "point_conv"},
    "dense": {"first": "conv1", "second": "conv2"},
}
ATTENTION_PARTS = {
    "attention.qkv": "context_module.main.qkv.conv",
    "attention.aggregations": "context_module.main.aggreg",
    "attention.proj": "context_module.main.proj",
    **{f"local.{ours}": f"local_module.main.{theirs}" for ours, theirs in INVERTED_PARTS.items()},
}
"""Parts of blocks, in the released code and in timm alike."""


def official_modules(config: EfficientViTConfig) -> dict[str, str]:
    """Places in our network and in the released code's; its L series counts the stem as a stage."""
    series_l = config.stem == "dense"
    stem = "backbone.stages.0" if series_l else "backbone.input_stem"
    table = {
        "stem.0": f"{stem}.op_list.0",
        "neck.conv": "head.op_list.0",
        "neck.linear": "head.op_list.2.linear",
        "neck.norm": "head.op_list.2.norm",
        "head": "head.op_list.3.linear",
    }
    for place, stage, block, parts in _block_places(config):
        home = stem if stage is None else f"backbone.stages.{stage + series_l}"
        table |= {f"{place}.{a}": f"{home}.op_list.{block}.{b}" for a, b in parts.items()}
    return table


def timm_modules(config: EfficientViTConfig) -> dict[str, str]:
    """Places in our network and in timm's."""
    table = {
        "stem.0": "stem.in_conv",
        "neck.conv": "head.in_conv",
        "neck.linear": "head.classifier.0",
        "neck.norm": "head.classifier.1",
        "head": "head.classifier.4",
    }
    for place, stage, block, parts in _block_places(config):
        home = f"stem.res{block - 1}" if stage is None else f"stages.{stage}.blocks.{block}"
        table |= {f"{place}.{a}": f"{home}.{b}" for a, b in parts.items()}
    return table


def _block_places(
    config: EfficientViTConfig,
) -> Iterator[tuple[str, int | None, int, dict[str, str]]]:
    """Our place of every block, its stage (None: the stem), its number, names of its parts."""
    for block in range(1, config.depths[0] + 1):
        yield f"stem.{block}", None, block, _in_main(STEM_PARTS[config.stem])
    for stage, kind in enumerate(config.kinds):
        plain = _in_main(FUSED_PARTS if kind == "fused" else INVERTED_PARTS)
        for block in range(config.depths[stage + 1] + 1):
            attends = kind == "attention" and block
            parts = ATTENTION_PARTS if attends else plain
            yield f"stages.{stage}.blocks.{block}", stage, block, parts


def _in_main(parts: Mapping[str, str]) -> dict[str, str]:
    return {ours: f"main.{theirs}" for ours, theirs in parts.items()}
