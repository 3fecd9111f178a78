"""Measuring several networks on several back ends: rows for a table and a CSV file."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from effvit.backends import BACKENDS, BackendError, Execution, obstacle
from effvit.config import Resolution
from search.environment import environment
from search.latency.meter import LatencyMeter
from search.latency.models import NamedModel
from search.latency.protocol import Latency, LatencyProtocol
from search.records import write_csv

FAILURES = (BackendError, MemoryError, RuntimeError)
"""What ends the measurement of a network; the others go on."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One network on one back end at one batch size.

    Attributes:
        model: What was measured.
        resolution: Height and width of the images.
        execution: How it was run.
        batch: Images a call.
        reference_ms: Median of the reference network; None if it failed.
        latency: The measurement; None if it failed.
        error: Why it failed, in one line.
    """

    model: NamedModel
    resolution: Resolution
    execution: Execution
    batch: int
    reference_ms: float | None = None
    latency: Latency | None = None
    error: str = ""


MeterFactory = Callable[[LatencyProtocol, Resolution, str, Execution], LatencyMeter]


def make_meter(
    protocol: LatencyProtocol, resolution: Resolution, device: str, execution: Execution
) -> LatencyMeter:
    """Make the meter that measures for real."""
    return LatencyMeter(protocol, resolution, device, execution=execution)


def measure_all(
    models: Sequence[NamedModel],
    executions: Sequence[Execution],
    batches: Sequence[int],
    protocol: LatencyProtocol,
    device: str,
    after_row: Callable[[Row], None],
    meter: MeterFactory = make_meter,
) -> list[Row]:
    """Measure every network on every back end at every batch size.

    Networks of one resolution, back end and batch share a reference network. What fails becomes a
    row that says why.

    Args:
        models: The networks, each at its own resolution.
        executions: How to run them.
        batches: Images a call.
        protocol: How to measure; its batch is replaced.
        device: A torch device.
        after_row: Called with each row as soon as it is there.
        meter: What makes meters.

    Returns:
        All rows, in the order they were measured.
    """
    rows = []
    sizes = list(dict.fromkeys(model.config.image_size for model in models))
    for execution in executions:
        for batch in batches:
            for size in sizes:
                group = [model for model in models if model.config.image_size == size]
                sized = dataclasses.replace(protocol, batch=batch)
                for row in _measure_group(group, sized, size, device, execution, meter):
                    rows.append(row)
                    after_row(row)
    return rows


def _measure_group(
    models: Sequence[NamedModel],
    protocol: LatencyProtocol,
    resolution: Resolution,
    device: str,
    execution: Execution,
    make: MeterFactory,
) -> list[Row]:
    blank = [Row(model, resolution, execution, protocol.batch) for model in models]
    try:
        meter = make(protocol, resolution, device, execution)
    except FAILURES as error:
        return [dataclasses.replace(row, error=_first_line(error)) for row in blank]
    return [_measured(row, meter) for row in blank]


def _measured(row: Row, meter: LatencyMeter) -> Row:
    try:
        latency = meter.measure(row.model.config)
    except FAILURES as error:
        return dataclasses.replace(row, error=_first_line(error))
    return dataclasses.replace(row, latency=latency, reference_ms=meter.reference_ms)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


# --- what is shown and written ------------------------------------------------------------------


def values(row: Row, protocol: LatencyProtocol) -> dict[str, Any]:
    """Return a row's values for a CSV file; None where there is none."""
    latency, reference = row.latency, row.reference_ms
    height, width = row.resolution
    measured: dict[str, Any] = dict.fromkeys(
        ("latency_ms", "low_ms", "high_ms", "ratio", "ratio_low", "ratio_high", "images_per_second")
    )
    state: dict[str, Any] = dict.fromkeys(
        ("loaded", "others", "wall_per_cpu", "load_average", "frequency_mhz")
    )
    if latency is not None and reference is not None:
        measured = {
            "latency_ms": latency.median_ms,
            "low_ms": latency.low_ms,
            "high_ms": latency.high_ms,
            "ratio": latency.ratio,
            "ratio_low": latency.low_ms / reference,
            "ratio_high": latency.high_ms / reference,
            "images_per_second": 1e3 * row.batch / latency.median_ms,
        }
        if latency.state is not None:
            state = {name: getattr(latency.state, name) for name in state}
    return {
        "model": row.model.name,
        "variant_id": row.model.config.variant_id,
        "resolution": f"{height}x{width}",
        "backend": row.execution.backend,
        "precision": row.execution.precision.value,
        "channels_last": row.execution.channels_last,
        "batch": row.batch,
        **measured,
        "reference": protocol.reference,
        "reference_ms": reference,
        "runs": latency.runs if latency else None,
        "warm_up": latency.warm_up if latency else None,
        "noisy": latency.noisy if latency else None,
        "difference": latency.difference if latency else None,
        **state,
        "error": row.error,
    }


def write_rows(path: Path, rows: Sequence[Row], protocol: LatencyProtocol, device: str) -> None:
    """Write rows as CSV with the environment they were measured in."""
    where = environment(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(
        path,
        [
            {**values(row, protocol), "backend_version": version(row.execution, device), **where}
            for row in rows
        ],
    )


def version(execution: Execution, device: str) -> str:
    """Versions of what a back end adds to torch; empty where that is nothing, or not installed."""
    if obstacle(execution, device) is not None:
        return ""
    modules = BACKENDS[execution.backend].modules
    return ", ".join(f"{module} {importlib.metadata.version(module)}" for module in modules)


COLUMNS = ("batch", "ms", "ratio", "95 % interval", "images/s", "runs")


def as_table(rows: Sequence[Row], protocol: LatencyProtocol) -> Table:
    """Draw rows; what failed is listed by :func:`failures`."""
    table = Table(box=None, header_style="bold")
    table.add_column("model")
    table.add_column("back end")
    for title in COLUMNS:
        table.add_column(title, justify="right")
    table.add_column("")
    for row in rows:
        if row.latency is None:
            continue
        v = values(row, protocol)
        table.add_row(
            row.model.name,
            str(row.execution),
            str(row.batch),
            f"{v['latency_ms']:.2f}",
            f"{v['ratio']:.3f}",
            f"{v['ratio_low']:.3f} to {v['ratio_high']:.3f}",
            f"{v['images_per_second']:.1f}",
            str(row.latency.runs),
            _flags(row.latency),
        )
    return table


def _flags(latency: Latency) -> Text:
    loaded = latency.state is not None and latency.state.loaded
    words = [word for word, holds in (("noisy", latency.noisy), ("loaded", loaded)) if holds]
    return Text(" ".join(words), style="yellow")


def failures(rows: Sequence[Row]) -> list[str]:
    """One line for each thing that failed; the same reason of several networks once."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        if row.error:
            names = lines.setdefault(f"{row.execution}: {row.error}", [])
            if row.model.name not in names:
                names.append(row.model.name)
    return [f"{reason} ({', '.join(names)})" for reason, names in lines.items()]
