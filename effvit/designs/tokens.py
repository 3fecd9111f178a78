"""Costs of token layers that several designs share, and of networks one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from effvit.config import ConfigT, Resolution
from effvit.cost import (
    ArrayLedger,
    Cost,
    CostArrays,
    Count,
    Ledger,
    LedgerFactory,
    Operator,
    add_layer_norm,
    add_linear,
    add_matmul,
    shared_settings,
)


def add_attention_products(
    ledger: Ledger,
    name: str,
    *,
    batch: Count,
    heads: Count,
    queries: Count,
    keys: Count,
    channels: Count,
    fused: bool = True,
    repeat: Count = 1,
) -> None:
    """Cost softmax(Q K^T) V in ``batch`` separate groups of tokens.

    Args:
        ledger: Where to write.
        name: Place of the attention in the network.
        batch: Groups, such as windows.
        heads: Attention heads.
        queries: Queries of a group.
        keys: Keys and values of a group.
        channels: Channels of all heads together.
        fused: Whether it can run as one kernel, where counters do not look.
        repeat: How many such attentions there are.
    """
    width = channels // heads
    add_matmul(
        ledger,
        f"{name}.scores",
        batch=batch * heads,
        rows=queries,
        inner=width,
        columns=keys,
        fused=fused,
        repeat=repeat,
    )
    ledger.add(
        f"{name}.softmax", Operator.SOFTMAX, elements=batch * heads * queries * keys, repeat=repeat
    )
    add_matmul(
        ledger,
        f"{name}.values",
        batch=batch * heads,
        rows=queries,
        inner=keys,
        columns=width,
        fused=fused,
        repeat=repeat,
    )


def add_mlp(
    ledger: Ledger,
    name: str,
    *,
    channels: Count,
    hidden: Count,
    rows: Count,
    activation: Operator = Operator.GELU,
    repeat: Count = 1,
) -> None:
    """Cost two linear layers, ``channels`` to ``hidden`` and back, with an activation between."""
    add_linear(ledger, f"{name}.fc1", inputs=channels, outputs=hidden, rows=rows, repeat=repeat)
    ledger.add(f"{name}.act", activation, elements=rows * hidden, repeat=repeat)
    add_linear(ledger, f"{name}.fc2", inputs=hidden, outputs=channels, rows=rows, repeat=repeat)


def add_mlp_branch(
    ledger: Ledger,
    name: str,
    *,
    channels: Count,
    hidden: Count,
    rows: Count,
    held: Count,
    repeat: Count = 1,
) -> None:
    """Cost the second half of a block, x + mlp(norm(x)).

    Args:
        ledger: Where to write.
        name: Place of the block in the network.
        channels: Channels of the tokens.
        hidden: Hidden channels of the MLP.
        rows: Tokens.
        held: Elements alive throughout, the block's input included.
        repeat: How many such blocks there are.
    """
    add_layer_norm(ledger, f"{name}.norm2", channels=channels, rows=rows, repeat=repeat)
    add_mlp(ledger, f"{name}.mlp", channels=channels, hidden=hidden, rows=rows, repeat=repeat)
    # The attention's sum, the normed map, GELU's input and output.
    ledger.live(held + 2 * rows * channels + 2 * rows * hidden, repeat)


def cost_each(
    cost: Callable[[ConfigT, Resolution | None], Cost],
    configs: Sequence[ConfigT],
    resolution: Resolution | None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Cost networks one after the other: for families that are compared with, not searched.

    Raises:
        ConfigError: They do not share image size, input channels and classes.
    """
    shared_settings(configs)
    ledger = ledgers(len(configs))
    for row, config in enumerate(configs):
        each = cost(config, resolution)
        part = ledger.part(1)
        for op in each.operations:
            part.add(
                op.module,
                op.operator,
                params=op.params,
                macs=op.macs,
                elements=op.elements,
                reads=op.reads,
                fused=op.fused,
            )
        part.live(each.peak_elements)
        ledger.merge(np.array([row]), part)
    return ledger.total()
