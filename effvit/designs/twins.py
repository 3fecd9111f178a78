"""Twins-SVT. The design: configuration, cost, published variants.

Paper: Chu, Tian, Wang, Zhang, Ren, Wei, Xia, Shen, "Twins: Revisiting the Design of Spatial
Attention in Vision Transformers", arXiv 2104.13840 (v4 September 2021), NeurIPS 2021. The network
is timm's, see :mod:`effvit.networks.timm_peers`.

Blocks alternate (paper section 3.2) between locally-grouped self-attention (LSA), within windows of
M x M pixels, and global sub-sampled attention (GSA), whose keys and values come from a convolution
of kernel and stride s. After a stage's first block a depthwise 3x3 convolution encodes positions.
Cost on an H x W map of C channels, in multiply-accumulates, where M and s divide the sides:

    LSA: 4 HW C^2 + 2 M^2 HW C      GSA: 3 HW C^2 + 2 HW C^2 / s^2 + 2 (HW)^2 C / s^2

Any size, as timm does it: LSA zero-pads maps at the bottom and on the right, without a mask;
patches and sub-sampling drop the pixels that remain, so sides are divided rounding down.
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
from effvit.designs.tokens import add_attention_products, add_mlp, cost_each

STAGES = 4
PATCHES = (4, 2, 2, 2)
MLP_RATIO = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwinsSVTConfig(ModelConfig):
    """A Twins-SVT. Defaults are Twins-SVT-S.

    Attributes:
        widths: Channels C of the four stages.
        depths: Blocks of each stage, LSA first.
        heads: Attention heads of each stage; must divide the widths.
        windows: Window sides M of each stage's LSA in pixels of the map, 2 at least.
        sub_sampling: Stride s of each stage's GSA; 1 is none.
    """

    family: ClassVar[str] = "twins_svt"

    widths: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (2, 2, 10, 4)
    heads: tuple[int, ...] = (2, 4, 8, 16)
    windows: tuple[int, ...] = (7, 7, 7, 7)
    sub_sampling: tuple[int, ...] = (8, 4, 2, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("widths", "depths", "heads", "windows", "sub_sampling"):
            least = 2 if name == "windows" else 1
            check_entries(name, getattr(self, name), STAGES, "each of 4 stages", least)
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ConfigError(f"heads must divide the width {width}, got {heads}")
        for stride, most in zip(self.sub_sampling, (8, 4, 2, 1), strict=True):
            if stride > most:  # else a map of the smallest image has no key
                raise ConfigError(f"sub_sampling must be at most 8, 4, 2, 1, got {stride}")


def stage_maps(resolution: Resolution) -> list[Resolution]:
    """Heights and widths of the four stages' maps: strides 4, 8, 16, 32, rounded down."""
    height, width = resolution
    return [(height // (4 << stage), width // (4 << stage)) for stage in range(STAGES)]


def cost(config: TwinsSVTConfig, resolution: Resolution | None = None) -> Cost:
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
    for stage, shape in enumerate(stage_maps(size)):
        width, pixels = config.widths[stage], shape[0] * shape[1]
        embedding = f"patch_embeds.{stage}"
        add_convolution(
            ledger,
            f"{embedding}.proj",
            inputs=inputs,
            outputs=width,
            kernel=PATCHES[stage] ** 2,
            pixels=pixels,
        )
        add_layer_norm(ledger, f"{embedding}.norm", channels=width, rows=pixels)
        ledger.live(image + 2 * pixels * width)
        for block in range(config.depths[stage]):
            name = f"blocks.{stage}.{block}"
            add_layer_norm(ledger, f"{name}.norm1", channels=width, rows=pixels)
            attend = _global_cost if block % 2 else _local_cost
            attend(ledger, f"{name}.attn", config, stage, shape, image)
            add_layer_norm(ledger, f"{name}.norm2", channels=width, rows=pixels)
            add_mlp(ledger, f"{name}.mlp", channels=width, hidden=MLP_RATIO * width, rows=pixels)
            # The block's input, the attention's sum, the normed map, GELU's input and output.
            ledger.live(image + (3 + 2 * MLP_RATIO) * pixels * width)
            if not block:
                add_convolution(
                    ledger,
                    f"pos_block.{stage}.proj.0",
                    inputs=width,
                    outputs=width,
                    kernel=9,
                    pixels=pixels,
                    groups=width,
                )
        inputs = width
    _head_cost(ledger, inputs, pixels, config.num_classes)
    return ledger.total()


def _local_cost(
    ledger: Ledger, name: str, config: TwinsSVTConfig, stage: int, shape: Resolution, held: int
) -> None:
    """LSA, on the padded map but for the last projection."""
    width, side = config.widths[stage], config.windows[stage]
    windows = ceil_div(shape[0], side) * ceil_div(shape[1], side)
    tokens, pixels = windows * side**2, shape[0] * shape[1]
    add_linear(ledger, f"{name}.qkv", inputs=width, outputs=3 * width, rows=tokens)
    add_attention_products(
        ledger,
        name,
        batch=windows,
        heads=config.heads[stage],
        queries=side**2,
        keys=side**2,
        channels=width,
    )
    add_linear(ledger, f"{name}.proj", inputs=width, outputs=width, rows=pixels)
    # Input, normed map; padded map, query, key and value, their scaled copies, attended values, and
    # the weights: timm passes five dimensions, for which torch has no fused kernel.
    weights = tokens * side**2 * config.heads[stage]
    ledger.live(held + 2 * pixels * width + 8 * tokens * width + weights)


def _global_cost(
    ledger: Ledger, name: str, config: TwinsSVTConfig, stage: int, shape: Resolution, held: int
) -> None:
    """GSA; a convolution sub-samples keys and values."""
    width, stride = config.widths[stage], config.sub_sampling[stage]
    pixels = shape[0] * shape[1]
    keys = (shape[0] // stride) * (shape[1] // stride)
    add_linear(ledger, f"{name}.q", inputs=width, outputs=width, rows=pixels)
    add_linear(ledger, f"{name}.kv", inputs=width, outputs=2 * width, rows=keys)
    add_attention_products(
        ledger,
        name,
        batch=1,
        heads=config.heads[stage],
        queries=pixels,
        keys=keys,
        channels=width,
    )
    add_linear(ledger, f"{name}.proj", inputs=width, outputs=width, rows=pixels)
    if stride > 1:
        add_convolution(
            ledger,
            f"{name}.sr",
            inputs=width,
            outputs=width,
            kernel=stride**2,
            pixels=keys,
        )
        add_layer_norm(ledger, f"{name}.norm", channels=width, rows=keys)
    # Input, normed map, queries, keys and values, attended values before and after projection.
    ledger.live(held + 5 * pixels * width + 3 * keys * width)


def _head_cost(ledger: Ledger, channels: int, pixels: int, classes: int) -> None:
    """Final norm, average over positions, classifier."""
    add_layer_norm(ledger, "norm", channels=channels, rows=pixels)
    ledger.add("pool", Operator.POOL, elements=channels)
    if classes:
        add_linear(ledger, "head", inputs=channels, outputs=classes, rows=1)


def cost_many(
    configs: Sequence[TwinsSVTConfig],
    resolution: Resolution | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Costs of several networks, one entry each, equal to what :func:`cost` says."""
    return cost_each(cost, configs, resolution, ledgers)


VARIANTS: dict[str, TwinsSVTConfig] = {
    "twins_svt_small": TwinsSVTConfig(drop_path_rate=0.2),
    "twins_svt_base": TwinsSVTConfig(
        widths=(96, 192, 384, 768),
        depths=(2, 2, 18, 2),
        heads=(3, 6, 12, 24),
        drop_path_rate=0.3,
    ),
    "twins_svt_large": TwinsSVTConfig(
        widths=(128, 256, 512, 1024),
        depths=(2, 2, 18, 2),
        heads=(4, 8, 16, 32),
        drop_path_rate=0.5,
    ),
}
"""Paper Table 10 (supplement C), equal to timm's. Drop path: section 4.1."""
