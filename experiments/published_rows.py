"""Rows of published tables: what is printed, what is counted for it, how the two relate.

Figures are kept as printed, as text such as ``31.2M``: how many digits a figure has decides what
reproducing it means. A figure read off a chart says so, ``0.76±0.004G``.
"""

from __future__ import annotations

import csv
import dataclasses
import enum
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal, InvalidOperation
from importlib import resources

from effvit import as_config, model_cost
from effvit.config import ConfigError, parse_resolution, unknown_name
from effvit.cost import COUNTED, Cost, Operation, Operator
from effvit.counters import COUNTERS
from experiments.ablation.published import Printed
from experiments.dense_heads import dense_operations

TABLES = ("sepvit", "mobilevit", "efficientvit", "peers", "released_code")
"""Files ``published_NAME.csv`` in ``experiments/data``, in the order of the report.

What ``released_code`` holds is not printed by a paper: counts of the authors' code (SepViT of June
2023, ml-cvnets of October 2023, efficientvit of September 2025, CSWin Transformer of March 2022)
and of timm 1.0.31 by torch's counter, fvcore and ptflops.
"""


# --- what is printed ----------------------------------------------------------------------------


class Relation(str, enum.Enum):
    """How a count relates to a printed figure."""

    EQUAL = "equal"
    ROUNDED = "rounded"
    CUT_OFF = "cut off"
    ROUNDED_UP = "rounded up"
    WHOLE = "whole number"
    WHOLE_CUT_OFF = "whole number, cut off"
    WHOLE_UP = "whole number, rounded up"
    READING = "within the reading"
    DIFFERS = "differs"
    NOT_BUILT = "not built"


MEANING: Mapping[Relation, str] = {
    Relation.EQUAL: "the count, printed in full",
    Relation.ROUNDED: "the count, rounded to the printed digits",
    Relation.CUT_OFF: "the count, cut off after the printed digits",
    Relation.ROUNDED_UP: "the count, rounded up to the printed digits",
    Relation.WHOLE: "the count, rounded to a whole number; the .0 was appended",
    Relation.WHOLE_CUT_OFF: "the count, cut off to a whole number; the .0 was appended",
    Relation.WHOLE_UP: "the count, rounded up to a whole number; the .0 was appended",
    Relation.READING: "the count, within the uncertainty of a chart's reading",
    Relation.DIFFERS: "another number",
    Relation.NOT_BUILT: "a network that is not here",
}

REPRODUCED = (Relation.EQUAL, Relation.ROUNDED, Relation.READING)
ROUNDING = (
    Relation.CUT_OFF,
    Relation.ROUNDED_UP,
    Relation.WHOLE,
    Relation.WHOLE_CUT_OFF,
    Relation.WHOLE_UP,
)

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


@dataclasses.dataclass(frozen=True)
class Figure(Printed):
    """A printed figure.

    Attributes:
        uncertainty: Of a figure read off a chart, in the same unit.
    """

    uncertainty: Decimal | None = None

    @classmethod
    def parse(cls, text: str) -> Figure:
        """Read a figure such as ``31.2M``, ``3410008`` or ``0.76±0.004G``.

        Raises:
            ConfigError: It is none.
        """
        suffix = text[-1:] if text[-1:] in UNITS else ""
        value, _, uncertainty = text.removesuffix(suffix).partition("±")
        try:
            Decimal(value)
            spread = Decimal(uncertainty) if uncertainty else None
        except InvalidOperation:
            raise ConfigError(f"a figure must be like 31.2M or 4.5G, got {text!r}") from None
        return cls(value, UNITS[suffix], spread)

    def relation(self, count: int) -> Relation:
        """How a count relates to the figure: the first that fits, in order of definition."""
        exact = Decimal(count) / self.unit
        if self.uncertainty is not None:
            within = abs(exact - self.value) <= self.uncertainty
            return Relation.READING if within else Relation.DIFFERS
        if self.unit == 1:
            return Relation.EQUAL if exact == self.value else Relation.DIFFERS
        whole = Decimal(1)
        appended = self.digit < whole and self.value == self.value.to_integral_value()
        for relation, rule, step, possible in (
            (Relation.ROUNDED, ROUND_HALF_UP, self.digit, True),
            (Relation.CUT_OFF, ROUND_DOWN, self.digit, True),
            (Relation.ROUNDED_UP, ROUND_UP, self.digit, True),
            (Relation.WHOLE, ROUND_HALF_UP, whole, appended),
            (Relation.WHOLE_CUT_OFF, ROUND_DOWN, whole, appended),
            (Relation.WHOLE_UP, ROUND_UP, whole, appended),
        ):
            if possible and exact.quantize(step, rule) == self.value:
                return relation
        return Relation.DIFFERS


# --- what is counted ----------------------------------------------------------------------------


def _macs(operations: Sequence[Operation], *operators: Operator) -> int:
    return sum(op.macs for op in operations if op.operator in operators)


def _by_mmcv(operations: Sequence[Operation]) -> int:
    """As mmcv's counter, which the detection and segmentation tool boxes print.

    Modules only: convolutions with their biases, linear layers without, layer norms twice an
    element, ReLU and adaptive pooling once. Not matrix products, nor synchronised batch norms,
    which it has no rule for.
    """
    biases = sum(op.bias_elements for op in operations if op.operator is Operator.CONVOLUTION)
    norms = sum(op.elements for op in operations if op.operator is Operator.LAYER_NORM)
    activations = sum(op.elements for op in operations if op.operator is Operator.RELU)
    pooled = sum(op.reads for op in operations)
    modules = _macs(operations, Operator.CONVOLUTION, Operator.LINEAR)
    return modules + biases + 2 * norms + activations + pooled


def _by(counter: str) -> Callable[[Sequence[Operation]], int]:
    """As one of the counters that the closed form explains."""

    def count(operations: Sequence[Operation]) -> int:
        macs = _macs(operations, *COUNTED)
        cost = Cost(0, macs, 0, 0, tuple(operations))
        return macs + sum(term.macs for term in COUNTERS[counter].terms(cost))

    return count


COUNTS: Mapping[str, Callable[[Sequence[Operation]], int]] = {
    "": lambda operations: _macs(operations, *COUNTED),
    "without products": lambda operations: _macs(operations, Operator.CONVOLUTION, Operator.LINEAR),
    "mmcv": _by_mmcv,
    "mmcv and products": lambda ops: _by_mmcv(ops) + _macs(ops, Operator.MATMUL),
    **{name: _by(name) for name in COUNTERS},
}
"""How multiply-accumulates are counted for a row; the project's own count has no name."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a published table. An empty field is one that the row does not have.

    Attributes:
        paper: Publication and version.
        table: Table of the publication.
        row: As printed, or what it is.
        model: Published model that is counted for it; empty where the row's network is not here.
        overrides: Fields of its configuration that differ, as JSON.
        resolution: Size of the input; empty for the design's.
        part: Modules that the figures are of, joined by `` + ``; empty for the whole network.
        head: Neck and head behind the network, see :mod:`experiments.dense_heads`.
        counter: How MACs are counted, see :data:`COUNTS`.
        params: Printed parameters.
        macs: Printed multiply-accumulates.
        top1: Printed accuracy on ImageNet-1K, in percent.
        params_note: What is known about the parameters; the reason if they are not reproduced.
        macs_note: The same about the multiply-accumulates.
        note: What is known about the whole row.
    """

    paper: str
    table: str
    row: str
    model: str
    overrides: str
    resolution: str
    part: str
    head: str
    counter: str
    params: str
    macs: str
    top1: str
    params_note: str
    macs_note: str
    note: str

    def operations(self) -> tuple[Operation, ...]:
        """The counted operations.

        Raises:
            ConfigError: The model, an override, the resolution or a part does not exist.
        """
        config = as_config(self.model).replace(**json.loads(self.overrides or "{}"))
        size = parse_resolution(self.resolution) if self.resolution else config.image_size
        if self.head:
            return dense_operations(self.model, config, size, self.head)
        operations = model_cost(config, size).operations
        return self._chosen(operations) if self.part else operations

    def _chosen(self, operations: Sequence[Operation]) -> tuple[Operation, ...]:
        chosen: list[Operation] = []
        for part in self.part.split(" + "):
            found = [op for op in operations if f"{op.module}.".startswith(f"{part}.")]
            if not found:
                raise ConfigError(f"{self.model} has no part {part!r}")
            chosen += found
        return tuple(chosen)

    def count(self) -> tuple[int, int]:
        """Parameters and multiply-accumulates, as the row's counter counts."""
        if self.counter not in COUNTS:
            raise unknown_name("counter", self.counter, COUNTS)
        operations = self.operations()
        return sum(op.params for op in operations), COUNTS[self.counter](operations)


def read_rows() -> Iterator[Row]:
    """Read all published tables.

    Raises:
        ConfigError: A file does not have the columns of :class:`Row`.
    """
    columns = [field.name for field in dataclasses.fields(Row)]
    for name in TABLES:
        file = f"published_{name}.csv"
        text = (resources.files("experiments") / "data" / file).read_text(encoding="utf-8")
        reader = csv.DictReader(text.splitlines())
        if reader.fieldnames != columns:
            raise ConfigError(f"{file} must have the columns {', '.join(columns)}")
        for values in reader:
            yield Row(**values)
