"""What our networks are timed against: the same weights in another formulation.

``plain`` is SepViT as the released code computes it (facts: arXiv 2203.15380 and its repository):
every step makes a tensor of its own, attention is two matrix products around a softmax, and maps
turn channels-first for every convolution. ``timm`` is timm's network of the same name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import timm
import torch
from torch import Tensor, nn

from effvit.config import ConfigError, unknown_name
from effvit.designs.efficientvit import TIMM_ATTENTION_EPS, EfficientViTConfig
from effvit.designs.mobilevitv2 import MobileViTv2Config
from effvit.designs.sepvit import BlockPlan
from effvit.networks.checkpoints import renamed
from effvit.networks.efficientvit import timm_modules
from effvit.networks.mobilevitv2 import TIMM_NAMES
from effvit.networks.sepvit import Block, SeparableAttention, SepViT, Stage
from effvit.registry import create_model, model_config


class PlainSepViT(nn.Module):
    """SepViT as released: tokens (B, HW, C), windows that divide the map, learned tokens.

    Args:
        network: Whose weights it computes with; it stays as it is.

    Raises:
        ConfigError: The released classification code does not have such a network.
    """

    def __init__(self, network: SepViT) -> None:
        super().__init__()
        for stage in network.config.plan():
            for block in stage.blocks:
                _check_released(stage.shape, block)
        if not network.config.inner_shortcuts:
            raise ConfigError("the released code has inner shortcuts, got inner_shortcuts=False")
        self.network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes)."""
        for stage in self.network.stages:
            assert isinstance(stage, Stage)
            x = _plain_stage(stage, x)
        x = self.network.norm(x.flatten(2).transpose(1, 2))
        logits: Tensor = self.network.head(x.mean(1))
        return logits


def _check_released(shape: tuple[int, int], block: BlockPlan) -> None:
    """Refuse what the released classification code lacks."""
    divides = all(side % window == 0 for side, window in zip(shape, block.window, strict=True))
    mixes = block.representation == "learned" or block.grid == (1, 1)
    if not (divides and mixes):
        raise ConfigError(
            "the released code has learned tokens and windows that divide the map, got "
            f"{block.representation!r} and windows {block.window} on a map {shape}"
        )


def _plain_stage(stage: Stage, x: Tensor) -> Tensor:
    """(B, C_in, H_in, W_in) -> (B, C, H, W)."""
    x = stage.embed.conv(x)
    batch, channels, height, width = x.shape
    x = stage.embed.norm(x.flatten(2).transpose(1, 2))
    for index, block in enumerate(stage.blocks):
        assert isinstance(block, Block)
        x = _plain_block(block, x, height, width)
        if index == 0 and stage.position is not None:
            position = x.transpose(1, 2).view(batch, channels, height, width)
            x = (stage.position(position) + position).flatten(2).transpose(1, 2)
    return x.reshape(batch, height, width, channels).permute(0, 3, 1, 2).contiguous()


def _plain_block(block: Block, x: Tensor, height: int, width: int) -> Tensor:
    """(B, HW, C) -> (B, HW, C)."""
    batch, _, channels = x.shape
    (down, across), (high, wide) = block.plan.grid, block.plan.window
    windows = x.reshape(batch, down, high, across, wide, channels).transpose(2, 3)
    windows = windows.reshape(batch, down * across, high * wide, channels)
    if block.plan.token:
        token = block.token.transpose(0, 1).unsqueeze(2)  # stored (N, 1, C); here (1, N, 1, C)
        windows = torch.cat((token.expand(batch, -1, -1, -1), windows), dim=2)
    mixed = _plain_attention(block.attention, block.norm1(windows))
    mixed = mixed.reshape(batch, down, across, high, wide, channels).transpose(2, 3)
    x = x + block.attention.proj(mixed.reshape(batch, height * width, channels))
    out: Tensor = x + block.mlp(block.norm2(x))
    return out


def _plain_attention(attention: SeparableAttention, x: Tensor) -> Tensor:
    """Normed windows (B, N, L, C), tokens first, -> pixels (B, N, M_h * M_w, C)."""
    batch, count, length, channels = x.shape
    heads = attention.heads
    scale = (channels // heads) ** -0.5
    qkv = attention.qkv(x).reshape(batch, count, length, 3, heads, channels // heads)
    query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)
    weights = ((query @ key.transpose(-2, -1)) * scale).softmax(dim=-1)
    out: Tensor = (weights @ value).transpose(2, 3).reshape(batch, count, length, channels) + x
    if not attention.mixes:
        return out
    token, features = out[:, :, 0], out[:, :, 1:]
    token = attention.token_act(attention.token_norm(token))
    qk = attention.token_qk(token).reshape(batch, count, 2, heads, channels // heads)
    query, key = qk.permute(2, 0, 3, 1, 4)
    vectors = features.reshape(batch, count, length - 1, heads, channels // heads)
    vectors = vectors.permute(0, 3, 1, 2, 4).reshape(batch, heads, count, -1)
    weights = ((query @ key.transpose(-2, -1)) * scale).softmax(dim=-1)
    out = (weights @ vectors).reshape(batch, heads, count, length - 1, channels // heads)
    out = out.permute(0, 2, 3, 1, 4).reshape(batch, count, length - 1, channels)
    return out + features


def _plain(name: str) -> Pair:
    network = create_model(name).eval()
    if not isinstance(network, SepViT):
        raise ConfigError(f"the plain formulation is SepViT's, got {name!r}")
    return network, PlainSepViT(network).eval()


def _timm(name: str) -> Pair:
    config = model_config(name)
    if isinstance(config, EfficientViTConfig):
        config = config.replace(attention_eps=TIMM_ATTENTION_EPS)
        modules = timm_modules(config)
    elif isinstance(config, MobileViTv2Config):
        modules = TIMM_NAMES.modules(config)
    else:
        raise ConfigError(f"timm has MobileViTv2 and EfficientViT, got {name!r}")
    ours = create_model(config).eval()
    theirs: nn.Module = timm.create_model(name).eval()
    weights = ours.state_dict()
    theirs.load_state_dict({renamed(place, modules): weights[place] for place in weights})
    return ours, theirs


Pair = tuple[nn.Module, nn.Module]
"""Our network and what it is compared with: the same weights, in evaluation mode."""

BASELINES: Mapping[str, Callable[[str], Pair]] = {"plain": _plain, "timm": _timm}


def build_pair(baseline: str, name: str) -> Pair:
    """Build a published network of ours and a baseline with the same weights.

    Args:
        baseline: A name in :data:`BASELINES`.
        name: A published model's name.

    Raises:
        ConfigError: No such baseline, no such model, or the baseline does not have it.
    """
    if baseline not in BASELINES:
        raise unknown_name("baseline", baseline, BASELINES)
    return BASELINES[baseline](name)
