"""Do the papers' claims about latency hold on this machine?

Everything that is compared runs in turn, so each row is a ratio with its interval, and stands
beside the figure that the paper prints. Rows are appended one by one: a run that was stopped goes
on where it was. The processor's rows are measured with one thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from rich.console import Console
from rich.markup import escape

from effvit.backends import BACKENDS, Execution, Precision, obstacle
from effvit.config import ConfigError
from experiments.ablation.figures import encode
from experiments.ablation.subjects import Subject
from experiments.catalogue import Options
from experiments.latency_claims_figure import draw, panels
from experiments.latency_claims_meter import Pair, PairMeter
from experiments.latency_claims_table import FRONT, Comparison, comparisons
from experiments.latency_claims_text import show
from experiments.latency_claims_verdicts import effect, verdict
from experiments.measure import append_row, finished_rows
from experiments.progress import progress_bar
from search.environment import device_name, environment
from search.latency.protocol import LatencyProtocol
from search.latency.rows import FAILURES, version

RESULT, FIGURE = "latency_claims.csv", "latency_claims"
KEY = ("group", "comparison", "device", "backend", "precision", "batch")
"""What tells rows apart."""

THREADS = 1
PROTOCOL = LatencyProtocol(seconds=1.0, patience=60)
"""Seven pairs of the slowest networks take a minute; an interval needs them."""

QUICK = LatencyProtocol(seconds=0.1, patience=200, max_runs=7, max_warm_up=2)
CPU_FIRST = ("eager", "onnxruntime", "compile")
"""Back ends that are measured first, from the quickest to build to the slowest."""

SLOW_BATCH = 16
ONLY_EAGER = frozenset({SLOW_BATCH})
"""Batches that a processor measures in eager mode only: hours otherwise."""

DIGITS = 5
FILE_WIDTH = 120
"""Columns of tables that go into a file or a pipe."""

Row = dict[str, Any]


def run(options: Options) -> None:
    """Measure what is missing, then print and draw everything."""
    torch.set_num_threads(THREADS)
    path = options.out / RESULT
    rows = measure_all(tasks(options.quick), path, QUICK if options.quick else PROTOCOL)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    show(rows, console)
    written = [path, *write_figure(rows, options.out)]
    console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)


# --- what is measured ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Task:
    """One row to measure."""

    comparison: Comparison
    execution: Execution
    batch: int
    device: str

    @property
    def key(self) -> tuple[Any, ...]:
        """Its :data:`KEY`."""
        compared, execution = self.comparison, self.execution
        return (
            compared.group,
            compared.name,
            device_name(self.device),
            execution.backend,
            execution.precision.value,
            self.batch,
        )


def tasks(quick: bool) -> list[Task]:
    """All rows wanted: what a paper claims before the figure's, then small batches first."""
    found = [
        Task(comparison, execution, batch, device)
        for device, execution in executions(quick)
        for batch in (1, SLOW_BATCH)
        for comparison in comparisons()
        if batch in comparison.batches and (comparison.quick or not quick)
        if device != "cpu" or execution.backend == "eager" or batch not in ONLY_EAGER
    ]
    if quick:
        return [task for task in found if task.batch == 1]
    return sorted(found, key=lambda task: (task.comparison.group == FRONT, task.batch))


def executions(quick: bool) -> list[tuple[str, Execution]]:
    """Devices and ways to run networks that are present; eager mode only in the small version."""
    present: list[tuple[str, Execution]] = []
    precisions = {"cpu": (Precision.FP32,), "cuda": (Precision.FP32, Precision.BF16)}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for backend in dict.fromkeys((*CPU_FIRST, *BACKENDS)):
            ways = [Execution(backend, precision) for precision in precisions[device]]
            present += [(device, way) for way in ways if obstacle(way, device) is None]
    return present[:1] if quick else present


class Meter(Protocol):
    """What measures pairs."""

    def measure(self, ours: Subject, peer: Subject) -> Pair:
        """Measure ours in turn with its peer."""


MakeMeter = Callable[[LatencyProtocol, Execution, str], Meter]


def measure_all(
    wanted: Sequence[Task], path: Path, protocol: LatencyProtocol, make_meter: MakeMeter = PairMeter
) -> pd.DataFrame:
    """Measure what a file does not hold yet, appending each row as it is finished.

    What fails becomes a row that says why, and is not tried again.

    Args:
        wanted: Rows wanted, those of one back end and batch together.
        path: CSV file; made if it does not exist.
        protocol: How to measure; its batch is replaced.
        make_meter: What makes meters.

    Returns:
        The rows wanted, whatever else the file holds.

    Raises:
        ConfigError: The file holds rows that were measured for another time.
    """
    done = _done(path, protocol)
    missing = [task for task in wanted if task.key not in done]
    meters: dict[tuple[Execution, int, str], Meter] = {}
    with progress_bar() as progress:
        bar = progress.add_task("", total=len(wanted), completed=len(wanted) - len(missing))
        for task in missing:
            setting = (task.execution, task.batch, task.device)
            if setting not in meters:
                meters.clear()  # the runners of the last one are not needed again
                sized = dataclasses.replace(protocol, batch=task.batch)
                meters[setting] = make_meter(sized, task.execution, task.device)
            what = f"{task.execution}, batch {task.batch}: {task.comparison.name}"
            progress.update(bar, description=escape(what))
            append_row(path, record(task, meters[setting], protocol))
            progress.advance(bar)
    keys = pd.DataFrame([task.key for task in wanted], columns=list(KEY))
    rows: pd.DataFrame = keys.merge(pd.read_csv(path), on=list(KEY), validate="one_to_one")
    return rows


def _done(path: Path, protocol: LatencyProtocol) -> set[tuple[Any, ...]]:
    """Keys of the rows in a file."""
    rows = finished_rows(path)
    if rows.empty:
        return set()
    others = set(rows["seconds"]) - {protocol.seconds}
    if others:
        raise ConfigError(
            f"{path} holds rows that were measured for {others.pop():g} s, not for "
            f"{protocol.seconds:g} s; choose another --out"
        )
    return set(rows[list(KEY)].itertuples(index=False, name=None))


# --- a row --------------------------------------------------------------------------------------


def record(task: Task, meter: Meter, protocol: LatencyProtocol) -> Row:
    """Measure, and make the row; a failure is recorded with its reason."""
    compared = task.comparison
    found: Pair | None = None
    error = ""
    try:
        found = meter.measure(compared.ours.subject, compared.peer.subject)
    except FAILURES as failure:
        error = (str(failure).strip() or type(failure).__name__).splitlines()[0]
    return {
        **dict(zip(KEY, task.key, strict=True)),
        **_published(compared),
        **_measured(found, compared),
        "seconds": protocol.seconds,
        "error": error,
        "backend_version": version(task.execution, task.device),
        **{name: value for name, value in environment(task.device).items() if name not in KEY},
    }


def _published(compared: Comparison) -> Row:
    ours, peer, published = compared.ours, compared.peer, compared.published
    return {
        "published_times_faster": _rounded(published.times),
        "published_quantity": published.quantity,
        "published_source": published.source,
        **{
            f"{side}_{name}": value
            for side, known in (("ours", ours), ("peer", peer))
            for name, value in (
                ("resolution", "x".join(map(str, known.subject.image_size))),
                ("key", known.subject.key),
                ("family", known.family),
                ("published_top1", known.top1),
                ("top1_source", known.source),
            )
        },
    }


def _measured(found: Pair | None, compared: Comparison) -> Row:
    numbers = ("times", "low", "high", "ours_ms", "peer_ms", "difference")
    state = found.state if found is not None else None
    watched = ("loaded", "others", "wall_per_cpu", "load_average", "frequency_mhz")
    claimed = found if compared.group != FRONT else None
    published = compared.published.times
    relation = effect(claimed, published) if claimed else None
    return {
        "claim": verdict(claimed, published).value if claimed else "",
        "effect": relation.value if relation else "",
        **{_COLUMNS.get(n, n): _rounded(getattr(found, n, None)) for n in numbers},
        "runs": found.runs if found else None,
        "warm_up": found.warm_up if found else None,
        **{name: _rounded(getattr(state, name, None)) for name in watched},
    }


_COLUMNS = {"times": "times_faster"}


def _rounded(value: float | bool | None) -> float | bool | None:
    """Round to the digits that a measurement has."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_figure(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw latency against published accuracy; nothing where no network was measured."""
    found = panels(rows)
    if not found:
        return []
    figure = draw(found)
    paths = [folder / f"{FIGURE}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        path.write_bytes(encode(figure, path.suffix[1:]))
    return paths
