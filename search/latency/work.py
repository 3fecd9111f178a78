"""What networks do, operator by operator: the columns that latency is predicted from.

A network's time on a machine is close to a sum over its operations of a price for each call, each
multiply-accumulate, each parameter read and each element written, with prices of its own for each
kind of operation. The sums come from the closed-form cost formulas, for many networks at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effvit import ModelConfig, model_costs
from effvit.cost import ArrayLedger, Count, IntArray, Operator
from search.latency.protocol import FloatArray

THIN_TAPS = 81
"""Products summed in one element of a convolution's output up to which it counts as thin: depthwise
convolutions up to 9 x 9. They have a kernel of their own, bound by memory instead of arithmetic."""

QUANTITIES = ("calls", "params", "macs", "elements")

KINDS = (*(operator.value for operator in Operator), "thin_convolution")
"""Kinds of operation, with thin convolutions apart."""

COLUMNS = tuple(f"{kind} {quantity}" for kind in KINDS for quantity in QUANTITIES)
"""Names of the columns of :func:`model_work`."""

THIN = len(KINDS) - 1
INDEX = {operator: index for index, operator in enumerate(Operator)}


class WorkLedger(ArrayLedger):
    """Keeps totals of many networks, and their work by kind of operation.

    Attributes:
        work: (:data:`KINDS`, :data:`QUANTITIES`, size).
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.work: IntArray = np.zeros((len(KINDS), len(QUANTITIES), size), np.int64)

    def add(
        self,
        module: str,
        operator: Operator,
        *,
        params: Count = 0,
        macs: Count = 0,
        elements: Count = 0,
        biased: bool = False,
        reads: Count = 0,
        fused: bool = False,
        repeat: Count = 1,
    ) -> None:
        """Add ``repeat`` operations to the totals and to the work of their kind."""
        super().add(
            module, operator, params=params, macs=macs, elements=elements, repeat=repeat,
            biased=biased, reads=reads, fused=fused,
        )  # fmt: skip
        thin = repeat * (macs <= THIN_TAPS * elements) if operator is Operator.CONVOLUTION else 0
        for kind, count in ((INDEX[operator], repeat - thin), (THIN, thin)):
            if isinstance(count, int) and not count:
                continue
            for column, amount in enumerate((1, params, macs, elements)):
                self.work[kind, column] += amount * count

    def merge(self, rows: IntArray, part: ArrayLedger) -> None:
        """Take in what was written for some of the networks, given by distinct row numbers."""
        super().merge(rows, part)
        assert isinstance(part, WorkLedger)
        self.work[:, :, rows] += part.work


def model_work(configs: Sequence[ModelConfig]) -> FloatArray:
    """Work of networks of one family and design resolution, batch 1.

    Returns:
        (networks, :data:`COLUMNS`), counts as floats.

    Raises:
        ConfigError: They mix families or design resolutions, or there is none.
    """
    pieces: list[WorkLedger] = []

    def make(size: int) -> WorkLedger:
        pieces.append(WorkLedger(size))
        return pieces[-1]

    model_costs(configs, ledgers=make)
    work = np.concatenate([piece.work.reshape(len(COLUMNS), -1) for piece in pieces], axis=1)
    columns: FloatArray = work.T.astype(np.float64)
    return columns
