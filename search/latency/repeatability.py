"""How far measurements in fresh processes agree, beside those of one warm-up and one run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.table import Table
from scipy import stats

from effvit import ConfigError, ModelConfig, model_config
from effvit.backends import Execution, Precision
from search.environment import environment
from search.latency.meter import LatencyMeter, checked_runner, random_images
from search.latency.models import NamedModel, read_models
from search.latency.protocol import CONFIDENCE, LatencyProtocol
from search.latency.timing import Stopwatch
from search.records import write_csv

BUSY = "import numpy as n; a = n.random.rand(384, 384)\nwhile True: a @ a"
"""What a busy process does: arithmetic that goes through the caches, in one thread."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What every fresh process measures.

    Attributes:
        model: A name or a JSON file, see :func:`search.latency.models.read_models`.
        execution: How it is run.
        protocol: How it is measured.
        threads: CPU threads.
        device: A torch device.
    """

    model: str
    execution: Execution
    protocol: LatencyProtocol
    threads: int
    device: str

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Setting:
        """Read :meth:`to_json`."""
        values = json.loads(text)
        execution = values.pop("execution")
        execution["precision"] = Precision(execution["precision"])
        protocol = LatencyProtocol(**values.pop("protocol"))
        return cls(execution=Execution(**execution), protocol=protocol, **values)

    def check(self) -> NamedModel:
        """Return the network.

        Raises:
            ConfigError: There is no such network, or several.
        """
        models = read_models([self.model])
        if len(models) != 1:
            raise ConfigError(f"{self.model} must be one network, it holds {len(models)}")
        return models[0]


@dataclasses.dataclass(frozen=True)
class Repeat:
    """What one fresh process measured.

    Attributes:
        ratio: By the protocol, to the reference network.
        low, high: 95 % interval of that ratio.
        latency_ms: The network's time by the protocol.
        single_ratio: Of one run each, after one warm-up run each.
        single_ms: The network's time in that one run.
        others: Processors that other processes kept busy meanwhile.
        loaded: Whether the machine was flagged as loaded.
    """

    ratio: float
    low: float
    high: float
    latency_ms: float
    single_ratio: float
    single_ms: float
    others: float
    loaded: bool

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(dataclasses.asdict(self))


def measure_here(setting: Setting) -> Repeat:
    """Measure in this process: one warm-up and one run first, then by the protocol."""
    torch.set_num_threads(setting.threads)
    config = setting.check().config
    reference_ms, single_ms = _measure_single(setting, config)
    protocol, size = setting.protocol, config.image_size
    meter = LatencyMeter(protocol, size, setting.device, 1.0, setting.execution)
    latency = meter.measure(config)
    assert latency.state is not None
    return Repeat(
        ratio=latency.ratio,
        low=latency.low_ms,  # the reference's scale is 1
        high=latency.high_ms,
        latency_ms=latency.raw_ms,
        single_ratio=single_ms / reference_ms,
        single_ms=single_ms,
        others=latency.state.others,
        loaded=latency.state.loaded,
    )


def _measure_single(setting: Setting, config: ModelConfig) -> tuple[float, float]:
    """Wall milliseconds of reference and network: one run of each, after one warm-up run.

    How many tools measure, and under what the system makes of memory: see
    :func:`effvit.backends.keep_freed_memory`.
    """
    device = torch.device(setting.device)
    size = config.image_size
    images = random_images(setting.protocol.batch, config.in_channels, size, device)
    reference = model_config(setting.protocol.reference).replace(image_size=size)
    stopwatch = Stopwatch(device, threads=0)
    times = []
    for each in (reference, config):
        runner, _ = checked_runner(setting.execution, each, images)
        stopwatch.time(runner)
        times.append(stopwatch.time(runner))
    return times[0], times[1]


def in_fresh_process(setting: Setting) -> Repeat:
    """Measure in a new Python process.

    Raises:
        ConfigError: It failed; the message is its last line.
    """
    result = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "search.latency", "once", setting.to_json()],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        raise ConfigError(last.removeprefix("error: "))
    return Repeat(**json.loads(result.stdout.splitlines()[-1]))


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep so many processors busy while this is open."""
    libraries = ("OMP", "OPENBLAS", "MKL")
    variables = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in libraries}}
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", BUSY], env=variables)  # noqa: S603
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


QUANTITIES = {
    "ratio": "ratio, by the protocol",
    "latency_ms": "milliseconds, by the protocol",
    "single_ratio": "ratio, one warm-up and one run",
    "single_ms": "milliseconds, one warm-up and one run",
}


def variation(values: Sequence[float]) -> tuple[float, float, float]:
    """Coefficient of variation with its 95 % interval, from the chi-squared law of variances."""
    array = np.asarray(values)
    count = len(array)
    share = float(array.std(ddof=1) / array.mean())
    low, high = stats.chi2.ppf(((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2), count - 1)
    return (
        share,
        share * float(np.sqrt((count - 1) / low)),
        share * float(np.sqrt((count - 1) / high)),
    )


def as_table(repeats: Sequence[Repeat]) -> Table:
    """Draw how far the processes agree."""
    table = Table(box=None, header_style="bold")
    table.add_column("between processes")
    for title in ("mean", "smallest", "largest", "coefficient of variation", "95 % interval"):
        table.add_column(title, justify="right")
    for name, title in QUANTITIES.items():
        values = [getattr(repeat, name) for repeat in repeats]
        share, low, high = variation(values)
        table.add_row(
            title,
            *(f"{value:.3f}" for value in (np.mean(values), min(values), max(values))),
            f"{share:.1%}",
            f"{low:.1%} to {high:.1%}",
        )
    return table


def finished(path: Path, setting: Setting, busy: int) -> list[Repeat]:
    """Repeats that a file holds of this setting, on this machine, with these libraries."""
    wanted = {name: str(value) for name, value in _described(setting, busy).items()}
    numbers = [field.name for field in dataclasses.fields(Repeat) if field.name != "loaded"]
    return [
        Repeat(
            **{name: float(row[name]) for name in numbers},
            loaded=row["loaded"] == str(True),
        )
        for row in _rows(path)
        if all(row.get(name) == value for name, value in wanted.items())
    ]


def append(path: Path, repeat: Repeat, setting: Setting, busy: int) -> None:
    """Add a row to a CSV file, which may hold repeats of other settings too."""
    row = {**_described(setting, busy), **dataclasses.asdict(repeat), "date": _now(setting)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, [*_rows(path), row])


def _described(setting: Setting, busy: int) -> dict[str, Any]:
    """What must agree between repeats: setting and environment."""
    where = {**environment(setting.device), "threads": setting.threads}
    del where["date"]
    return {
        "model": setting.model,
        "execution": str(setting.execution),
        "batch": setting.protocol.batch,
        "reference": setting.protocol.reference,
        "seconds": setting.protocol.seconds,
        "busy": busy,
        **where,
    }


def _now(setting: Setting) -> str:
    return str(environment(setting.device)["date"])


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as they are written; none where there is no file."""
    if not path.exists():
        return []
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    return [{str(name): str(value) for name, value in row.items()} for row in rows]
