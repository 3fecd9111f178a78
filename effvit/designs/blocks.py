"""Costs of convolutional building blocks that several designs share.

The modules are in :mod:`effvit.networks.layers`. For live elements, ``held`` is what else is alive
while a block runs, its own input included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from effvit.cost import Count, Ledger, Operator, add_convolution, add_norm

Shape = tuple[Count, Count]
"""Height and width of a map, of one network or of many."""


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation: what it is, and whether it writes a copy (1) or works in place (0)."""

    operator: Operator
    copies: Count


ACTIVATIONS: Mapping[str, Activation] = {
    "silu": Activation(Operator.SILU, copies=0),
    "hardswish": Activation(Operator.HARDSWISH, copies=0),
    "gelu": Activation(Operator.GELU, copies=1),
}


def add_conv_unit(
    ledger: Ledger,
    name: str,
    *,
    inputs: Count,
    outputs: Count,
    kernel: int,
    pixels: Count,
    held: Count,
    groups: Count = 1,
    normed: Count = 1,
    activation: Activation | None = None,
    repeat: Count = 1,
) -> None:
    """Cost a convolution, the batch norm after it (else a bias), and an activation.

    Args:
        ledger: Where to write.
        name: Place of the unit in the network.
        inputs: Channels of its input.
        outputs: Channels of its output.
        kernel: Side of the kernel.
        pixels: Positions written.
        held: Elements alive beside what the unit writes, its input included.
        groups: Groups of channels.
        normed: 1 with a batch norm, 0 with a bias in its place.
        activation: The activation, if any.
        repeat: How many such units there are.
    """
    add_convolution(
        ledger,
        f"{name}.conv",
        inputs=inputs,
        outputs=outputs,
        kernel=kernel**2,
        pixels=pixels,
        groups=groups,
        bias=1 - normed,
        repeat=repeat,
    )
    add_norm(
        ledger,
        f"{name}.norm",
        Operator.BATCH_NORM,
        channels=outputs,
        rows=pixels,
        repeat=repeat * normed,
    )
    copies = normed
    if activation is not None:
        ledger.add(f"{name}.act", activation.operator, elements=pixels * outputs, repeat=repeat)
        copies = normed | activation.copies
    ledger.live(held + (1 + copies) * pixels * outputs, repeat)


def add_inverted_bottleneck(
    ledger: Ledger,
    name: str,
    *,
    inputs: Count,
    hidden: Count,
    outputs: Count,
    pixels: tuple[Count, Count],
    held: Count,
    activation: Activation,
    normed: Count = 1,
    repeat: Count = 1,
) -> None:
    """Cost an inverted bottleneck: 1x1 to ``hidden`` channels, depthwise 3x3, 1x1 back.

    Args:
        ledger: Where to write.
        name: Place of the block in the network.
        inputs: Channels of its input.
        hidden: Channels between.
        outputs: Channels of its output.
        pixels: Positions before and after the depthwise convolution.
        held: Elements alive beside what the block writes, its input included.
        activation: Of the first two convolutions; the last has none.
        normed: 1 if the first two have a batch norm, 0 if a bias; the last always has a norm.
        repeat: How many such blocks there are.
    """
    before, after = pixels
    add_conv_unit(
        ledger,
        f"{name}.expand",
        inputs=inputs,
        outputs=hidden,
        kernel=1,
        pixels=before,
        held=held,
        normed=normed,
        activation=activation,
        repeat=repeat,
    )
    add_conv_unit(
        ledger,
        f"{name}.depthwise",
        inputs=hidden,
        outputs=hidden,
        kernel=3,
        pixels=after,
        held=held + hidden * before,
        groups=hidden,
        normed=normed,
        activation=activation,
        repeat=repeat,
    )
    add_conv_unit(
        ledger,
        f"{name}.project",
        inputs=hidden,
        outputs=outputs,
        kernel=1,
        pixels=after,
        held=held + hidden * after,
        repeat=repeat,
    )
