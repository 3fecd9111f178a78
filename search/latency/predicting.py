"""Commands about predictions: ``python -m search.latency build``, ``validate`` and ``tables``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from effvit import ModelConfig
from effvit.backends import Precision
from effvit.config import parse_resolution
from effvit.console import one_line_errors, stderr
from search.environment import available_cores, checked_device, environment
from search.latency.building import (
    HELD_OUT_PROTOCOL,
    TABLE_PROTOCOL,
    held_out_variants,
    measure_into,
    table_variants,
)
from search.latency.meter import LatencyMeter
from search.latency.options import (
    BackendOption,
    ChannelsLastOption,
    DeviceOption,
    PrecisionOption,
    ReferenceOption,
    ThreadsOption,
    read_executions,
    wide_console,
)
from search.latency.predictor import MIN_SAMPLES, LatencyPredictor
from search.latency.protocol import LatencyProtocol
from search.latency.store import LatencyTable, Role, Sample, TableKey, cache_folder
from search.latency.validation import Estimate, Validation, validate
from search.latency.work import model_work
from search.records import write_csv
from spaces import get_space, list_spaces
from spaces.space import Space

UNFINISHED = 1
"""Exit code where time was over before enough was measured; the same command goes on."""

SHOWN_SHARES = 8
MANY = 1000
"""Variants that are predicted at once to time predictions."""

SpaceOption = Annotated[str, typer.Option(help=f"One of {', '.join(list_spaces())}.")]
ResolutionOption = Annotated[str, typer.Option(help="Images, such as 224 or 512x2048.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Images a call.")]
MinutesOption = Annotated[float, typer.Option(min=0.0, help="No network is begun after these.")]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A table, and how to measure for it."""

    space: Space
    key: TableKey
    device: str

    @property
    def protocol(self) -> LatencyProtocol:
        """Batch and reference network; how long to measure is for the role to say."""
        return LatencyProtocol(batch=self.key.batch, reference=self.key.reference)

    def meter(self, timing: LatencyProtocol) -> LatencyMeter:
        """Make the meter that measures with the times of ``timing``."""
        protocol = dataclasses.replace(timing, batch=self.key.batch, reference=self.key.reference)
        return LatencyMeter(
            protocol, self.key.resolution, self.device, 1.0, execution=self.key.execution
        )


def _read_setting(
    space: str,
    resolution: str,
    backend: str,
    precision: Precision,
    channels_last: bool,
    batch: int,
    threads: int | None,
    device: str,
    reference: str,
) -> Setting:
    size = parse_resolution(resolution)
    opened = get_space(space, size)
    execution = read_executions(backend, precision, channels_last)[0]
    checked_device(device)
    torch.set_num_threads(threads or available_cores())
    protocol = LatencyProtocol(batch=batch, reference=reference)
    key = TableKey.here(space, size, device, torch.get_num_threads(), protocol, execution)
    return Setting(opened, key, device)


@one_line_errors
def build_table(
    space: SpaceOption = "sepvit",
    resolution: ResolutionOption = "224",
    backend: BackendOption = "eager",
    precision: PrecisionOption = Precision.FP32,
    channels_last: ChannelsLastOption = False,
    batch: BatchOption = 1,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    reference: ReferenceOption = LatencyProtocol.reference,
    variants: Annotated[int, typer.Option(min=MIN_SAMPLES, help="Networks to measure.")] = 150,
    minutes: MinutesOption = 9.0,
) -> None:
    """Measure a table of networks that latency is predicted from; goes on where it stopped."""
    setting = _read_setting(
        space, resolution, backend, precision, channels_last, batch, threads, device, reference
    )
    console = wide_console()
    table = LatencyTable(setting.key)
    chosen = table_variants(setting.space, variants)
    done = _measure(console, table, setting, "table", chosen, TABLE_PROTOCOL, minutes)
    if done < min(MIN_SAMPLES, len(chosen)):
        console.print(
            f"{done} networks are in the table, {MIN_SAMPLES} are needed: the same command goes on"
        )
        raise typer.Exit(UNFINISHED)
    predictor = table.predictor()
    console.print(
        f"{done} of {len(chosen)} networks are in the table; on those left out in turn, the median "
        f"error is {predictor.error:.1%}"
    )
    work = model_work([sample.model_config for sample in table.of_role("table")])
    shares = list(predictor.shares(work).items())[:SHOWN_SHARES]
    console.print("time goes to: " + ", ".join(f"{name} {share:.0%}" for name, share in shares))
    console.print(f"wrote {escape(str(table.folder))}")


@one_line_errors
def validate_table(
    space: SpaceOption = "sepvit",
    resolution: ResolutionOption = "224",
    backend: BackendOption = "eager",
    precision: PrecisionOption = Precision.FP32,
    channels_last: ChannelsLastOption = False,
    batch: BatchOption = 1,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    reference: ReferenceOption = LatencyProtocol.reference,
    variants: Annotated[int, typer.Option(min=10, help="Held-out networks.")] = 100,
    minutes: MinutesOption = 20.0,
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
) -> None:
    """Compare predictions with measured networks that the table does not hold."""
    setting = _read_setting(
        space, resolution, backend, precision, channels_last, batch, threads, device, reference
    )
    console = wide_console()
    table = LatencyTable(setting.key)
    predictor = table.predictor()
    fitted = [sample.model_config for sample in table.of_role("table")]
    chosen = held_out_variants(setting.space, variants, fitted)
    done = _measure(console, table, setting, "held_out", chosen, HELD_OUT_PROTOCOL, minutes)
    if done < len(chosen):
        console.print(f"{done} of {len(chosen)} networks are measured: the same command goes on")
        raise typer.Exit(UNFINISHED)
    wanted = {config.variant_id for config in chosen}
    held_out = [s for s in table.of_role("held_out") if s.model_config.variant_id in wanted]
    result = validate(predictor, held_out)
    microseconds = _microseconds(setting.space, predictor)
    _print_validation(console, result, predictor.samples, microseconds)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "table_networks": predictor.samples,
            "table_seconds": round(sum(sample.seconds for sample in table.of_role("table")), 1),
            "microseconds": round(microseconds, 1),
        }
        write_csv(out, [row | about for row in _rows(setting, result, held_out)])
        console.print(f"wrote {escape(str(out))}")


def _microseconds(space: Space, predictor: LatencyPredictor) -> float:
    """Time that predicting one of many variants takes."""
    variants = space.sample_many(np.random.default_rng(0), MANY)
    start = time.process_time()
    predictor.predict(variants)
    return 1e6 * (time.process_time() - start) / len(variants)


@one_line_errors
def list_tables() -> None:
    """List the tables of the cache."""
    console = wide_console()
    root = cache_folder()
    keys = sorted(root.glob("*/key.json"))
    if not keys:
        console.print(f"no tables in {escape(str(root))}; python -m search.latency build makes one")
        return
    table = Table(box=None, header_style="bold")
    for title in ("space", "resolution", "device", "back end", "threads", "batch", "networks"):
        table.add_column(title)
    for path in keys:
        table.add_row(*_described(path))
    console.print(table)
    console.print(f"in {escape(str(root))}")


def _described(path: Path) -> list[str]:
    key = json.loads(path.read_text(encoding="utf-8"))
    samples = path.with_name("samples.jsonl")
    count = samples.read_bytes().count(b'"role": "table"') if samples.exists() else 0
    execution, (height, width) = key["execution"], key["resolution"]
    return [
        key["space"],
        f"{height}x{width}",
        key["device"],
        f"{execution['backend']} {execution['precision']}",
        str(key["threads"]),
        str(key["batch"]),
        str(count),
    ]


# --- measuring with progress --------------------------------------------------------------------


def _measure(
    console: Console,
    table: LatencyTable,
    setting: Setting,
    role: Role,
    variants: Sequence[ModelConfig],
    timing: LatencyProtocol,
    minutes: float,
) -> int:
    """Measure what the table lacks; return how many of the networks it holds."""
    known = {sample.model_config.variant_id for sample in table.of_role(role)}
    if all(config.variant_id in known for config in variants):
        return len(variants)
    height, width = setting.key.resolution
    console.print(
        f"measuring {setting.space.name} at {height}x{width} on {escape(setting.key.device)}, "
        f"{setting.key.execution}, batch {setting.key.batch}, threads: {setting.key.threads}"
    )
    with table.writing(), _progress(len(variants)) as show:
        return measure_into(table, role, variants, setting.meter(timing), 60 * minutes, show)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int, str], None]]:
    columns = (
        *Progress.get_default_columns()[:3],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=stderr(), transient=True) as progress:
        task = progress.add_task("networks", total=total, failed="")

        def show(done: int, failure: str) -> None:
            progress.update(task, completed=done)
            if failure:
                progress.console.print(f"left out {escape(failure)}", soft_wrap=True)

        yield show


# --- what validation says -----------------------------------------------------------------------


def _print_validation(
    console: Console, result: Validation, fitted: int, microseconds: float
) -> None:
    count, outside = len(result.measured), result.outside
    console.print(
        f"{count} held-out networks, {fitted} in the table, {outside:.0%} outside its range: "
        "these are measured, not predicted"
    )
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for title in ("inside the range", "95 % interval", "all", "95 % interval"):
        table.add_column(title, justify="right")
    for name, form, inside, everything in (
        ("median absolute error", ".1%", result.error, result.error_all),
        ("Kendall's tau", ".3f", result.tau, result.tau_all),
    ):
        table.add_row(name, *_cells(inside, form), *_cells(everything, form))
    console.print(table)
    console.print(
        f"{result.covered:.0%} of measurements lie in their 95 % prediction interval; their own "
        f"95 % intervals are +- {result.noise:.1%}; a prediction takes {microseconds:.0f} us, "
        f"{MANY} at a time"
    )


def _cells(estimate: Estimate, form: str) -> tuple[str, str]:
    return f"{estimate.value:{form}}", f"{estimate.low:{form}} to {estimate.high:{form}}"


def _rows(setting: Setting, result: Validation, held_out: Sequence[Sample]) -> list[dict[str, Any]]:
    """One row a held-out network, with setting and environment."""
    where = {**environment(setting.device), "threads": setting.key.threads}
    prediction = result.prediction
    return [
        {
            "space": setting.key.space,
            "execution": str(setting.key.execution),
            "batch": setting.key.batch,
            "variant_id": sample.model_config.variant_id,
            "predicted": float(prediction.ratio[row]),
            "predicted_low": float(prediction.low[row]),
            "predicted_high": float(prediction.high[row]),
            "inside": bool(prediction.inside[row]),
            "measured": sample.ratio,
            "measured_low": sample.low,
            "measured_high": sample.high,
            "loaded": sample.loaded,
            **where,
            "config": sample.model_config.to_json(),
        }
        for row, sample in enumerate(held_out)
    ]
