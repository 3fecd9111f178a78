"""``python -m experiments.run``: list the experiments, run one, or run all ablations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from effvit.config import ConfigError
from effvit.console import one_line_errors
from experiments.ablation.tables import ABLATIONS
from experiments.catalogue import CACHE, EXPERIMENTS, Options, experiment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@one_line_errors
def main(
    name: Annotated[str | None, typer.Argument(help="Experiment; none lists them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All ablations, one after another.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, minutes.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results; with --all, of folders (default: experiment-NAME)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many seeds (ablations; finalists of tradeoff_curves)."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 1,
    cache: Annotated[
        Path, typer.Option(help="Folder of measurements that ablations share.")
    ] = CACHE,
    space: Annotated[
        str | None,
        typer.Option(help="Space, for experiments that study one (proxy_audit, tradeoff_curves)."),
    ] = None,
) -> None:
    """Run an experiment, or go on with it where it stopped; without a name, list them."""
    if name is not None and every:
        raise ConfigError(f"give a name or --all, not both; got {name!r} and --all")
    if name is None and not every:
        Console().print(_listing())
        return
    chosen = {each: experiment(each) for each in ([name] if name else ABLATIONS)}
    for each, entry in chosen.items():
        folder = Path(f"experiment-{each}{'-quick' if quick else ''}")
        if out is not None:
            folder = out / each if every else out
        folder.mkdir(parents=True, exist_ok=True)
        entry.run(
            Options(
                out=folder,
                quick=quick,
                seed=seed,
                seeds=seeds,
                workers=workers,
                cache=cache,
                space=space,
            )
        )


def _listing() -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("experiment", no_wrap=True)
    table.add_column("question")
    for name, entry in EXPERIMENTS.items():
        table.add_row(name, entry.question)
    return table


if __name__ == "__main__":
    app()
