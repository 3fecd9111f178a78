"""Small networks for the scores' tests, of every family and made by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from effvit import ModelConfig, create_model, model_cost
from effvit.designs.autoformer import AutoFormerConfig
from effvit.designs.cswin import CSWinConfig
from effvit.designs.efficientvit import EfficientViTConfig
from effvit.designs.hybrid import HybridConfig
from effvit.designs.mobilevitv2 import MobileViTv2Config
from effvit.designs.pit import PiTConfig
from effvit.designs.sepvit import SepViTConfig
from effvit.designs.swin import SwinConfig
from search.scores.common import Batch
from spaces import get_space, list_spaces

SIDE = 32
CLASSES = 5
DRAWN = 20
"""Variants of which the smallest is scored: scores of large ones take minutes."""

SMALL_SEPVIT = SepViTConfig(
    widths=(8, 16, 16, 32),
    depths=(1, 1, 1, 1),
    heads=(1, 2, 2, 4),
    windows=((2,), (2,), (1,), (1,)),
    image_size=(SIDE, SIDE),
)


def small(config: ModelConfig) -> ModelConfig:
    """The same network for small images and few classes."""
    return config.replace(image_size=(SIDE, SIDE), num_classes=CLASSES)


DEPTHS, HEADS, IMAGE = (1, 1, 2, 1), (2, 2, 2, 2), (SIDE, SIDE)

FAMILIES: dict[str, ModelConfig] = {
    "sepvit": small(SMALL_SEPVIT),
    "mobilevitv2": small(
        MobileViTv2Config(
            widths=(8, 8, 16, 16, 16, 16),
            attention_widths=(16, 16, 16),
            depths=(1, 1, 1, 1, 1),
            attention_depths=(1, 2, 1),
        )
    ),
    "efficientvit": small(
        EfficientViTConfig(
            widths=(8, 8, 16, 16, 32), depths=(1, 1, 1, 1, 1), head_dim=8, head_widths=(32, 32)
        )
    ),
    "cswin": small(
        CSWinConfig(
            widths=(8, 16, 16, 32), depths=DEPTHS, heads=HEADS, splits=(1, 1, 1), image_size=IMAGE
        )
    ),
    "swin": small(SwinConfig(width=8, depths=DEPTHS, heads=HEADS, window=2, image_size=IMAGE)),
    "hybrid": small(
        HybridConfig(
            widths=(16, 16, 32, 32),
            attention=(
                ("convolution", "linformer"),
                ("cross_window",),
                ("twins", "multi_scale_relu_linear"),
                ("separable",),
            ),
            windows=(2, 2, 2, 1),
            depths=DEPTHS,
            heads=HEADS,
            image_size=IMAGE,
        )
    ),
    "autoformer": small(
        AutoFormerConfig(width=16, heads=(1, 2), mlp_ratios=(2, 1), head_width=8, relative_reach=2)
    ),
    "pit": small(PiTConfig(head_widths=(8, 8, 8), heads=(1, 2, 2), depths=(1, 1, 1))),
}
"""A small network of each kind of attention and norm."""


def random_variants(count: int, seed: int) -> Iterator[tuple[str, ModelConfig]]:
    """Random variants of every space for small images, of several drawn the smallest one."""
    for name in list_spaces():
        space, rng = get_space(name), np.random.default_rng(seed)
        for _ in range(count):
            drawn = [small(config) for config in space.sample_many(rng, DRAWN)]
            yield name, min(drawn, key=lambda config: model_cost(config).params)


def built(config: ModelConfig, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(config)


def images_and_classes(count: int = 4, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    return Batch(images, torch.randint(CLASSES, (count,), generator=generator))


class Chain(nn.Module):
    """Linear layers without biases, on images taken as vectors."""

    def __init__(self, *matrices: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for matrix in matrices:
            layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=matrix.dtype)
            layer.weight = nn.Parameter(matrix.clone())
            self.layers.append(layer)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return x
