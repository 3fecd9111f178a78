"""MobileViT (v1). The design: configuration, cost, published variants.

Paper: Mehta, Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision
Transformer", arXiv 2110.02178 (v2 March 2022), ICLR 2022. The network is timm's, see
:mod:`effvit.networks.timm_peers`.

Inverted bottlenecks, and in stages 3 to 5 a MobileViT block: 3x3 and 1x1 convolution (C -> d),
transformer layers on the unfolded map, 1x1 back (d -> C), and a 3x3 convolution of the block's
input and output side by side (2 C -> C). The map is unfolded into patches of 2 x 2 pixels; the N =
HW / 4 pixels at one position of all patches attend to each other. Cost of one transformer layer
with MLP ratio 2, in multiply-accumulates:

    4 HW d^2 + 2 HW N d + 4 HW d^2

which is quadratic in the number of pixels. A map of odd sides is resized bilinearly to even ones
for the transformer, and back after it.
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
    add_norm,
    ceil_div,
)
from effvit.designs.rules import check_entries, checked_ratio
from effvit.designs.tokens import add_attention_products, add_mlp, cost_each

STAGES = 5
DEPTHS = (1, 3, 1, 1, 1)
STRIDES = (1, 2, 2, 2, 2)
ATTENTION_STAGES = (2, 3, 4)
PATCH = 2
HEADS = 4
MLP_RATIO = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileViTConfig(ModelConfig):
    """A MobileViT. Defaults are MobileViT-S.

    Attributes:
        widths: Channels C of the stem and of the five stages.
        attention_widths: Channels d of the tokens in stages 3, 4 and 5; multiples of 4 heads.
        attention_depths: Transformer layers of stages 3, 4 and 5.
        expand_ratio: Hidden channels of an inverted bottleneck over those of its input.
        head_width: Channels before the pooling.
    """

    family: ClassVar[str] = "mobilevit"

    image_size: Resolution = (256, 256)
    widths: tuple[int, ...] = (16, 32, 64, 96, 128, 160)
    attention_widths: tuple[int, ...] = (144, 192, 240)
    attention_depths: tuple[int, ...] = (2, 4, 3)
    expand_ratio: float = 4.0
    head_width: int = 640

    def __post_init__(self) -> None:
        super().__post_init__()
        check_entries("widths", self.widths, STAGES + 1, "the stem and each of 5 stages")
        for name in ("attention_widths", "attention_depths"):
            check_entries(name, getattr(self, name), 3, "each of 3 attention stages")
        for width in self.attention_widths:
            if width % HEADS:
                raise ConfigError(
                    f"attention_widths must be multiples of {HEADS} heads, got {width} "
                    f"(nearest valid: {max(1, round(width / HEADS)) * HEADS})"
                )
        if self.head_width < 1:
            raise ConfigError(f"head_width must be at least 1, got {self.head_width}")
        ratio = checked_ratio("expand_ratio", self.expand_ratio, self.widths[:-1])
        for width in self.widths[:-1]:
            if width * ratio % 8:  # timm rounds other hidden widths
                raise ConfigError(
                    f"width times expand_ratio must be a multiple of 8, got {width} x {ratio:g}"
                )
        object.__setattr__(self, "expand_ratio", ratio)


def cost(config: MobileViTConfig, resolution: Resolution | None = None) -> Cost:
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
    shape = ceil_div(size[0], 2), ceil_div(size[1], 2)
    _conv_cost(ledger, "stem", config.in_channels, config.widths[0], 3, shape, image)
    for stage in range(STAGES):
        inputs, outputs = config.widths[stage : stage + 2]
        entered = image + inputs * shape[0] * shape[1]
        for block in range(DEPTHS[stage]):
            shape = _bottleneck_cost(
                ledger,
                f"stages.{stage}.{block}",
                widths=(outputs if block else inputs, config.expand_ratio, outputs),
                shape=shape,
                stride=1 if block else STRIDES[stage],
                held=entered if block else image,
            )
        if stage in ATTENTION_STAGES:
            _attention_cost(
                ledger, f"stages.{stage}.{DEPTHS[stage]}", config, stage, shape, entered
            )
    last = config.head_width
    held = image + config.widths[-1] * shape[0] * shape[1]
    _conv_cost(ledger, "final_conv", config.widths[-1], last, 1, shape, held)
    reads = last * shape[0] * shape[1]
    ledger.add("head.global_pool", Operator.ADAPTIVE_POOL, elements=last, reads=reads)
    if config.num_classes:
        add_linear(ledger, "head.fc", inputs=last, outputs=config.num_classes, rows=1)
    return ledger.total()


def _conv_cost(
    ledger: Ledger,
    name: str,
    inputs: int,
    outputs: int,
    kernel: int,
    shape: Resolution,
    held: int,
    groups: int = 1,
    activated: bool = True,
) -> None:
    """Convolution, batch norm, SiLU; ``held`` includes its input."""
    pixels = shape[0] * shape[1]
    add_convolution(
        ledger,
        f"{name}.conv",
        inputs=inputs,
        outputs=outputs,
        kernel=kernel**2,
        pixels=pixels,
        groups=groups,
        bias=False,
    )
    add_norm(ledger, f"{name}.bn", Operator.BATCH_NORM, channels=outputs, rows=pixels)
    if activated:
        ledger.add(f"{name}.bn.act", Operator.SILU, elements=pixels * outputs)
    ledger.live(held + 2 * pixels * outputs)


def _bottleneck_cost(
    ledger: Ledger,
    name: str,
    *,
    widths: tuple[int, float, int],
    shape: Resolution,
    stride: int,
    held: int,
) -> Resolution:
    """Inverted bottleneck; returns the shape of its map. ``held`` is all but its own input."""
    inputs, ratio, outputs = widths
    hidden = int(inputs * ratio)
    before = shape[0] * shape[1]
    held += inputs * before
    _conv_cost(ledger, f"{name}.conv1_1x1", inputs, hidden, 1, shape, held)
    shape = ceil_div(shape[0], stride), ceil_div(shape[1], stride)
    pixels = shape[0] * shape[1]
    beside = held + hidden * before
    _conv_cost(ledger, f"{name}.conv2_kxk", hidden, hidden, 3, shape, beside, groups=hidden)
    beside = held + hidden * pixels
    _conv_cost(ledger, f"{name}.conv3_1x1", hidden, outputs, 1, shape, beside, activated=False)
    return shape


def _attention_cost(
    ledger: Ledger, name: str, config: MobileViTConfig, stage: int, shape: Resolution, held: int
) -> None:
    """MobileViT block; ``held`` is all but its own input, which is alive to its end."""
    place = ATTENTION_STAGES.index(stage)
    channels, width = config.widths[stage + 1], config.attention_widths[place]
    pixels = shape[0] * shape[1]
    held += channels * pixels
    _conv_cost(ledger, f"{name}.conv_kxk", channels, channels, 3, shape, held)
    add_convolution(
        ledger,
        f"{name}.conv_1x1",
        inputs=channels,
        outputs=width,
        kernel=1,
        pixels=pixels,
        bias=False,
    )
    patches = ceil_div(shape[0], PATCH) * ceil_div(shape[1], PATCH)
    tokens = PATCH**2 * patches
    resized = int(tokens != pixels)
    ledger.add(f"{name}.enlarge", Operator.RESAMPLE, elements=tokens * width, repeat=resized)
    for layer in range(config.attention_depths[place]):
        _layer_cost(ledger, f"{name}.transformer.{layer}", width, patches, held)
    add_layer_norm(ledger, f"{name}.norm", channels=width, rows=tokens)
    ledger.add(f"{name}.reduce", Operator.RESAMPLE, elements=pixels * width, repeat=resized)
    beside = held + width * pixels
    _conv_cost(ledger, f"{name}.conv_proj", width, channels, 1, shape, beside)
    # Beside the convolution's output: the projected map, and both side by side.
    beside = held + 3 * channels * pixels
    _conv_cost(ledger, f"{name}.conv_fusion", 2 * channels, channels, 3, shape, beside)


def _layer_cost(ledger: Ledger, name: str, width: int, patches: int, held: int) -> None:
    """Transformer layer on the pixels at each position of the patches."""
    tokens, hidden = PATCH**2 * patches, MLP_RATIO * width
    add_layer_norm(ledger, f"{name}.norm1", channels=width, rows=tokens)
    add_linear(ledger, f"{name}.attn.qkv", inputs=width, outputs=3 * width, rows=tokens)
    add_attention_products(
        ledger,
        f"{name}.attn",
        batch=PATCH**2,
        heads=HEADS,
        queries=patches,
        keys=patches,
        channels=width,
    )
    add_linear(ledger, f"{name}.attn.proj", inputs=width, outputs=width, rows=tokens)
    add_layer_norm(ledger, f"{name}.norm2", channels=width, rows=tokens)
    add_mlp(
        ledger,
        f"{name}.mlp",
        channels=width,
        hidden=hidden,
        rows=tokens,
        activation=Operator.SILU,
    )
    # Input, normed tokens, query, key and value, attended values before and after projection.
    ledger.live(held + 7 * tokens * width)
    # Input, the attention's sum, normed tokens, the hidden layer, the output.
    ledger.live(held + 4 * tokens * width + tokens * hidden)


def cost_many(
    configs: Sequence[MobileViTConfig],
    resolution: Resolution | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Costs of several networks, one entry each, equal to what :func:`cost` says."""
    return cost_each(cost, configs, resolution, ledgers)


VARIANTS: dict[str, MobileViTConfig] = {
    "mobilevit_xxs": MobileViTConfig(
        widths=(16, 16, 24, 48, 64, 80),
        attention_widths=(64, 80, 96),
        expand_ratio=2.0,
        head_width=320,
    ),
    "mobilevit_xs": MobileViTConfig(
        widths=(16, 32, 48, 64, 80, 96), attention_widths=(96, 120, 144), head_width=384
    ),
    "mobilevit_s": MobileViTConfig(),
}
"""Paper Table 4, equal to timm's."""
