"""Pooling-based Vision Transformer (PiT). The design: configuration, cost, published variants.

Paper: Heo, Yun, Han, Chun, Choe, Oh, "Rethinking Spatial Dimensions of Vision Transformers", arXiv
2103.16302 (v2 August 2021), ICCV 2021. The network is timm's, see :mod:`effvit.networks.pit`.

A vision transformer in three stages. Patches overlap (a convolution whose stride is half of its
kernel) and get learned positions; between stages a depthwise 3 x 3 convolution of stride 2 halves
the map and multiplies its channels, while a linear layer widens the class token (section 3.2).
Blocks are pre-norm; each token attends to all. Only the class token is classified.

Cost of a block on N tokens (the class token and a map's pixels) of C channels, an MLP of F hidden
ones, in multiply-accumulates:

    N (4 C^2 + 2 C F) + 2 N^2 C

Any size: what is left of an image behind the last whole patch is not read, as in the released code;
positions are resampled bilinearly, maps of odd sides are halved rounding up.

The architectures of ViT-Bench-101 (Wei et al., "Auto-Prox", AAAI 2024) are of this family.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from effvit.config import MIN_RESOLUTION, ConfigError, ModelConfig, Resolution
from effvit.cost import (
    ArrayLedger,
    Columns,
    Cost,
    CostArrays,
    Count,
    IntArray,
    Ledger,
    LedgerFactory,
    OperationLedger,
    Operator,
    add_convolution,
    add_layer_norm,
    add_linear,
    ceil_div,
    in_chunks,
    shared_settings,
)
from effvit.designs.blocks import Shape
from effvit.designs.rules import check_entries, checked_ratio
from effvit.designs.tokens import add_attention_products, add_mlp

STAGES = 3
CLASS_TOKENS = 1
POOL_KERNEL, POOL_STRIDE = 3, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PiTConfig(ModelConfig):
    """A PiT, published or not. Defaults are PiT-S.

    Attributes:
        head_widths: Channels of a head in each of the three stages.
        heads: Attention heads of each stage. With ``head_widths`` they make the channels, of which
            each stage must have a multiple of the stage's before.
        depths: Blocks of each stage.
        mlp_ratio: Hidden width of the MLP over the channels.
        patch: Side of a patch in pixels.
        stride: Distance of patches in pixels.
    """

    family: ClassVar[str] = "pit"

    head_widths: tuple[int, ...] = (48, 48, 48)
    heads: tuple[int, ...] = (3, 6, 12)
    depths: tuple[int, ...] = (2, 6, 4)
    mlp_ratio: float = 4.0
    patch: int = 16
    stride: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("head_widths", "heads", "depths"):
            check_entries(name, getattr(self, name), STAGES, f"each of {STAGES} stages")
        for before, after in itertools.pairwise(self.widths):
            if after % before:
                nearest = max(1, round(after / before)) * before
                raise ConfigError(
                    "channels of a stage (head_widths times heads) must be a multiple of those of "
                    f"the stage before, got {after} after {before} (nearest valid: {nearest})"
                )
        if not 1 <= self.stride <= self.patch <= MIN_RESOLUTION:
            raise ConfigError(
                "stride must be at least 1 and at most patch, and patch at most "
                f"{MIN_RESOLUTION}, got stride {self.stride} and patch {self.patch}"
            )
        ratio = checked_ratio("mlp_ratio", self.mlp_ratio, self.widths)
        object.__setattr__(self, "mlp_ratio", ratio)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        pairs = zip(self.head_widths, self.heads, strict=True)
        return tuple(width * heads for width, heads in pairs)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Hidden width of the MLP in each stage."""
        return tuple(int(width * self.mlp_ratio) for width in self.widths)


def stage_maps(resolution: Resolution, patch: Count, stride: Count) -> list[Shape]:
    """Heights and widths of the three stages' maps.

    Args:
        resolution: Of the image, in pixels.
        patch: Side of a patch, of one network or of many.
        stride: Distance of patches, likewise.
    """
    maps: list[Shape] = [
        ((resolution[0] - patch) // stride + 1, (resolution[1] - patch) // stride + 1)
    ]
    for _ in range(STAGES - 1):
        height, width = maps[-1]
        maps.append((ceil_div(height, POOL_STRIDE), ceil_div(width, POOL_STRIDE)))
    return maps


# --- cost ---------------------------------------------------------------------------------------


def cost(config: PiTConfig, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1, under timm's names.
    """
    ledger = OperationLedger()
    size = resolution or config.image_size
    image = config.in_channels * size[0] * size[1]
    maps = stage_maps(size, config.patch, config.stride)
    designed = stage_maps(config.image_size, config.patch, config.stride)[0]
    _embedding_cost(
        ledger,
        config.in_channels,
        config.widths[0],
        kernel=config.patch**2,
        maps=(designed, maps[0]),
        image=image,
    )
    for stage, shape in enumerate(maps):
        width = config.widths[stage]
        before = (config.widths[max(stage - 1, 0)], maps[max(stage - 1, 0)])
        if stage:
            _pool_cost(ledger, stage, before, (width, shape), image)
        for block in range(config.depths[stage]):
            _block_cost(
                ledger,
                f"transformers.{stage}.blocks.{block}",
                tokens=_tokens(shape),
                channels=width,
                heads=config.heads[stage],
                hidden=config.hidden_widths[stage],
                held=image + _entered(stage, before) + _tokens(shape) * width * (block > 0),
            )
    _head_cost(ledger, config.widths[-1], config.num_classes)
    return ledger.total()


def _tokens(shape: Shape) -> Count:
    return CLASS_TOKENS + shape[0] * shape[1]


def _entered(stage: int, before: tuple[Count, Shape]) -> Count:
    """Elements of a stage's input: of the first the map itself, of others the tokens before it."""
    channels, shape = before
    return channels * (_tokens(shape) if stage else shape[0] * shape[1])


def _embedding_cost(
    ledger: Ledger,
    inputs: int,
    width: Count,
    *,
    kernel: Count,
    maps: tuple[Shape, Shape],
    image: int,
) -> None:
    """Patches projected, positions and the class token; ``maps`` are the design's and this."""
    designed, shape = maps
    pixels = shape[0] * shape[1]
    elements = pixels * width
    add_convolution(
        ledger, "patch_embed.conv", inputs=inputs, outputs=width, kernel=kernel, pixels=pixels
    )
    ledger.add("pos_embed", Operator.PARAMETER, params=designed[0] * designed[1] * width)
    ledger.add("cls_token", Operator.PARAMETER, params=CLASS_TOKENS * width)
    resampled = 1 - (designed[0] == shape[0]) * (designed[1] == shape[1])
    ledger.add("positions", Operator.RESAMPLE, elements=elements, repeat=resampled)
    ledger.live(image + (2 + resampled) * elements)


def _pool_cost(
    ledger: Ledger,
    stage: int,
    before: tuple[Count, Shape],
    here: tuple[Count, Shape],
    image: int,
) -> None:
    """What halves the map and widens the class token; arguments are (channels, shape)."""
    name = f"transformers.{stage}.pool"
    (inputs, entered), (outputs, shape) = before, here
    add_convolution(
        ledger,
        f"{name}.conv",
        inputs=inputs,
        outputs=outputs,
        kernel=POOL_KERNEL**2,
        pixels=shape[0] * shape[1],
        groups=inputs,
    )
    add_linear(ledger, f"{name}.fc", inputs=inputs, outputs=outputs, rows=CLASS_TOKENS)
    # The map as tokens, the small map, and its tokens.
    ledger.live(image + inputs * _tokens(entered) + 2 * outputs * _tokens(shape))


def _block_cost(
    ledger: Ledger,
    name: str,
    *,
    tokens: Count,
    channels: Count,
    heads: Count,
    hidden: Count,
    held: Count,
    repeat: Count = 1,
) -> None:
    """Attention and MLP, ``repeat`` such blocks; ``held`` is all but the block's input."""
    held = held + tokens * channels
    add_layer_norm(ledger, f"{name}.norm1", channels=channels, rows=tokens, repeat=repeat)
    add_linear(
        ledger,
        f"{name}.attn.qkv",
        inputs=channels,
        outputs=3 * channels,
        rows=tokens,
        repeat=repeat,
    )
    add_attention_products(
        ledger,
        f"{name}.attn",
        batch=1,
        heads=heads,
        queries=tokens,
        keys=tokens,
        channels=channels,
        repeat=repeat,
    )
    add_linear(
        ledger, f"{name}.attn.proj", inputs=channels, outputs=channels, rows=tokens, repeat=repeat
    )
    add_layer_norm(ledger, f"{name}.norm2", channels=channels, rows=tokens, repeat=repeat)
    add_mlp(ledger, f"{name}.mlp", channels=channels, hidden=hidden, rows=tokens, repeat=repeat)
    # The normed tokens, query, key and value, attended values before and after projection.
    ledger.live(held + 6 * tokens * channels, repeat)
    # The attention's sum, the normed tokens; the hidden layer before and after its activation.
    ledger.live(held + 2 * tokens * channels + 2 * tokens * hidden, repeat)


def _head_cost(ledger: Ledger, channels: Count, classes: int) -> None:
    """Norm of the class token and classifier."""
    add_layer_norm(ledger, "norm", channels=channels, rows=CLASS_TOKENS)
    if classes:
        add_linear(ledger, "head", inputs=channels, outputs=classes, rows=1)


# --- many networks at once ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class PiTColumns(Columns):
    """Many configurations as columns: ``n`` networks of one design resolution.

    Attributes:
        widths: (n, 3). heads: (n, 3). depths: (n, 3).
        hidden: (n, 3), width of the MLP's hidden layer.
        patch: (n,). stride: (n,).
    """

    widths: IntArray
    heads: IntArray
    depths: IntArray
    hidden: IntArray
    patch: IntArray
    stride: IntArray

    @classmethod
    def from_configs(cls, configs: Sequence[PiTConfig]) -> PiTColumns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        return cls(
            widths=np.array([c.widths for c in configs], np.int64),
            heads=np.array([c.heads for c in configs], np.int64),
            depths=np.array([c.depths for c in configs], np.int64),
            hidden=np.array([c.hidden_widths for c in configs], np.int64),
            patch=np.array([c.patch for c in configs], np.int64),
            stride=np.array([c.stride for c in configs], np.int64),
            **shared_settings(configs),
        )


@in_chunks
def cost_arrays(
    columns: PiTColumns,
    resolution: Resolution | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Cost many networks at once with the formulas of :func:`cost`.

    Args:
        columns: The networks.
        resolution: Height and width of the input; the design resolution if not given.
        ledgers: What makes the ledger to write to.

    Returns:
        One entry a network, equal to what :func:`cost` says of it.
    """
    ledger = ledgers(len(columns))
    size = resolution or columns.image_size
    image = columns.in_channels * size[0] * size[1]
    maps = stage_maps(size, columns.patch, columns.stride)
    designed = stage_maps(columns.image_size, columns.patch, columns.stride)[0]
    _embedding_cost(
        ledger,
        columns.in_channels,
        columns.widths[:, 0],
        kernel=columns.patch**2,
        maps=(designed, maps[0]),
        image=image,
    )
    before: tuple[Count, Shape] = (columns.widths[:, 0], maps[0])
    for stage, shape in enumerate(maps):
        here = (columns.widths[:, stage], shape)
        depths = columns.depths[:, stage]
        others = _tokens(shape) * here[0] * (depths > 1)
        if stage:
            _pool_cost(ledger, stage, before, here, image)
        _block_cost(
            ledger,
            "",
            tokens=_tokens(shape),
            channels=here[0],
            heads=columns.heads[:, stage],
            hidden=columns.hidden[:, stage],
            held=image + _entered(stage, before) + others,
            repeat=depths,
        )
        before = here
    _head_cost(ledger, columns.widths[:, -1], columns.num_classes)
    return ledger.total()


# --- published variants -------------------------------------------------------------------------


VARIANTS: dict[str, PiTConfig] = {
    "pit_ti": PiTConfig(head_widths=(32, 32, 32), heads=(2, 4, 8)),
    "pit_xs": PiTConfig(heads=(2, 4, 8)),
    "pit_s": PiTConfig(),
    "pit_b": PiTConfig(
        head_widths=(64, 64, 64), heads=(4, 8, 16), depths=(3, 6, 4), patch=14, stride=7
    ),
}
"""Under the names of the released code; equal to timm's."""
