"""How fast are our networks beside other formulations of the same weights, mode by mode?

SepViT stands beside the authors' formulation, MobileViTv2 and EfficientViT beside timm's networks
(:mod:`effvit.benchmark_baselines`). Both run in turn in all modes, so that every figure is a ratio
of times of the same rounds. Rows are appended one by one: a run that was stopped goes on where it
was. One thread.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from rich.console import Console

from effvit import model_config, model_cost
from effvit.backends import Execution, obstacle
from effvit.benchmark import Ratio, Timing, benchmark
from effvit.benchmark_baselines import build_pair
from experiments.ablation.layout import Table
from experiments.ablation.writers import markdown_table
from experiments.catalogue import Options
from experiments.measure import append_row, finished_rows
from search.environment import environment
from search.latency.meter import random_images
from search.latency.state import Watch

RESULT = "fast_networks.csv"
THREADS = 1
CPU = torch.device("cpu")

MODES = ("eager", "compile", "onnxruntime")
BATCHES: Mapping[int, tuple[str, ...]] = {1: MODES, 16: ("eager", "onnxruntime")}
"""Batch sizes, and the modes that they are measured in."""

ROUNDS: Mapping[int, int] = {1: 20, 16: 5}
"""Timed runs of everything, by batch size."""

SIDE, PRODUCTS = 1536, 12
"""Matrices, and how often they are multiplied, to see what a core can do at most."""

QUICK_ROUNDS = 4

Row = dict[str, Any]


class Case(NamedTuple):
    """What is compared in the same rounds."""

    model: str
    baseline: str
    batch: int


class Goal(NamedTuple):
    """What is wanted of a mode.

    Attributes:
        over: ``over_eager`` or ``over_same``: the baseline's mode that is compared with, see
            :class:`effvit.benchmark.Timing`.
        times: How many times as fast as that ours has to be.
    """

    over: str
    times: float


MODELS: Mapping[str, str] = {
    "sepvit_lite": "plain",
    "sepvit_tiny": "plain",
    "mobilevitv2_100": "timm",
    "efficientvit_b1": "timm",
}
"""Models, and what each is compared with."""

CASES = tuple(Case(model, MODELS[model], batch) for batch in BATCHES for model in MODELS)

GOALS: Mapping[str, Mapping[str, Goal]] = {
    "plain": {
        "eager": Goal("over_same", 1.0),
        "compile": Goal("over_eager", 1.4),
        "onnxruntime": Goal("over_eager", 2.0),
    },
    "timm": {mode: Goal("over_same", 1.0) for mode in MODES},
}
"""By baseline and mode."""

REACHED, MISSED = "reached", "missed"
HEADER = (
    "network",
    "batch",
    "mode",
    "ms",
    "against",
    "goal",
    "here",
    "quartiles",
    "at most",
    "verdict",
    "loaded",
)


def run(options: Options) -> None:
    """Measure what is missing, then print all."""
    torch.set_num_threads(THREADS)
    path = options.out / RESULT
    cases = CASES[:1] if options.quick else CASES
    rows = measure_all(cases, path, options.quick)
    console = Console(highlight=False, soft_wrap=True)
    console.print(markdown_table(table(rows)), markup=False)
    console.print(f"written: {path}")


def measure_all(cases: Sequence[Case], path: Path, quick: bool = False) -> pd.DataFrame:
    """Measure the cases that a file does not hold yet, in the modes that are present.

    Args:
        cases: What is wanted.
        path: CSV file; made if it does not exist.
        quick: Few rounds.

    Returns:
        All rows of the file.
    """
    present = {mode for mode in MODES if obstacle(Execution(mode)) is None}
    done = _done(path)
    for case in cases:
        wanted = [mode for mode in BATCHES[case.batch] if mode in present]
        missing = [mode for mode in wanted if (*case, mode) not in done]
        if missing:
            rounds = QUICK_ROUNDS if quick else ROUNDS[case.batch]
            for row in measure(case, missing, rounds):
                if (*case, row["mode"]) not in done:  # the eager mode always runs along
                    append_row(path, row)
    return finished_rows(path)


def _done(path: Path) -> set[tuple[Any, ...]]:
    """Cases and modes of the rows in a file."""
    rows = finished_rows(path)
    if rows.empty:
        return set()
    return set(rows[[*Case._fields, "mode"]].itertuples(index=False, name=None))


def measure(case: Case, modes: Sequence[str], rounds: int) -> Iterator[Row]:
    """Measure one case; a row for each mode.

    Raises:
        BackendError: A back end cannot build one of the networks.
    """
    config = model_config(case.model)
    images = random_images(case.batch, config.in_channels, config.image_size, CPU)
    torch.manual_seed(0)
    rate = matmul_rate()
    models = build_pair(case.baseline, case.model)
    watch = Watch(torch.get_num_threads())
    timings = benchmark(models, images, modes, rounds)
    loaded = watch.state().loaded
    macs = model_cost(config).macs * case.batch
    for ours, theirs in zip(*timings, strict=True):
        yield {
            **case._asdict(),
            "mode": ours.mode,
            "ours_ms": ours.milliseconds,
            "baseline_ms": theirs.milliseconds,
            **_ratio_columns("over_same", ours.over_same),
            **_ratio_columns("over_eager", ours.over_eager),
            "difference": _difference(ours, theirs),
            "arithmetic_ms": 1e3 * macs / rate,
            "rounds": rounds,
            "loaded": loaded,
            **environment("cpu"),
        }


def matmul_rate() -> float:
    """Multiply-accumulates a second of a large float32 matrix product, the best of some."""
    matrix = torch.rand(SIDE, SIDE)
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return float(SIDE**3 / min(seconds))


def _ratio_columns(name: str, ratio: Ratio) -> Row:
    return {name: ratio.median, f"{name}_low": ratio.low, f"{name}_high": ratio.high}


def _difference(ours: Timing, theirs: Timing) -> float:
    return max(ours.difference, theirs.difference)


# --- what it says -------------------------------------------------------------------------------


def table(rows: pd.DataFrame) -> Table:
    """All rows with their goals."""
    lines = tuple(_line(row) for row in rows.to_dict("records"))
    title = "Our networks beside other formulations of the same weights"
    return Table(title, caption(rows), HEADER, lines)


def caption(rows: pd.DataFrame) -> str:
    """What the figures are."""
    return (
        "Here: the baseline's time over ours, median over rounds in which everything ran in turn, "
        "and quartiles. `plain` is SepViT as the released code computes it, `timm` timm's network "
        "of the same name. Against the baseline's eager mode or its same mode, as the goal says. "
        "At most: with all multiply-accumulates at the rate of a large matrix product, and nothing "
        "else to do. Loaded: others kept the machine busy; ratios bear that, milliseconds do not. "
        f"Logits differ by at most {rows['difference'].max():.0e} of the largest."
    )


def _line(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    goal = GOALS[row["baseline"]][row["mode"]]
    low, times, high = (row[f"{goal.over}{part}"] for part in ("_low", "", "_high"))
    against = "eager" if goal.over == "over_eager" else row["mode"]
    return (
        f"`{row['model']}`",
        str(row["batch"]),
        row["mode"],
        f"{row['ours_ms']:.1f}",
        f"{row['baseline']}, {against}",
        f"{goal.times:.1f} x",
        f"{times:.2f} x",
        f"{low:.2f} to {high:.2f}",
        f"{_against_ms(row, goal) / row['arithmetic_ms']:.2f} x",
        REACHED if times >= goal.times else MISSED,
        "loaded" if row["loaded"] else "",
    )


def _against_ms(row: Mapping[Hashable, Any], goal: Goal) -> float:
    """Time of what a row is compared with, from the ratio of the same rounds."""
    return float(row["ours_ms"] * row[goal.over])
