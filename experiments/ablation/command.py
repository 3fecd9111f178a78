"""Running an ablation from the command line: measure, summarise, write, print."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.ablation.definition import Ablation
from experiments.ablation.engine import Plan, measure
from experiments.ablation.figures import encode, figures
from experiments.ablation.layout import Table, sentences, tables
from experiments.ablation.page import render
from experiments.ablation.results import Result, summarise
from experiments.ablation.store import Store
from experiments.ablation.tables import ablation
from experiments.ablation.writers import effect_rows, latex, markdown, result_rows, training_rows
from experiments.catalogue import Options
from search.latency import LatencyProtocol
from search.proxy import FULL, SEARCH
from search.records import write_csv, write_text

QUICK_SEEDS, QUICK_STEPS, QUICK_CANVASES = 2, 4, 20
LATENCY_SECONDS, QUICK_LATENCY_SECONDS = 3.0, 0.5
"""Of a quick run: enough to see that everything works, not to tell rows apart."""


def run(options: Options, name: str) -> None:
    """Run an ablation, or go on with it.

    Args:
        options: Of the command line.
        name: Name of the ablation.

    Raises:
        ConfigError: No such ablation, or its published table does not fit it.
    """
    console = Console()
    chosen = ablation(name)
    plan = plan_of(chosen, options)
    measured = measure(chosen, plan, Store(options.cache), console)
    result = summarise(name, chosen, plan, measured)
    write(result, options.out)
    show(result, options.out, console)


def plan_of(chosen: Ablation, options: Options) -> Plan:
    """Settle how an ablation is measured; costs are exact in a quick run as well."""
    recipe, count, seconds = FULL, chosen.seeds, LATENCY_SECONDS
    if options.quick:
        recipe = dataclasses.replace(
            SEARCH, name="quick", steps=QUICK_STEPS, evaluation_canvases=QUICK_CANVASES
        )
        count, seconds = min(count, QUICK_SEEDS), QUICK_LATENCY_SECONDS
    count = options.seeds or count
    return Plan(
        recipe=recipe,
        protocol=LatencyProtocol(seconds=seconds, reference=chosen.reference),
        seeds=tuple(range(options.seed, options.seed + count)),
        workers=options.workers,
    )


def write(result: Result, folder: Path) -> None:
    """Write all files of a result.

    ``results.csv``, ``trials.csv``, ``effects.csv`` are numbers, ``table.md`` and ``table.tex`` the
    tables, ``figures/`` the figures as PNG and SVG, ``page.html`` everything in one file.
    """
    drawn = figures(result)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "results.csv", result_rows(result))
    for file, rows in (("trials.csv", training_rows(result)), ("effects.csv", effect_rows(result))):
        if rows:
            write_csv(folder / file, rows)
    write_text(folder / "table.md", markdown(result))
    write_text(folder / "table.tex", latex(result))
    (folder / "figures").mkdir(exist_ok=True)
    for file, figure in drawn.items():
        for kind in ("png", "svg"):
            (folder / "figures" / f"{file}.{kind}").write_bytes(encode(figure, kind))
    write_text(folder / "page.html", render(result, drawn))


def show(result: Result, folder: Path, console: Console) -> None:
    """Print the tables and what a reader must know."""
    for table in tables(result):
        console.print(_rich(table))
        console.print(table.caption, style="dim", markup=False, highlight=False, end="\n\n")
    for sentence in sentences(result):
        console.print(f"- {sentence}", markup=False, highlight=False)
    console.print(f"written: {folder / 'page.html'}", soft_wrap=True)


def _rich(table: Table) -> RichTable:
    shown = RichTable(
        title=table.title,
        title_justify="left",
        box=None,
        header_style="bold",
    )
    for place, name in enumerate(table.header):
        shown.add_column(escape(name), justify="right" if place else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown
