"""``python -m effvit``: list the models, and say what one costs."""

from __future__ import annotations

import csv
import enum
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from effvit import as_config, create_model, list_models, model_cost
from effvit.config import ModelConfig, parse_resolution
from effvit.console import one_line_errors, readable
from effvit.cost import Cost

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

ResolutionOption = Annotated[
    str | None, typer.Option(help="Input size, like 224 or 512x2048 (default: the design's).")
]


class Layout(str, enum.Enum):
    """How a list is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command("list")
@one_line_errors
def list_command(
    resolution: ResolutionOption = None,
    layout: Annotated[
        Layout, typer.Option("--format", help="For reading, or for another program.")
    ] = Layout.TABLE,
) -> None:
    """List the published models with parameters and MACs."""
    models = [_describe(name, resolution) for name in list_models()]
    if layout is Layout.JSON:
        typer.echo(json.dumps(models, indent=2))
    elif layout is Layout.CSV:
        writer = csv.DictWriter(sys.stdout, list(models[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(models)
    else:
        Console().print(_model_table(models))


def _describe(name: str, resolution: str | None) -> dict[str, str | int]:
    config = as_config(name)
    height, width = parse_resolution(resolution) if resolution else config.image_size
    cost = model_cost(config, (height, width))
    return {
        "model": name,
        "family": config.family,
        "height": height,
        "width": width,
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
    }


def _model_table(models: list[dict[str, str | int]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in ("resolution", "params", "MACs", "activations"):
        table.add_column(name, justify="right", overflow="fold")
    for model in models:
        counts = (f"{model[name]:,}" for name in ("params", "macs", "activations"))
        table.add_row(str(model["model"]), f"{model['height']}x{model['width']}", *counts)
    return table


@app.command("cost")
@one_line_errors
def cost_command(
    model: Annotated[str, typer.Argument(help="A model's name, or a JSON file with one variant.")],
    resolution: ResolutionOption = None,
    depth: Annotated[int, typer.Option(min=1, help="Parts of module names to keep.")] = 2,
    compare: Annotated[bool, typer.Option(help="Run other counters beside.")] = False,
) -> None:
    """Say what a model costs: parameters, MACs, activations, peak memory; exact integers."""
    config = _read_model(model)
    size = parse_resolution(resolution) if resolution else config.image_size
    cost = model_cost(config, size)
    console = Console()
    console.print(
        f"[bold]{model}[/] at {size[0]}x{size[1]}, batch 1: {cost.params:,} parameters, "
        f"{cost.macs:,} MACs ({readable(cost.macs)}), {cost.activations:,} activations, "
        f"about {cost.peak_bytes() / 2**20:.1f} MiB peak activation memory in float32",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_module_table(cost, depth), _operator_table(cost), sep="\n")
    if compare:
        _print_comparison(console, config, cost, size)


def _read_model(model: str) -> ModelConfig:
    if not model.endswith(".json"):
        return as_config(model)
    return as_config(json.loads(Path(model).read_text(encoding="utf-8")))


def _sum_table(title: str, rows: dict[str, tuple[int, int, int]], total: Cost) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column(title)
    for name in ("params", "MACs", "share", "elements written"):
        table.add_column(name, justify="right")
    for name, (params, macs, elements) in rows.items():
        share = f"{100 * macs / total.macs:.1f} %"
        table.add_row(name, f"{params:,}", f"{macs:,}", share, f"{elements:,}")
    return table


def _module_table(cost: Cost, depth: int) -> Table:
    return _sum_table("module", cost.by_module(depth), cost)


def _operator_table(cost: Cost) -> Table:
    rows = {operator.value: sums for operator, sums in cost.by_operator().items()}
    return _sum_table("operator", rows, cost)


def _print_comparison(
    console: Console, config: ModelConfig, cost: Cost, size: tuple[int, int]
) -> None:
    # Loads torch, fvcore and ptflops: seconds that the plain table does not need.
    from effvit.counters import compare  # noqa: PLC0415

    table = Table(box=None, header_style="bold")
    table.add_column("counter, and why it differs")
    table.add_column("MACs", justify="right")
    table.add_row("closed form", f"{cost.macs:,}", style="bold")
    model = create_model(config)
    params = sum(parameter.numel() for parameter in model.parameters())
    for result in compare(model, cost, size, config.in_channels):
        table.add_row(result.counter, f"{result.counted:,}", style="bold")
        for term in result.terms:
            table.add_row(f"  {term.reason}", f"{term.macs:+,}")
        style = "green" if result.unexplained == 0 else "bold red"
        table.add_row("  unexplained", f"{result.unexplained:,}", style=style)
    console.print(table)
    agree = "equal" if params == cost.params else f"closed form says {cost.params:,}"
    console.print(f"parameters of the built network: {params:,} ({agree})", highlight=False)


if __name__ == "__main__":
    app()
