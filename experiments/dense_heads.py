"""Costs of the necks and heads that published tables put behind a backbone; none of them is built.

Sizes are those of the released configurations (SepViT's, for mmdetection 2.8 and mmsegmentation
0.10, and EfficientViT's segmentation models), not of a search. Parameters and operations only: what
counters and tables make of them is in :mod:`experiments.published_rows`.

All functions write to a ledger. ``widths`` and ``pixels`` are channels and positions of the
backbone's maps, at strides 4, 8, 16 and 32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from effvit import ModelConfig, model_cost
from effvit.config import ConfigError, Resolution, unknown_name
from effvit.cost import (
    Ledger,
    Operation,
    OperationLedger,
    Operator,
    add_layer_norm,
    add_linear,
    ceil_div,
)
from effvit.designs.blocks import Activation, add_conv_unit, add_inverted_bottleneck
from effvit.designs.efficientvit import EfficientViTConfig
from effvit.designs.sepvit import SepViTConfig
from effvit.designs.swin import SwinConfig
from effvit.designs.twins import TwinsSVTConfig

RELU = Activation(Operator.RELU, copies=0)
STRIDES = (4, 8, 16, 32)

PYRAMID = 256
"""Channels of a feature pyramid."""

DETECTED, SEGMENTED = 80, 150
"""Classes of COCO and of ADE20K."""

PROPOSALS, MASKED = 1000, 100
"""Regions that mmdetection takes for a count: for boxes, and for masks."""


def dense_operations(
    model: str, config: ModelConfig, size: Resolution, head: str
) -> tuple[Operation, ...]:
    """Operations of a backbone with a neck and heads.

    Args:
        model: Name of the published model that the backbone is made from.
        config: The backbone.
        size: Height and width of the image, multiples of 32.
        head: A name in :data:`HEADS`, or ``segmentation, DATASET`` for EfficientViT.

    Returns:
        The operations; those of the neck and heads under ``dense``.

    Raises:
        ConfigError: No such head, or none for this backbone.
    """
    ledger = OperationLedger()
    if isinstance(config, EfficientViTConfig):
        _segmentation(ledger, _segmentation_head(model, head), config.widths[2:], size)
        kept = [op for op in _operations(config, size) if op.module.startswith(("stem", "stages"))]
        return (*kept, *ledger.operations)
    if head not in HEADS:
        raise unknown_name("dense head", head, HEADS)
    if not isinstance(config, SepViTConfig | SwinConfig | TwinsSVTConfig):
        raise ConfigError(f"{head} is costed behind SepViT, Swin and Twins, got {config.family}")
    widths = config.widths
    pixels = [(size[0] // stride) * (size[1] // stride) for stride in STRIDES]
    for width, count in zip(widths, pixels, strict=True):
        add_layer_norm(ledger, "dense.norms", channels=width, rows=count)
    HEADS[head](ledger, widths, pixels, size)
    return (*_trunk(config, size), *ledger.operations)


def _operations(config: ModelConfig, size: Resolution) -> tuple[Operation, ...]:
    return model_cost(config, size).operations


KEEPS_CLASSIFIER = ("sepvit", "twins_svt")
"""Families whose released dense code creates the last norm and the classifier and does not run
them, so that tables count their parameters."""


def _trunk(config: ModelConfig, size: Resolution) -> list[Operation]:
    """A backbone without what only classification runs."""
    trunk = []
    for op in _operations(config, size):
        if op.module.split(".")[0] not in ("norm", "pool", "head"):
            trunk.append(op)
        elif config.family in KEEPS_CLASSIFIER:
            trunk.append(dataclasses.replace(op, macs=0, elements=0, bias_elements=0))
    return trunk


# --- detection: mmdetection ---------------------------------------------------------------------


def _convolve(
    ledger: Ledger,
    name: str,
    inputs: int,
    outputs: int,
    kernel: int,
    pixels: int,
    activated: bool = False,
    normed: bool = False,
) -> None:
    """Convolution with a bias, or with a batch norm instead, and a ReLU."""
    add_conv_unit(
        ledger,
        f"dense.{name}",
        inputs=inputs,
        outputs=outputs,
        kernel=kernel,
        pixels=pixels,
        held=0,
        normed=int(normed),
        activation=RELU if activated else None,
    )


def _pyramid(ledger: Ledger, widths: Sequence[int], pixels: Sequence[int]) -> None:
    """Feature pyramid: 1x1 to the same width, sums from above, 3x3."""
    for width, count in zip(widths, pixels, strict=True):
        _convolve(ledger, "neck.lateral", width, PYRAMID, 1, count)
        _convolve(ledger, "neck.output", PYRAMID, PYRAMID, 3, count)


def _coarser(size: Resolution, levels: int) -> list[int]:
    """Positions of maps at strides 64, 128 and so on."""
    height, width = size[0] // STRIDES[-1], size[1] // STRIDES[-1]
    counts = []
    for _ in range(levels):
        height, width = ceil_div(height, 2), ceil_div(width, 2)
        counts.append(height * width)
    return counts


def _retinanet(
    ledger: Ledger, widths: Sequence[int], pixels: Sequence[int], size: Resolution
) -> None:
    """Pyramid over strides 8 to 128, two towers of four convolutions, 9 anchors a position."""
    added = _coarser(size, 2)
    _pyramid(ledger, widths[1:], pixels[1:])
    _convolve(ledger, "neck.extra", widths[-1], PYRAMID, 3, added[0])
    _convolve(ledger, "neck.extra", PYRAMID, PYRAMID, 3, added[1])
    positions = sum(pixels[1:]) + sum(added)
    for outputs in (9 * DETECTED, 9 * 4):
        for _ in range(4):
            _convolve(ledger, "head.tower", PYRAMID, PYRAMID, 3, positions, activated=True)
        _convolve(ledger, "head.predict", PYRAMID, outputs, 3, positions)


def _mask_rcnn(
    ledger: Ledger, widths: Sequence[int], pixels: Sequence[int], size: Resolution
) -> None:
    """Pyramid over strides 4 to 64, region proposals, heads for boxes (7 x 7) and masks (14 x 14).

    The fifth level is a pooled fourth one.
    """
    _pyramid(ledger, widths, pixels)
    positions = sum(pixels) + _coarser(size, 1)[0]
    _convolve(ledger, "proposals.conv", PYRAMID, PYRAMID, 3, positions)
    for outputs in (3, 3 * 4):
        _convolve(ledger, "proposals.predict", PYRAMID, outputs, 1, positions)
    for inputs, outputs in ((49 * PYRAMID, 1024), (1024, 1024)):
        add_linear(ledger, "dense.boxes.fc", inputs=inputs, outputs=outputs, rows=PROPOSALS)
        ledger.add("dense.boxes.relu", Operator.RELU, elements=PROPOSALS * outputs)
    for outputs in (DETECTED + 1, 4 * DETECTED):
        add_linear(ledger, "dense.boxes.predict", inputs=1024, outputs=outputs, rows=PROPOSALS)
    for _ in range(4):
        _convolve(ledger, "masks.conv", PYRAMID, PYRAMID, 3, MASKED * 14**2, activated=True)
    taps = 4 * PYRAMID**2  # transposed, kernel and stride 2: every input meets every tap once
    ledger.add(
        "dense.masks.upsample",
        Operator.CONVOLUTION,
        params=taps + PYRAMID,
        macs=MASKED * 14**2 * taps,
        elements=MASKED * 28**2 * PYRAMID,
        biased=True,
    )
    ledger.add("dense.masks.relu", Operator.RELU, elements=MASKED * 28**2 * PYRAMID)
    _convolve(ledger, "masks.predict", PYRAMID, DETECTED, 1, MASKED * 28**2)


# --- segmentation: mmsegmentation ---------------------------------------------------------------


def _semantic_fpn(
    ledger: Ledger,
    widths: Sequence[int],
    pixels: Sequence[int],
    size: Resolution,  # noqa: ARG001 - heads have one signature
) -> None:
    """Pyramid, then each level to stride 4 in steps of a 3x3 convolution and a doubling; summed."""
    _pyramid(ledger, widths, pixels)
    for level in range(len(widths)):
        inputs = PYRAMID
        for step in range(level, 0, -1) or (0,):
            count = pixels[step]
            _convolve(ledger, "head.scale", inputs, 128, 3, count, activated=True, normed=True)
            inputs = 128
    _convolve(ledger, "head.predict", 128, SEGMENTED, 1, pixels[0])


def _upernet(
    ledger: Ledger,
    widths: Sequence[int],
    pixels: Sequence[int],
    size: Resolution,  # noqa: ARG001 - heads have one signature
    channels: int = 512,
) -> None:
    """Pooled context on the last map, a pyramid, all levels fused; an auxiliary head for training.

    The auxiliary head, on the map at stride 16, has parameters but does not run.
    """
    last, bins = widths[-1], (1, 2, 3, 6)

    def convolve(name: str, inputs: int, kernel: int, count: int, outputs: int = channels) -> None:
        _convolve(ledger, name, inputs, outputs, kernel, count, activated=True, normed=True)

    for side in bins:
        reads = last * pixels[-1]
        ledger.add("dense.head.pool", Operator.ADAPTIVE_POOL, elements=last * side**2, reads=reads)
        convolve("head.context", last, 1, side**2)
    convolve("head.bottleneck", last + len(bins) * channels, 3, pixels[-1])
    for width, count in zip(widths[:-1], pixels[:-1], strict=True):
        convolve("head.lateral", width, 1, count)
        convolve("head.output", channels, 3, count)
    convolve("head.fuse", len(widths) * channels, 3, pixels[0])
    _convolve(ledger, "head.predict", channels, SEGMENTED, 1, pixels[0])
    convolve("auxiliary.conv", widths[2], 3, 0, outputs=256)
    _convolve(ledger, "auxiliary.predict", 256, SEGMENTED, 1, 0)


Head = Callable[[Ledger, Sequence[int], Sequence[int], Resolution], None]

HEADS: Mapping[str, Head] = {
    "RetinaNet": _retinanet,
    "Mask R-CNN": _mask_rcnn,
    "Semantic FPN": _semantic_fpn,
    "UperNet": _upernet,
}


# --- segmentation: EfficientViT -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SegmentationHead:
    """EfficientViT's segmentation head.

    Attributes:
        width: Channels to which the maps at strides 32, 16 and 8 are brought and summed, at 8.
        depth: Residual blocks after the sum.
        classes: Outputs.
        expand: Hidden over input channels of a block.
        fused: Blocks of a 3x3 and a 1x1 convolution (L series), or inverted bottlenecks.
        widened: Channels of the 1x1 convolution before the prediction over ``width``; 0 for none.
    """

    width: int
    depth: int
    classes: int
    expand: int = 4
    fused: bool = False
    widened: int = 0


CITYSCAPES, ADE20K = "segmentation, Cityscapes", "segmentation, ADE20K"

SEGMENTATION_HEADS: Mapping[str, Mapping[str, SegmentationHead]] = {
    CITYSCAPES: {
        "efficientvit_b0": SegmentationHead(32, 1, 19, widened=4),
        "efficientvit_b1": SegmentationHead(64, 3, 19, widened=4),
        "efficientvit_b2": SegmentationHead(96, 3, 19, widened=4),
        "efficientvit_b3": SegmentationHead(128, 3, 19, widened=4),
        "efficientvit_l1": SegmentationHead(256, 3, 19, expand=1, fused=True),
        "efficientvit_l2": SegmentationHead(256, 5, 19, expand=1, fused=True),
    },
    ADE20K: {
        "efficientvit_b1": SegmentationHead(64, 3, SEGMENTED),
        "efficientvit_b2": SegmentationHead(96, 3, SEGMENTED),
        "efficientvit_b3": SegmentationHead(128, 3, SEGMENTED),
        "efficientvit_l1": SegmentationHead(128, 3, SEGMENTED, fused=True, widened=8),
        "efficientvit_l2": SegmentationHead(128, 3, SEGMENTED, fused=True, widened=8),
    },
}
"""As released, by data set and backbone."""


def _segmentation_head(model: str, head: str) -> SegmentationHead:
    if head not in SEGMENTATION_HEADS:
        raise unknown_name("dense head", head, SEGMENTATION_HEADS)
    if model not in SEGMENTATION_HEADS[head]:
        raise ConfigError(f"no released head of {model} for {head}")
    return SEGMENTATION_HEADS[head][model]


def _segmentation(
    ledger: Ledger, head: SegmentationHead, widths: Sequence[int], size: Resolution
) -> None:
    """``widths`` are those of the maps at strides 8, 16 and 32."""
    pixels = [(size[0] // stride) * (size[1] // stride) for stride in STRIDES[1:]]
    for width, count in zip(widths, pixels, strict=True):
        _convolve(ledger, "input", width, head.width, 1, count, normed=True)
    count, hidden = pixels[0], head.expand * head.width
    for _ in range(head.depth):
        if head.fused:
            _convolve(ledger, "block", head.width, hidden, 3, count, activated=True, normed=True)
            _convolve(ledger, "block", hidden, head.width, 1, count, normed=True)
        else:
            add_inverted_bottleneck(
                ledger,
                "dense.block",
                inputs=head.width,
                hidden=hidden,
                outputs=head.width,
                pixels=(count, count),
                held=0,
                activation=RELU,
            )
    last = head.width
    if head.widened:
        last *= head.widened
        _convolve(ledger, "widen", head.width, last, 1, count, activated=True, normed=True)
    _convolve(ledger, "predict", last, head.classes, 1, count)
