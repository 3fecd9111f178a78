"""PVTv2: Pyramid Vision Transformer v2. The design: configuration, cost, published variants.

Paper: Wang, Xie, Li, Fan, Song, Liang, Lu, Luo, Shao, "PVT v2: Improved Baselines with Pyramid
Vision Transformer", arXiv 2106.13797 (v7 April 2023), Computational Visual Media 2022. The network
is timm's, see :mod:`effvit.networks.timm_peers`.

Patch embeddings overlap; keys and values come from a convolution of kernel and stride R (spatial
reduction attention, SRA); between the MLP's layers is a depthwise 3x3 convolution. Cost of a block
on an H x W map of C channels with MLP ratio r, in multiply-accumulates, where R divides the sides:

    SRA: 3 HW C^2 + 2 HW C^2 / R^2 + 2 (HW)^2 C / R^2, without the convolution's HW C^2 where R = 1
    MLP: 2 r HW C^2 + 9 r HW C

Any size: maps' sides are divided rounding up, the reduction drops the pixels that remain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from effvit.config import ConfigError, ModelConfig, Resolution
from effvit.cost import (
    ArrayLedger,
    Cost,
    CostArrays,
    Ledger,
    LedgerFactory,
    OperationLedger,
    Operator,
    add_convolution,
    add_layer_norm,
    add_linear,
    ceil_div,
)
from effvit.designs.rules import check_entries
from effvit.designs.tokens import add_attention_products, cost_each

STAGES = 4
KERNELS = (7, 3, 3, 3)
"""Of the patch embeddings, of strides 4, 2, 2, 2."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PVTv2Config(ModelConfig):
    """A PVTv2. Defaults are PVTv2-B2.

    Attributes:
        widths: Channels C of the four stages.
        depths: Blocks of each stage.
        heads: Attention heads of each stage; must divide the widths.
        reductions: Stride R of each stage's attention; 1 is none.
        mlp_ratios: Hidden width of each stage's MLP over C.
    """

    family: ClassVar[str] = "pvt_v2"

    widths: tuple[int, ...] = (64, 128, 320, 512)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("widths", "depths", "heads", "reductions", "mlp_ratios"):
            check_entries(name, getattr(self, name), STAGES, "each of 4 stages")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ConfigError(f"heads must divide the width {width}, got {heads}")
        for stride, most in zip(self.reductions, (8, 4, 2, 1), strict=True):
            if stride > most:  # else a map of the smallest image has no key
                raise ConfigError(f"reductions must be at most 8, 4, 2, 1, got {stride}")


def stage_maps(resolution: Resolution) -> list[Resolution]:
    """Heights and widths of the four stages' maps: strides 4, 8, 16, 32, rounded up."""
    height, width = resolution
    return [(ceil_div(height, 4 << stage), ceil_div(width, 4 << stage)) for stage in range(STAGES)]


def cost(config: PVTv2Config, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1, under timm's names.
    """
    ledger = OperationLedger()
    size = resolution or config.image_size
    inputs = config.in_channels
    image = inputs * size[0] * size[1]
    entered = 0
    for stage, shape in enumerate(stage_maps(size)):
        width, pixels = config.widths[stage], shape[0] * shape[1]
        embedding = f"stages.{stage}.downsample" if stage else "patch_embed"
        add_convolution(
            ledger,
            f"{embedding}.proj",
            inputs=inputs,
            outputs=width,
            kernel=KERNELS[stage] ** 2,
            pixels=pixels,
        )
        add_layer_norm(ledger, f"{embedding}.norm", channels=width, rows=pixels)
        ledger.live(image + entered + 2 * pixels * width)
        for block in range(config.depths[stage]):
            _block_cost(
                ledger,
                f"stages.{stage}.blocks.{block}",
                config,
                stage,
                shape,
                image + entered + pixels * width * (1 + (block > 0 and stage == 0)),
            )
        add_layer_norm(ledger, f"stages.{stage}.norm", channels=width, rows=pixels)
        inputs, entered = width, pixels * width
    ledger.add("pool", Operator.POOL, elements=inputs)
    if config.num_classes:
        add_linear(ledger, "head", inputs=inputs, outputs=config.num_classes, rows=1)
    return ledger.total()


def _block_cost(
    ledger: Ledger, name: str, config: PVTv2Config, stage: int, shape: Resolution, held: int
) -> None:
    """Attention and MLP; ``held`` includes the block's input."""
    width, stride = config.widths[stage], config.reductions[stage]
    pixels = shape[0] * shape[1]
    keys = (shape[0] // stride) * (shape[1] // stride)
    hidden = config.mlp_ratios[stage] * width
    attention, mlp = f"{name}.attn", f"{name}.mlp"
    add_layer_norm(ledger, f"{name}.norm1", channels=width, rows=pixels)
    add_linear(ledger, f"{attention}.q", inputs=width, outputs=width, rows=pixels)
    add_linear(ledger, f"{attention}.kv", inputs=width, outputs=2 * width, rows=keys)
    add_attention_products(
        ledger,
        attention,
        batch=1,
        heads=config.heads[stage],
        queries=pixels,
        keys=keys,
        channels=width,
    )
    add_linear(ledger, f"{attention}.proj", inputs=width, outputs=width, rows=pixels)
    if stride > 1:
        add_convolution(
            ledger, f"{attention}.sr", inputs=width, outputs=width, kernel=stride**2, pixels=keys
        )
        add_layer_norm(ledger, f"{attention}.norm", channels=width, rows=keys)
    add_layer_norm(ledger, f"{name}.norm2", channels=width, rows=pixels)
    add_linear(ledger, f"{mlp}.fc1", inputs=width, outputs=hidden, rows=pixels)
    add_convolution(
        ledger,
        f"{mlp}.dwconv",
        inputs=hidden,
        outputs=hidden,
        kernel=9,
        pixels=pixels,
        groups=hidden,
    )
    ledger.add(f"{mlp}.act", Operator.GELU, elements=pixels * hidden)
    add_linear(ledger, f"{mlp}.fc2", inputs=hidden, outputs=width, rows=pixels)
    # The normed map, queries, keys and values, attended values before and after projection.
    ledger.live(held + 4 * pixels * width + 3 * keys * width)
    # The attention's sum, the normed map; the hidden layer before and after an operation.
    ledger.live(held + 2 * pixels * width + 2 * pixels * hidden)


def cost_many(
    configs: Sequence[PVTv2Config],
    resolution: Resolution | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Costs of several networks, one entry each, equal to what :func:`cost` says."""
    return cost_each(cost, configs, resolution, ledgers)


VARIANTS: dict[str, PVTv2Config] = {"pvt_v2_b2": PVTv2Config(drop_path_rate=0.1)}
"""Paper Table 1, equal to timm's. Drop path: the released ``pvt_v2_b2.py``."""
