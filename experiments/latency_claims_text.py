"""What the measured claims say, as tables of text."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import rich.table
from rich.console import Console
from rich.markup import escape

from effvit.backends import Precision
from experiments.ablation.layout import Table
from experiments.latency_claims_table import FRONT
from experiments.latency_claims_verdicts import Verdict

STYLES = {
    Verdict.HOLDS.value: "green",
    Verdict.FAILS.value: "bold red",
    Verdict.OPEN.value: "yellow",
}

LEFT_COLUMNS = ("comparison", "back end", "claim", "effect")
"""Columns of words; numbers are right-aligned."""

CAPTION = (
    "Times faster: the peer's time over that of the paper's network, so that above 1 it is "
    "faster. Published figures are of other devices."
)


def show(rows: pd.DataFrame, console: Console) -> None:
    """Print a table for each group of claims, what failed, and how many hold."""
    claims = rows[rows["group"] != FRONT]
    console.print(CAPTION, soft_wrap=True)
    for group, part in claims.groupby("group", sort=False):
        console.print(f"\n[bold]{escape(str(group))}[/]")
        console.print(_drawn(group_table(part)))
        for source in sources(part):
            console.print(f"  published: {escape(source)}", soft_wrap=True)
    for line in failures(rows):
        console.print(f"[bold red]failed:[/] {escape(line)}", soft_wrap=True)
    console.print()
    console.print(_drawn(totals_table(claims)))
    if loaded := loaded_rows(rows):
        console.print(f"loaded machine in {loaded} of {len(rows)} rows: ratios bear that")


def group_table(part: pd.DataFrame) -> Table:
    """The claims of one group, without those that failed."""
    header = ("comparison", "back end", "batch", "published", "here", "95 % interval", *VERDICTS)
    measured = part[part["error"].isna()].to_dict("records")
    lines = []
    for row in measured:
        published = row["published_times_faster"]
        precision = "" if row["precision"] == Precision.FP32.value else f" {row['precision']}"
        lines.append(
            (
                row["comparison"],
                row["backend"] + precision,
                str(row["batch"]),
                "" if pd.isna(published) else f"{published:.2f}",
                f"{row['times_faster']:.2f}",
                f"{row['low']:.2f} to {row['high']:.2f}",
                row["claim"],
                "" if pd.isna(row["effect"]) else row["effect"],
            )
        )
    return Table("", CAPTION, header, tuple(lines))


VERDICTS = ("claim", "effect")


def sources(part: pd.DataFrame) -> Iterator[str]:
    """What was published, and where, a line each."""
    known = part[["published_quantity", "published_source"]].drop_duplicates()
    for quantity, source in known.itertuples(index=False, name=None):
        yield f"{quantity} ({source})"


def failures(rows: pd.DataFrame) -> Iterator[str]:
    """What could not be measured, and why, a line each."""
    for row in rows[rows["error"].notna()].to_dict("records"):
        yield f"{row['comparison']}, {row['backend']}, batch {row['batch']}: {row['error']}"


def loaded_rows(rows: pd.DataFrame) -> int:
    """How many rows were measured while others kept the machine busy."""
    return int((rows["loaded"].astype(str) == str(True)).sum())


def totals_table(claims: pd.DataFrame) -> Table:
    """How many claims hold, by back end and batch."""
    header = ("back end", "batch", *(kind.value for kind in Verdict))
    lines = []
    for (backend, batch), part in claims.groupby(["backend", "batch"], sort=False):
        counts = [str(int((part["claim"] == kind.value).sum())) for kind in Verdict]
        lines.append((str(backend), str(batch), *counts))
    return Table("", CAPTION, header, tuple(lines))


def _drawn(table: Table) -> rich.table.Table:
    """Draw a table for the console, verdicts in colour."""
    drawn = rich.table.Table(box=None, header_style="bold", pad_edge=False)
    for place, title in enumerate(table.header):
        # The first column gives way where the console is narrow.
        drawn.add_column(
            title,
            justify="left" if title in LEFT_COLUMNS else "right",
            no_wrap=bool(place),
            overflow="fold",
        )
    for row in table.rows:
        cells = (escape(cell) for cell in row)
        drawn.add_row(*(f"[{STYLES[cell]}]{cell}[/]" if cell in STYLES else cell for cell in cells))
    return drawn
