"""Which parameter and MAC figures of the papers' tables does the closed form reproduce, which not?

Every figure is compared in its printed digits. Rounding that is not plain rounding is a relation of
its own (``cut off``, ``rounded up``, ``whole number``), never a tolerance; a figure that is not
reproduced carries what is known about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from experiments.catalogue import DATA, Options
from experiments.published_rows import (
    MEANING,
    REPRODUCED,
    ROUNDING,
    UNITS,
    Figure,
    Relation,
    Row,
    read_rows,
)

RESULT = "published_tables.csv"
PARAMS, MACS = "parameters", "MACs"
YES, IN_ROUNDING, NO, ABSENT = "yes", "rounding", "no", "not built"
STYLES = {YES: "green", IN_ROUNDING: "yellow", NO: "bold red", ABSENT: "dim"}


def run(options: Options) -> None:
    """Count, compare, write, print."""
    found = compare()
    path = options.out / RESULT
    found.to_csv(path, index=False)
    console = Console(highlight=False)
    show(found, console)
    console.print(f"written: {path}", soft_wrap=True)


def read(path: Path = DATA / RESULT) -> pd.DataFrame:
    """Read a written comparison, all text; by default the one that travels with the package."""
    table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table


# --- comparing ----------------------------------------------------------------------------------


def compare() -> pd.DataFrame:
    """Compare every printed figure with its count: one line a figure, all text."""
    found: pd.DataFrame = pd.DataFrame([line for row in read_rows() for line in _lines(row)])
    return found


def _lines(row: Row) -> Iterator[dict[str, str]]:
    counts = dict(zip((PARAMS, MACS), row.count(), strict=True)) if row.model else {}
    for figure, printed, note in (
        (PARAMS, row.params, row.params_note),
        (MACS, row.macs, row.macs_note),
    ):
        if not printed:
            continue
        relation, counted, rounded = Relation.NOT_BUILT, "", ""
        if figure in counts:
            parsed = Figure.parse(printed)
            relation = parsed.relation(counts[figure])
            counted, rounded = str(counts[figure]), written(parsed, counts[figure])
        yield {
            "paper": row.paper,
            "table": row.table,
            "row": row.row,
            "figure": figure,
            "model": row.model,
            "overrides": row.overrides,
            "resolution": row.resolution,
            "part": row.part,
            "head": row.head,
            "counter": row.counter if figure == MACS else "",
            "printed": printed,
            "counted": counted,
            "in_printed_digits": rounded,
            "relation": relation.value,
            "reproduced": verdict(relation),
            "top1": row.top1,
            "note": " ".join(text for text in (note, row.note) if text),
        }


def written(figure: Figure, count: int) -> str:
    """A count as the figure would be printed."""
    suffix = next(suffix for suffix, unit in UNITS.items() if unit == figure.unit)
    return f"{figure.rounded(count)}{suffix}"


def verdict(relation: Relation) -> str:
    """Whether a figure is reproduced to the printed digit."""
    if relation in REPRODUCED:
        return YES
    if relation in ROUNDING:
        return IN_ROUNDING
    return ABSENT if relation is Relation.NOT_BUILT else NO


# --- printing -----------------------------------------------------------------------------------


def show(found: pd.DataFrame, console: Console) -> None:
    """Print all tables of the papers, what is not reproduced with its reason, and the totals."""
    for (paper, table), lines in found.groupby(["paper", "table"], sort=False):
        if str(table).startswith("counted"):  # in full by the authors' code: only how many agree
            good = int((lines["reproduced"] == YES).sum())
            console.print(f"\n[bold]{paper}[/], {table}: {good} of {len(lines)} figures reproduced")
            continue
        sizes = sorted(set(lines["resolution"]))
        shared = place(sizes[0]) if len(sizes) == 1 else ""
        console.print(f"\n[bold]{paper}[/]\n{table}{shared}")
        console.print(_table(lines, sized=len(sizes) > 1))
    _show_reasons(found, console)
    _show_totals(found, console)


def place(resolution: str) -> str:
    """Say at which size, if it is given."""
    return f", at {resolution}" if resolution else ""


def _table(lines: pd.DataFrame, sized: bool) -> Table:
    """One table of a paper: a line for each of its rows, with the size or without."""
    counters = bool((lines["counter"] != "").any())
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("row", overflow="fold")
    for name, present in (("size", sized), ("params", True), ("counted", True), ("MACs", True)):
        if present:
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("counted", justify="right", no_wrap=True)
    if counters:
        table.add_column("as", overflow="fold")
    table.add_column("reproduced", no_wrap=True)
    for (row, resolution), figures in lines.groupby(["row", "resolution"], sort=False):
        cells = [str(row)] + [str(resolution)] * sized
        for figure in (PARAMS, MACS):
            chosen = figures[figures["figure"] == figure]
            cells += [" ".join(chosen[name]) for name in ("printed", "in_printed_digits")]
        cells += ["".join(figures["counter"])] * counters
        verdicts = set(figures["reproduced"])
        worst = next(name for name in (ABSENT, NO, IN_ROUNDING, YES) if name in verdicts)
        table.add_row(*cells, f"[{STYLES[worst]}]{worst}[/]")
    return table


def _show_reasons(found: pd.DataFrame, console: Console) -> None:
    console.print("\n[bold]Not reproduced to the printed digit[/]")
    for name in (NO, IN_ROUNDING):
        chosen = found[found["reproduced"] == name]
        for line in chosen.to_dict("records"):
            console.print(
                f"[{STYLES[name]}]{line['relation']}[/]: {line['paper']}, {line['table']}, "
                f"{line['row']}{place(line['resolution'])}: {line['figure']} printed "
                f"{line['printed']}, counted "
                f"{int(line['counted']):,}. {line['note']}",
                soft_wrap=True,
            )


def _show_totals(found: pd.DataFrame, console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("relation", no_wrap=True)
    table.add_column("figures", justify="right")
    table.add_column("meaning: the printed figure is")
    for relation in Relation:
        count = int((found["relation"] == relation.value).sum())
        if count:
            table.add_row(relation.value, str(count), MEANING[relation])
    console.print()
    console.print(table)
