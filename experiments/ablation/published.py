"""Published tables as data, and comparison with them digit by digit.

A table is a CSV file in ``experiments/data``. Figures are kept as they are printed, as text: how
many digits a figure has decides what reproducing it means. Columns:

    row         label of the ablation's row
    printed_as  the row's name in the publication
    params_m    parameters in millions          macs_g  MACs in thousand millions
    throughput  images a second (or any figure that is proportional to speed)
    score       the publication's accuracy
    note        what is known about a figure that is not reproduced

An empty cell is a figure that the publication does not give.
"""

from __future__ import annotations

import csv
import dataclasses
import enum
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path

from effvit.config import ConfigError

COLUMNS = ("row", "printed_as", "params_m", "macs_g", "throughput", "score", "note")
MILLION, BILLION = 10**6, 10**9

DATA = Path(__file__).parent.parent / "data"
"""Published tables, which travel with the package."""


class Verdict(str, enum.Enum):
    """How far a published figure was reproduced here."""

    REPRODUCED = "reproduced"
    LAST_DIGIT = "last digit"
    ORDER = "order only"
    UNRESOLVED = "not resolved"
    NOT_REPRODUCED = "not reproduced"
    NOT_MEASURED = "not measured"
    NOT_PUBLISHED = "not published"


MEANING: Mapping[Verdict, str] = {
    Verdict.REPRODUCED: "equal in all printed digits; a speed: the printed ratio is inside the "
    "95 % interval of the ratio measured here",
    Verdict.LAST_DIGIT: "differs by one in the last printed digit",
    Verdict.ORDER: "an accuracy's step has the published sign and is significant "
    "(Holm-corrected p below 0.05); a speed: faster or slower than the first row, as published",
    Verdict.UNRESOLVED: "the difference is not significant at this number of seeds; a speed: its "
    "interval holds 1, or it was measured on a busy machine",
    Verdict.NOT_REPRODUCED: "differs by more, or has the opposite sign",
    Verdict.NOT_MEASURED: "the publication gives it, this run does not",
    Verdict.NOT_PUBLISHED: "this run gives it, the publication does not",
}


@dataclasses.dataclass(frozen=True)
class Printed:
    """A printed figure.

    Attributes:
        text: As printed, such as ``"31.2"``.
        unit: What one of it is, such as 10^6.
    """

    text: str
    unit: int = 1

    @property
    def value(self) -> Decimal:
        """The figure in its own unit, with its printed digits."""
        return Decimal(self.text)

    @property
    def digit(self) -> Decimal:
        """One in the last printed digit."""
        exponent = self.value.as_tuple().exponent
        assert isinstance(exponent, int)
        return Decimal(1).scaleb(exponent)

    def rounded(self, count: int) -> Decimal:
        """A count in the figure's unit and digits, half rounded up."""
        return (Decimal(count) / self.unit).quantize(self.digit, ROUND_HALF_UP)

    def difference(self, count: int) -> Decimal:
        """What the rounded count has more than the printed figure."""
        return self.rounded(count) - self.value

    def verdict(self, count: int) -> Verdict:
        """Compare all printed digits."""
        difference = abs(self.difference(count))
        if not difference:
            return Verdict.REPRODUCED
        return Verdict.LAST_DIGIT if difference == self.digit else Verdict.NOT_REPRODUCED


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """A row of a published table; None where it gives no figure."""

    row: str = ""
    printed_as: str = ""
    params: Printed | None = None
    macs: Printed | None = None
    throughput: Printed | None = None
    score: Printed | None = None
    note: str = ""


UNPUBLISHED = PublishedRow()
"""Stands beside rows that the publication does not have."""


@dataclasses.dataclass(frozen=True)
class Published:
    """A published table.

    Attributes:
        file: Its file in ``experiments/data``.
        source: Publication, version and number of the table.
        score: What the published accuracy is.
        speed: What the published speed is, and on what it was measured.
    """

    file: str
    source: str
    score: str = ""
    speed: str = ""

    def rows(self) -> dict[str, PublishedRow]:
        """Read the table: its rows by label.

        Raises:
            ConfigError: The file lacks a column, or a cell is no number.
        """
        text = (DATA / self.file).read_text(encoding="utf-8")
        reader = csv.DictReader(text.splitlines())
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ConfigError(f"{self.file} must have the columns {', '.join(COLUMNS)}")
        return {cells["row"]: _row(cells, self.file) for cells in reader}


def _row(cells: Mapping[str, str], file: str) -> PublishedRow:
    def printed(column: str, unit: int = 1) -> Printed | None:
        text = cells[column]
        if not text:
            return None
        try:
            Decimal(text)
        except InvalidOperation:
            raise ConfigError(f"{file}, row {cells['row']!r}: {column} is {text!r}") from None
        return Printed(text, unit)

    return PublishedRow(
        row=cells["row"],
        printed_as=cells["printed_as"],
        params=printed("params_m", MILLION),
        macs=printed("macs_g", BILLION),
        throughput=printed("throughput"),
        score=printed("score"),
        note=cells["note"],
    )
