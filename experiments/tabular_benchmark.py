"""A table of real measurements of all networks of a slice, which others can replay in seconds.

    python -m experiments.tabular_benchmark latency --out DIR --minutes 6
    python -m experiments.tabular_benchmark accuracy --out DIR
    python -m experiments.tabular_benchmark write --out DIR

Both measurements go on where they stopped; ``python -m experiments.run tabular_benchmark`` does all
three. Latency is a ratio to SepViT-Lite, which runs in turn. Accuracy is that of the embedded proxy
with the weights that a supernet of the slice shares: for ranking networks, not a trained accuracy.
:func:`read_table` reads the result.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console

from effvit import ConfigError, ModelConfig
from effvit.console import one_line_errors
from experiments.catalogue import DATA, Options
from experiments.measure import append_row, finished_rows
from experiments.progress import progress_bar
from search.environment import environment
from search.latency import LatencyMeter, LatencyProtocol
from search.supernet.supernet import Supernet
from spaces.axes import Value
from spaces.sepvit import SepViTSpace
from spaces.space import Space

RESOLUTION = 224
VALUES: Mapping[str, tuple[Value, ...]] = {
    "width_1": (32,),
    "width_2": (64, 96),
    "width_3": (128, 160, 192, 256),
    "width_4": (256, 384),
    "depth_1": (1,),
    "depth_2": (1, 2),
    "depth_3": (2, 3, 4, 6),
    "depth_4": (1, 2),
    "window_size": (7,),
    "group_count": (2,),
    "attention_1": ("dssa",),
    "attention_2": ("dssa",),
    "attention_3": ("dssa", "alternate"),
    "attention_4": ("dssa",),
    "window_representation": ("learned", "none"),
    "mlp_ratio": (2, 4),
    "head_width": (32,),
}
"""The slice: SepViTs around SepViT-Lite, 2048 networks."""

PROTOCOL = LatencyProtocol(seconds=0.2, warm_window=1, max_warm_up=4)
"""The search's protocol, shorter: seven runs are counted, the least that have an interval."""

TABLE, ABOUT = "tabular_sepvit.csv", "tabular_sepvit_about.csv"
LATENCY, ACCURACY, SUPERNET = "latency.csv", "accuracy.csv", "supernet"
NUMBER = "number"
DIGITS = 5
QUICK = 8
"""Networks of the quick version."""

Row: TypeAlias = dict[str, float]
Evaluator: TypeAlias = Callable[[ModelConfig], Row]
"""Measures a network; a row's columns."""


def table_space() -> Space:
    """The slice that the table is about."""
    return SepViTSpace(RESOLUTION, VALUES)


def run(options: Options) -> None:
    """Measure what is missing, then write the table."""
    limit = QUICK if options.quick else None
    measure(table_space(), options.out / LATENCY, latency_evaluator(options.out), limit=limit)
    evaluate = accuracy_evaluator(options.out, options.seed)
    measure(table_space(), options.out / ACCURACY, evaluate, limit=limit)
    write(options.out)


# --- measuring ----------------------------------------------------------------------------------


def latency_evaluator(folder: Path) -> Evaluator:
    """What measures a network's latency on one thread, as a ratio to the reference network."""
    torch.set_num_threads(1)
    meter = LatencyMeter(PROTOCOL, (RESOLUTION, RESOLUTION), reference_ms=_reference_ms(folder))
    _about(folder, latency=PROTOCOL.describe(), reference_ms=f"{meter.reference_ms:.{DIGITS}g}")

    def evaluate(config: ModelConfig) -> Row:
        found = meter.measure(config)
        scale = meter.reference_ms
        return {
            "latency_ratio": found.ratio,
            "latency_ratio_low": found.low_ms / scale,
            "latency_ratio_high": found.high_ms / scale,
            "latency_noisy": float(found.noisy),
        }

    return evaluate


def accuracy_evaluator(folder: Path, seed: int) -> Evaluator:
    """What measures a network's proxy accuracy with weights of the slice's supernet."""
    supernet = Supernet.obtain(table_space(), folder / SUPERNET, seed=seed)
    _about(folder, accuracy="the proxy's, with weights of a supernet of the slice")

    def evaluate(config: ModelConfig) -> Row:
        found = supernet.score(config)
        return {"accuracy": found.scores.accuracy, "cross_entropy": found.cross_entropy}

    return evaluate


def measure(
    space: Space,
    path: Path,
    evaluate: Evaluator,
    *,
    limit: int | None = None,
    minutes: float | None = None,
) -> bool:
    """Measure the networks that a file does not hold, appending a row for each.

    They come in a random order that is always the same, so that a part is a fair sample.

    Args:
        space: The slice.
        path: CSV file; made if it does not exist.
        evaluate: Measures a network.
        limit: How many networks to measure; all of them if not given.
        minutes: After so long it is enough for now.

    Returns:
        Whether nothing is missing.
    """
    started = time.monotonic()
    rows = finished_rows(path)
    done = set() if rows.empty else set(rows[NUMBER])
    order = np.random.default_rng(0).permutation(space.size())[:limit]
    missing = [int(number) for number in order if number not in done]
    with progress_bar() as progress:
        bar = progress.add_task(path.stem, total=len(order), completed=len(order) - len(missing))
        for number in missing:
            if minutes is not None and time.monotonic() - started > 60 * minutes:
                return False
            found = evaluate(space.unrank(number))
            row = {name: float(f"{value:.{DIGITS}g}") for name, value in found.items()}
            append_row(path, {NUMBER: number, **row})
            progress.advance(bar)
    return True


def _reference_ms(folder: Path) -> float | None:
    """The reference network's time of the first part; parts then share a scale."""
    known = _read_about(folder / ABOUT).get("reference_ms")
    return float(known) if known else None


def _read_about(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    rows = pd.read_csv(path, dtype=str)
    return dict(zip(rows["name"], rows["value"], strict=True))


def _about(folder: Path, **entries: str) -> None:
    """Write down how the table came about, beside what is known already."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: str(value) for name, value in environment().items()}
    found |= {**_read_about(folder / ABOUT), **entries}
    rows = pd.DataFrame({"name": list(found), "value": list(found.values())})
    rows.to_csv(folder / ABOUT, index=False, lineterminator="\n")


# --- the table ----------------------------------------------------------------------------------


def write(folder: Path) -> Path:
    """Join both measurements into the table; networks that lack one are left out.

    Returns:
        The table's path, in the same folder.

    Raises:
        ConfigError: A measurement has not begun.
    """
    space = table_space()
    parts = []
    for name in (LATENCY, ACCURACY):
        rows = finished_rows(folder / name)
        if rows.empty:
            raise ConfigError(f"{folder / name} holds no rows yet; measure first")
        parts.append(rows.drop_duplicates(NUMBER).set_index(NUMBER))
    joined = parts[0].join(parts[1], how="inner").sort_index()
    choices = [next(space.encodings(space.unrank(int(number)))) for number in joined.index]
    axes = [axis.name for axis in space.axes if len(axis.values) > 1]
    described = pd.DataFrame(choices, index=joined.index)[axes]
    path = folder / TABLE
    described.join(joined).to_csv(path, lineterminator="\n")
    return path


@dataclasses.dataclass(frozen=True)
class Tabulated:
    """The table, as search problems read it.

    Attributes:
        space: The slice.
        configs: (n,) networks that were measured.
        latency_ratio: (n,) latency, SepViT-Lite's is 1.
        accuracy: (n,) the proxy's accuracy.
        cross_entropy: (n,) its loss, finer than the accuracy.
    """

    space: Space
    configs: Sequence[ModelConfig]
    latency_ratio: np.ndarray[tuple[int], np.dtype[np.float64]]
    accuracy: np.ndarray[tuple[int], np.dtype[np.float64]]
    cross_entropy: np.ndarray[tuple[int], np.dtype[np.float64]]


def read_table(path: Path = DATA / TABLE) -> Tabulated:
    """Read a table.

    Raises:
        ConfigError: It is about other networks.
    """
    rows, space = pd.read_csv(path), table_space()
    numbers = rows[NUMBER].tolist()
    configs = [space.unrank(number) for number in numbers]
    for axis in space.axes:
        if len(axis.values) > 1:
            written = rows[axis.name].tolist()
            expected = [next(space.encodings(config))[axis.name] for config in configs]
            if written != expected:
                raise ConfigError(f"{path} is about another slice: its {axis.name} differs")
    columns = ("latency_ratio", "accuracy", "cross_entropy")
    return Tabulated(space, configs, *(rows[name].to_numpy(np.float64) for name in columns))


# --- the command --------------------------------------------------------------------------------

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Out = Annotated[Path, typer.Option(help="Folder of the measurements.")]
Minutes = Annotated[float | None, typer.Option(help="Stop after so long; all if not given.")]


@app.command()
@one_line_errors
def latency(out: Out, minutes: Minutes = None) -> None:
    """Measure latencies that are missing."""
    _say(measure(table_space(), out / LATENCY, latency_evaluator(out), minutes=minutes))


@app.command()
@one_line_errors
def accuracy(out: Out, minutes: Minutes = None, seed: int = 0) -> None:
    """Measure proxy accuracies that are missing."""
    evaluate = accuracy_evaluator(out, seed)
    _say(measure(table_space(), out / ACCURACY, evaluate, minutes=minutes))


@app.command("write")
@one_line_errors
def write_command(out: Out) -> None:
    """Join what was measured into the table."""
    Console().print(f"written: {write(out)}", soft_wrap=True)


def _say(complete: bool) -> None:
    Console().print("complete" if complete else "not complete; the same command goes on")


if __name__ == "__main__":
    app()
