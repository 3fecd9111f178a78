"""``python -m search.latency MODEL ...``: latency of networks on this machine, with its noise."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from effvit import model_config
from effvit.backends import BACKENDS, Execution, Precision, obstacle
from effvit.config import parse_resolution
from effvit.console import one_line_errors, stderr
from search.environment import available_cores, checked_device, device_name
from search.latency import repeatability as repeats
from search.latency.models import read_models
from search.latency.options import (
    BackendsOption,
    ChannelsLastOption,
    DeviceOption,
    PrecisionOption,
    ReferenceOption,
    SecondsOption,
    ThreadsOption,
    read_batches,
    read_executions,
    wide_console,
)
from search.latency.predicting import build_table, list_tables, validate_table
from search.latency.protocol import LatencyProtocol
from search.latency.rows import Row, as_table, failures, measure_all, write_rows

NOTHING_MEASURED = 1
"""Exit code where every network failed on every back end."""


app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Latency on this machine: measured with its noise, or predicted.",
)


@app.command("measure")
@one_line_errors
def measure(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Names of published models, JSON files with a configuration, or a run's "
            "pareto.json (pareto.json:17 for its trial 17 only).",
        ),
    ],
    backend: BackendsOption = "eager",
    batch: Annotated[str, typer.Option(help="Images a call, separated by commas.")] = "1",
    precision: PrecisionOption = Precision.FP32,
    channels_last: ChannelsLastOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    resolution: Annotated[
        str | None, typer.Option(help="Like 224 or 512x2048.", show_default="each model's own")
    ] = None,
    seconds: SecondsOption = 2.0,
    reference: ReferenceOption = LatencyProtocol.reference,
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
) -> None:
    """Measure networks, each in turn with a reference network (default command)."""
    named = read_models(models)
    if resolution is not None:
        size = parse_resolution(resolution)
        named = [
            dataclasses.replace(model, config=model.config.replace(image_size=size))
            for model in named
        ]
    executions = read_executions(backend, precision, channels_last)
    batches = read_batches(batch)
    checked_device(device)
    model_config(reference)  # says at once if there is none
    torch.set_num_threads(threads or available_cores())
    protocol = LatencyProtocol(seconds=seconds, reference=reference)
    console = wide_console()
    console.print(
        f"{escape(device_name(device))}, threads: {torch.get_num_threads()}, "
        f"torch {torch.__version__}"
    )
    rows: list[Row] = []
    with Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task("", total=len(named) * len(executions) * len(batches))

        def after_row(row: Row) -> None:
            rows.append(row)
            progress.update(
                task, advance=1, description=escape(f"{row.model.name} {row.execution}")
            )
            if out is not None:
                write_rows(out, rows, protocol, device)

        measure_all(named, executions, batches, protocol, device, after_row)
    measured = [row for row in rows if row.latency is not None]
    if measured:
        console.print(as_table(measured, protocol))
    _print_notes(console, rows, protocol, out)
    if not measured:
        raise typer.Exit(NOTHING_MEASURED)


def _print_notes(
    console: Console, rows: list[Row], protocol: LatencyProtocol, out: Path | None
) -> None:
    for line in failures(rows):
        stderr().print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True)
    states = [row.latency.state for row in rows if row.latency is not None]
    others = [state.others for state in states if state is not None and state.loaded]
    if others:
        console.print(
            f"[yellow]loaded machine[/]: in {len(others)} of {len(states)} measurements others "
            f"kept up to {max(others):.1f} processors busy; ratios bear that, milliseconds do not"
        )
    console.print(f"ratio: time over that of {protocol.reference} on the same back end")
    if out is not None:
        console.print(f"wrote {escape(str(out))}")


@app.command("backends")
@one_line_errors
def list_backends(device: DeviceOption = "cpu") -> None:
    """List the back ends, and what keeps them from running here."""
    checked_device(device)
    console = wide_console()
    for name, backend in BACKENDS.items():
        reason = obstacle(Execution(name, backend.precisions[0]), device)
        here = "[green]available[/]" if reason is None else escape(reason)
        console.print(f"[bold]{name:<12}[/] {backend.summary}: {here}")


@app.command("repeatability")
@one_line_errors
def measure_repeatability(
    model: Annotated[str, typer.Argument(help="A published model's name, or a JSON file.")],
    backend: Annotated[str, typer.Option(help=f"One of {', '.join(BACKENDS)}.")] = "eager",
    precision: PrecisionOption = Precision.FP32,
    channels_last: ChannelsLastOption = False,
    batch: Annotated[int, typer.Option(min=1, help="Images a call.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: DeviceOption = "cpu",
    seconds: SecondsOption = 2.0,
    reference: ReferenceOption = LatencyProtocol.reference,
    processes: Annotated[int, typer.Option(min=2, help="Fresh processes.")] = 10,
    busy: Annotated[
        int, typer.Option(min=0, help="Processes that keep other cores busy meanwhile.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="CSV file to add to; what it holds is not measured again.")
    ] = None,
) -> None:
    """Measure the same in fresh processes: how far do they agree?"""
    execution = read_executions(backend, precision, channels_last)[0]
    setting = repeats.Setting(
        model=model,
        execution=execution,
        protocol=LatencyProtocol(batch=batch, seconds=seconds, reference=reference),
        threads=threads,
        device=checked_device(device),
    )
    setting.check()
    console = wide_console()
    console.print(
        f"{escape(model)} on {execution}, batch {batch}, threads: {threads}, "
        f"{processes} fresh processes, {busy} busy ones beside them"
    )
    found = repeats.finished(out, setting, busy) if out is not None else []
    with repeats.busy_processes(busy), Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task("fresh processes", total=processes, completed=len(found))
        for _ in range(processes - len(found)):
            found.append(repeats.in_fresh_process(setting))
            if out is not None:
                repeats.append(out, found[-1], setting, busy)
            progress.advance(task)
    console.print(repeats.as_table(found))
    if out is not None:
        console.print(f"wrote {escape(str(out))}")


@app.command("once", hidden=True)
@one_line_errors
def measure_once(setting: str) -> None:
    """Measure in this process, for the command ``repeatability``; prints JSON."""
    typer.echo(repeats.measure_here(repeats.Setting.from_json(setting)).to_json())


def with_default(arguments: Sequence[str]) -> list[str]:
    """Put ``measure`` in front where no command is named."""
    known = {command.name for command in app.registered_commands}
    named = not arguments or arguments[0] in known or arguments[0] == "--help"
    return list(arguments) if named else ["measure", *arguments]


app.command("build")(build_table)
app.command("validate")(validate_table)
app.command("tables")(list_tables)

if __name__ == "__main__":
    app(with_default(sys.argv[1:]))
