"""Do the workbench's samplers find good fronts with fewer evaluations than general ones?

Problems whose fronts are known are searched by the workbench's samplers and by others, each with
several seeds. Compared is the hypervolume of what was found, as a share of the front's, after so
many evaluations. A proposal that breaks a rule of the space or repeats a network costs an
evaluation like any other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState
from rich.console import Console

from experiments.catalogue import Options
from experiments.measure import append_row, finished_rows
from experiments.progress import progress_bar
from experiments.sampler_benchmark_findings import BUDGETS, show, summarise, write_figure
from experiments.sampler_benchmark_page import PAGE, RAW, page
from experiments.sampler_benchmark_problems import PROBLEMS, Problem, problem
from experiments.sampler_benchmark_rivals import RIVALS
from search.environment import environment
from search.records import write_text
from search.samplers import Setting, quiet_optuna
from search.samplers.bulk import Known
from spaces import InvalidVariant

SUMMARY = "sampler_benchmark_summary.csv"
KEY = ("problem", "sampler", "seed")
CURVE = (25, *BUDGETS, 75, 125, 150, 175, 250, 300, 350, 400, 600, 700, 800, 900)
"""Evaluations after which the hypervolume is taken."""

SEEDS, QUICK_SEEDS, QUICK_EVALUATIONS = 10, 2, 50
QUICK_PROBLEMS = ("spheres",)
LAST = 50
"""Evaluations at the end over which the late cost of a proposal is averaged."""

DIGITS = 5
COMPLETE = 1e-9
"""Of the front's hypervolume: a search that lacks no more than this has found all of the front."""

FILE_WIDTH = 130
"""Columns of tables that go into a file or a pipe."""

Row = dict[str, Any]


def run(options: Options) -> None:
    """Search what is missing, then print and draw everything."""
    path = options.out / RAW
    wanted = tasks(options)
    search_all(wanted, path, options.workers)
    keys = pd.DataFrame([task.key for task in wanted], columns=list(KEY))
    rows = keys.merge(pd.read_csv(path), on=list(KEY), validate="one_to_one")
    summary = summarise(rows)
    summary.to_csv(options.out / SUMMARY, index=False, float_format=f"%.{DIGITS}g")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    show(summary, console)
    write_text(options.out / PAGE, page(rows))
    written = [path, options.out / SUMMARY, options.out / PAGE]
    written += write_figure(summary, options.out)
    console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)


@dataclasses.dataclass(frozen=True)
class Task:
    """One search.

    Attributes:
        problem, sampler, seed: What tells searches apart.
        curve: Evaluations after which the hypervolume is taken, ascending; the last one ends it.
    """

    problem: str
    sampler: str
    seed: int
    curve: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """Its :data:`KEY`."""
        return self.problem, self.sampler, self.seed


def tasks(options: Options) -> list[Task]:
    """All searches wanted: seed by seed, and at last what has fewer seeds for its cost.

    A run that is cut off has fewer seeds of everything.
    """
    count = options.seeds or (QUICK_SEEDS if options.quick else SEEDS)
    end = QUICK_EVALUATIONS if options.quick else max(CURVE)
    available = [name for name, kind in PROBLEMS.items() if kind.available]
    wanted = [
        Task(name, sampler, seed, tuple(n for n in sorted(CURVE) if n <= min(end, rival.limit)))
        for seed in range(options.seed, options.seed + count)
        for name in (QUICK_PROBLEMS if options.quick else available)
        for sampler, rival in RIVALS.items()
        if seed - options.seed < rival.seeds
    ]
    return sorted(wanted, key=lambda task: RIVALS[task.sampler].seeds < count)


# --- searches -----------------------------------------------------------------------------------


def search_all(wanted: Sequence[Task], path: Path, workers: int) -> None:
    """Do the searches that a file does not hold, appending a row as each is finished."""
    rows = finished_rows(path)
    done = set() if rows.empty else set(rows[list(KEY)].itertuples(index=False, name=None))
    missing = [task for task in wanted if task.key not in done]
    with progress_bar() as progress:
        bar = progress.add_task("", total=len(wanted), completed=len(wanted) - len(missing))
        for row in _rows(missing, workers):
            append_row(path, row)
            progress.update(bar, advance=1, description=f"{row['problem']}: {row['sampler']}")


def _rows(wanted: Sequence[Task], workers: int) -> Iterator[Row]:
    if workers == 1:
        yield from map(search, wanted)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(search, task) for task in wanted]):
            yield future.result()


@functools.cache
def _problem(name: str) -> Problem:
    """Make a problem once: all of a slice's networks take seconds."""
    return problem(name)


def search(task: Task) -> Row:
    """Do one search; make its row.

    It ends early once it has found all of the front: the share is 1 from there on.
    """
    quiet_optuna()
    searched = _problem(task.problem)
    setting = Setting(searched.space, searched.has_values, task.seed, searched.objectives)
    study = optuna.create_study(
        directions=["minimize"] * searched.losses.shape[1],
        sampler=RIVALS[task.sampler].make(setting),
    )
    found: list[int | None] = []
    seconds: list[float] = []
    reached: Row = dict.fromkeys(f"hv_{count}" for count in sorted(CURVE))
    for count in range(1, task.curve[-1] + 1):
        start = time.process_time()
        number = _evaluate(study, searched)
        seconds.append(time.process_time() - start)
        found.append(number)
        if count in task.curve:
            valid = {number for number in found if number is not None}
            share = searched.reached(sorted(valid))
            reached[f"hv_{count}"] = _rounded(share)
            if share > 1 - COMPLETE:
                reached |= {f"hv_{n}": 1.0 for n in task.curve if n > count}
                break
    invalid = found.count(None)
    return {
        **dict(zip(KEY, task.key, strict=True)),
        **reached,
        "evaluations": len(found),
        "repeated": _rounded((len(found) - invalid - len({*found} - {None})) / len(found)),
        "invalid": _rounded(invalid / len(found)),
        "cpu_ms": _rounded(1e3 * sum(seconds) / len(seconds)),
        "last_cpu_ms": _rounded(1e3 * sum(seconds[-LAST:]) / len(seconds[-LAST:])),
        **environment(),
    }


def _evaluate(study: optuna.Study, searched: Problem) -> int | None:
    """Ask, look up, tell; return the network's number, None where there is no valid one."""
    trial = study.ask()
    with contextlib.suppress(InvalidVariant):
        config = searched.space.suggest(trial)
        if searched.has_values(Known([config]))[0]:
            number = searched.numbers[config]
            study.tell(trial, searched.losses[number].tolist())
            return number
    study.tell(trial, state=TrialState.FAIL)
    return None


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
