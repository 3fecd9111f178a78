"""``python -m experiments.run``: list the experiments, or run one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from effvit.console import one_line_errors
from experiments.catalogue import EXPERIMENTS, Options, experiment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@one_line_errors
def main(
    name: Annotated[str | None, typer.Argument(help="Experiment; none lists them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, minutes.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results (default: experiment-NAME).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 1,
) -> None:
    """Run an experiment, or go on with it where it stopped; without a name, list them."""
    if name is None:
        Console().print(_listing())
        return
    chosen = experiment(name)
    folder = out or Path(f"experiment-{name}{'-quick' if quick else ''}")
    folder.mkdir(parents=True, exist_ok=True)
    chosen.run(Options(out=folder, quick=quick, seed=seed, workers=workers))


def _listing() -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("experiment", no_wrap=True)
    table.add_column("question")
    for name, entry in EXPERIMENTS.items():
        table.add_row(name, entry.question)
    return table


if __name__ == "__main__":
    app()
