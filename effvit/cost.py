"""What a network costs, in closed form: operations as data, sums as integers.

The project's number (``macs``) counts multiply-accumulates of convolutions, linear layers and
matrix products, without biases, norms and activations: the count that reproduces the published
tables. Every formula is written once over :data:`Count`, so that the same lines cost one network
(Python integers, with a breakdown) or a million at once (numpy arrays, totals only).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from effvit.config import ConfigError, ModelConfig, Resolution

IntArray: TypeAlias = NDArray[np.int64]
Count: TypeAlias = Any
"""An ``int`` for one network, or an ``int64`` array with one entry a network."""


class Operator(str, enum.Enum):
    """Kinds of operation. The first three are what ``macs`` counts."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    MATMUL = "matmul"
    LAYER_NORM = "layer_norm"
    GROUP_NORM = "group_norm"
    BATCH_NORM = "batch_norm"
    GELU = "gelu"
    SILU = "silu"
    HARDSWISH = "hardswish"
    RELU = "relu"
    SOFTMAX = "softmax"
    PRODUCT = "product"
    POOL = "pool"
    ADAPTIVE_POOL = "adaptive_pool"
    PARAMETER = "parameter"
    RESAMPLE = "resample"


COUNTED = (Operator.CONVOLUTION, Operator.LINEAR, Operator.MATMUL)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a network at one resolution and batch 1.

    Attributes:
        module: Dotted place in the network.
        operator: What it does.
        params: Parameters it owns.
        macs: Multiply-accumulates; 0 for operators outside :data:`COUNTED`.
        elements: Elements it writes.
        bias_elements: Written elements to which a bias is added; other counters count these.
        reads: Elements it reads, where other counters count these.
        fused: Part of what the fused attention kernel computes, where counters do not look.
    """

    module: str
    operator: Operator
    params: int
    macs: int
    elements: int
    bias_elements: int = 0
    reads: int = 0
    fused: bool = False


class Ledger(Protocol):
    """What the formulas write to."""

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
        """Record an operation that occurs ``repeat`` times."""

    def live(self, elements: Count, repeat: Count = 1) -> None:
        """Record that so many elements are alive at once at some moment (if ``repeat > 0``)."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one network at one resolution, batch 1.

    Attributes:
        params: Parameters (elements of all trainable tensors).
        macs: Multiply-accumulates of convolutions, linear layers and matrix products.
        activations: Elements written by those same operators.
        peak_elements: Estimate of the elements alive at the worst moment of an eager forward pass
            without gradients and with fused attention: image, residuals and temporaries, weights
            and what kernels allocate inside not included. Each family says what it assumes; the
            tests hold it to 12 % of the storages followed through a pass, mostly to 3 %.
        operations: The breakdown, in order of execution.
    """

    params: int
    macs: int
    activations: int
    peak_elements: int
    operations: tuple[Operation, ...]

    def peak_bytes(self, element_size: int = 4) -> int:
        """Peak activation memory in bytes, for elements of ``element_size`` bytes."""
        return self.peak_elements * element_size

    def elements(self, operator: Operator) -> int:
        """Elements that all operations of one kind write."""
        return sum(op.elements for op in self.operations if op.operator is operator)

    def by_operator(self) -> dict[Operator, tuple[int, int, int]]:
        """Sum ``(params, macs, elements)`` for each operator."""
        return _group((op.operator, op) for op in self.operations)

    def by_module(self, depth: int = 2) -> dict[str, tuple[int, int, int]]:
        """Sum ``(params, macs, elements)`` for each module, names cut after ``depth`` parts."""
        return _group((".".join(op.module.split(".")[:depth]), op) for op in self.operations)


def _group(pairs: Iterable[tuple[Any, Operation]]) -> dict[Any, tuple[int, int, int]]:
    sums: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for key, op in pairs:
        entry = sums[key]
        entry[0] += op.params
        entry[1] += op.macs
        entry[2] += op.elements
    return {key: (p, m, e) for key, (p, m, e) in sums.items()}


class OperationLedger:
    """Keeps every operation of one network."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.peak = 0

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
        """Record an operation; one with ``repeat=0`` does not exist in this network."""
        if not repeat:
            return
        if repeat != 1:
            raise ValueError("a breakdown names every operation; repeat must be 0 or 1")
        bias = int(elements) if biased else 0
        self.operations.append(
            Operation(
                module, operator, int(params), int(macs), int(elements), bias, int(reads), fused
            )
        )

    def live(self, elements: Count, repeat: Count = 1) -> None:
        """Raise the peak."""
        if repeat:
            self.peak = max(self.peak, int(elements))

    def total(self) -> Cost:
        """Sum up."""
        counted = [op for op in self.operations if op.operator in COUNTED]
        return Cost(
            params=sum(op.params for op in self.operations),
            macs=sum(op.macs for op in counted),
            activations=sum(op.elements for op in counted),
            peak_elements=self.peak,
            operations=tuple(self.operations),
        )


@dataclasses.dataclass(frozen=True)
class CostArrays:
    """Costs of many networks, one ``int64`` entry each; fields as in :class:`Cost`."""

    params: IntArray
    macs: IntArray
    activations: IntArray
    peak_elements: IntArray

    def __len__(self) -> int:
        return len(self.params)

    @classmethod
    def joined(cls, parts: Sequence[CostArrays]) -> CostArrays:
        """Costs of the networks of several parts, one part or more, in order."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


class ArrayLedger:
    """Keeps running totals of many networks."""

    def __init__(self, size: int) -> None:
        self.params = np.zeros(size, np.int64)
        self.macs = np.zeros(size, np.int64)
        self.activations = np.zeros(size, np.int64)
        self.peak = np.zeros(size, np.int64)

    def add(
        self,
        module: str,  # noqa: ARG002 - totals need neither this nor the next flags
        operator: Operator,
        *,
        params: Count = 0,
        macs: Count = 0,
        elements: Count = 0,
        biased: bool = False,  # noqa: ARG002
        reads: Count = 0,  # noqa: ARG002
        fused: bool = False,  # noqa: ARG002
        repeat: Count = 1,
    ) -> None:
        """Add ``repeat`` operations to the totals."""
        self.params += params * repeat
        if operator in COUNTED:
            self.macs += macs * repeat
            self.activations += elements * repeat

    def live(self, elements: Count, repeat: Count = 1) -> None:
        """Raise the peaks."""
        np.maximum(self.peak, np.where(repeat > 0, elements, 0), out=self.peak)

    def part(self, size: int) -> ArrayLedger:
        """Return an empty ledger of the same kind, to be merged."""
        return type(self)(size)

    def merge(self, rows: IntArray, part: ArrayLedger) -> None:
        """Take in what was written for some of the networks, given by distinct row numbers."""
        self.params[rows] += part.params
        self.macs[rows] += part.macs
        self.activations[rows] += part.activations
        self.peak[rows] = np.maximum(self.peak[rows], part.peak)

    def total(self) -> CostArrays:
        """Sum up."""
        return CostArrays(self.params, self.macs, self.activations, self.peak)


LedgerFactory: TypeAlias = Callable[[int], ArrayLedger]
"""Makes the ledger that a formula writes so many networks' costs to."""

CHUNK = 8192
"""Networks costed at a time: their arrays stay in the processor's cache."""

FormulaT = TypeVar("FormulaT", bound=Callable[..., CostArrays])
ColumnsT = TypeVar("ColumnsT", bound="Columns")


def in_chunks(cost: FormulaT) -> FormulaT:
    """Make an array formula work through long columns piece by piece.

    Args:
        cost: Takes :class:`Columns`, a resolution, and what makes its ledger: one for each piece.
    """

    @functools.wraps(cost)
    def chunked(
        columns: Columns,
        resolution: Resolution | None = None,
        ledgers: LedgerFactory = ArrayLedger,
    ) -> CostArrays:
        if len(columns) <= CHUNK:
            return cost(columns, resolution, ledgers)
        fields = vars(columns)
        arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
        parts = []
        for start in range(0, len(columns), CHUNK):
            piece = {name: value[start : start + CHUNK] for name, value in arrays.items()}
            parts.append(cost(type(columns)(**{**fields, **piece}), resolution, ledgers))
        return CostArrays.joined(parts)

    return cast("FormulaT", chunked)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Many networks of one family and one design resolution, ``n`` of them.

    Families add arrays with one entry or row a network.

    Attributes:
        image_size: Design resolution. in_channels, num_classes: as in the configurations.
    """

    image_size: Resolution
    in_channels: int
    num_classes: int

    def __len__(self) -> int:
        return next(len(value) for value in vars(self).values() if isinstance(value, np.ndarray))

    def varied(self: ColumnsT, **arrays: IntArray) -> ColumnsT:
        """Networks that are all like the first one of these but for some fields.

        Args:
            arrays: Those fields, with one entry or row a network.
        """
        count = len(next(iter(arrays.values())))
        fields: dict[str, Any] = {
            name: np.broadcast_to(value[0], (count, *value.shape[1:]))
            if isinstance(value, np.ndarray)
            else value
            for name, value in vars(self).items()
        }
        return type(self)(**{**fields, **arrays})


def shared_settings(configs: Sequence[ModelConfig]) -> dict[str, Any]:
    """Fields of :class:`Columns` of networks that are costed together.

    Raises:
        ConfigError: They do not share them.
    """
    shared = {(c.image_size, c.in_channels, c.num_classes) for c in configs}
    if len(shared) != 1:
        raise ConfigError(
            "networks costed together must share image_size, in_channels and num_classes, "
            f"got {len(shared)} combinations"
        )
    first = configs[0]
    return {name: getattr(first, name) for name in ("image_size", "in_channels", "num_classes")}


def ceil_div(a: Count, b: Count) -> Count:
    """Divide and round up, for integers and arrays."""
    return -(-a // b)


def smaller(a: Count, b: Count) -> Count:
    """Minimum of two counts, keeping Python integers what they are."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else np.minimum(a, b)


def add_convolution(
    ledger: Ledger,
    module: str,
    *,
    inputs: Count,
    outputs: Count,
    kernel: Count,
    pixels: Count,
    groups: Count = 1,
    bias: Count = True,
    repeat: Count = 1,
) -> None:
    """Cost a convolution with ``kernel`` taps (height x width) that writes ``pixels`` positions."""
    taps = inputs // groups * kernel
    ledger.add(
        module,
        Operator.CONVOLUTION,
        params=outputs * (taps + bias),
        macs=pixels * outputs * taps,
        elements=pixels * outputs,
        biased=bias,
        repeat=repeat,
    )


def add_linear(
    ledger: Ledger,
    module: str,
    *,
    inputs: Count,
    outputs: Count,
    rows: Count,
    bias: bool = True,
    repeat: Count = 1,
) -> None:
    """Cost a linear layer applied to ``rows`` vectors."""
    ledger.add(
        module,
        Operator.LINEAR,
        params=outputs * (inputs + bias),
        macs=rows * inputs * outputs,
        elements=rows * outputs,
        biased=bias,
        repeat=repeat,
    )


def add_matmul(
    ledger: Ledger,
    module: str,
    *,
    batch: Count,
    rows: Count,
    inner: Count,
    columns: Count,
    fused: bool = False,
    repeat: Count = 1,
) -> None:
    """Cost ``batch`` products of a (rows, inner) and an (inner, columns) matrix."""
    elements = batch * rows * columns
    ledger.add(
        module,
        Operator.MATMUL,
        macs=elements * inner,
        elements=elements,
        fused=fused,
        repeat=repeat,
    )


def add_norm(
    ledger: Ledger,
    module: str,
    operator: Operator,
    *,
    channels: Count,
    rows: Count,
    repeat: Count = 1,
) -> None:
    """Cost a norm of any kind, with a scale and a shift a channel, over ``rows`` positions."""
    ledger.add(module, operator, params=2 * channels, elements=rows * channels, repeat=repeat)


def add_layer_norm(
    ledger: Ledger, module: str, *, channels: Count, rows: Count, repeat: Count = 1
) -> None:
    """Cost a layer norm with scale and shift over ``rows`` vectors."""
    add_norm(ledger, module, Operator.LAYER_NORM, channels=channels, rows=rows, repeat=repeat)
