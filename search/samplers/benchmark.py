"""What samplers cost by themselves: ``python -m search.samplers.benchmark``."""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import typer
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table

from effvit import ModelConfig, model_cost
from effvit.console import one_line_errors
from search.front import hypervolume, non_dominated
from search.samplers import Setting, quiet_optuna, sampler_kind
from search.samplers.base import WholeSpaceSampler
from search.samplers.bulk import draw_pool, spread
from search.samplers.setting import unlimited
from search.settings import KNOWN
from search.storage import DIRECTIONS
from spaces import get_space, list_spaces
from spaces.space import Space

LAST = 100
"""Trials at the end whose cost is told apart."""

REPEATS = 5
BINS = 100
FRONT = 10_000
STORAGES: Mapping[str, Callable[[Path], BaseStorage]] = {
    "memory": lambda _: InMemoryStorage(),
    "journal": lambda folder: JournalStorage(JournalFileBackend(str(folder / "study.journal"))),
}


class Replay(WholeSpaceSampler):
    """Proposes what another sampler did, for nothing."""

    def __init__(self, params: list[dict[str, Any]], space: Space) -> None:
        super().__init__(space)
        self._params = params

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the trial of the same number."""
        del study, search_space
        return self._params[trial.number]


def values_of(config: ModelConfig) -> tuple[float, float, float]:
    """Accuracy, MACs and latency of a machine that does not exist."""
    macs = float(model_cost(config).macs)
    luck = zlib.crc32(config.variant_id.encode()) / 2**32
    return 1 - (macs / 1e8) ** -0.3 * (1 + 0.1 * luck), macs, macs / 1e8 * (1 + 0.2 * luck)


def seconds_of_trials(
    sampler: BaseSampler, storage: BaseStorage, space: Space, trials: int
) -> tuple[list[float], list[dict[str, Any]]]:
    """Ask and tell.

    Returns:
        CPU seconds of each trial, its evaluation left out, and its parameters.
    """
    study = optuna.create_study(storage=storage, sampler=sampler, directions=DIRECTIONS)
    seconds, params = [], []
    for _ in range(trials):
        start = time.process_time()
        trial = study.ask()
        config = space.suggest(trial)
        asked = time.process_time()
        values = values_of(config)
        told = time.process_time()
        study.tell(trial, values)
        seconds.append(time.process_time() - told + asked - start)
        params.append(trial.params)
    return seconds, params


def overheads(space: Space, sampler: str, trials: int, seed: int) -> list[tuple[str, float, float]]:
    """What a sampler adds to the cost of Optuna's storage.

    Returns:
        For each storage CPU milliseconds of a trial, of all and of the last ones, over those of the
        same trials without a sampler.
    """
    found = []
    for name, make in STORAGES.items():
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
            setting = Setting(space, unlimited, seed, KNOWN)
            chosen = sampler_kind(sampler).make(setting)
            with_it, params = seconds_of_trials(chosen, make(Path(folder)), space, trials)
            replay = Replay(params, space)
            bare, _ = seconds_of_trials(replay, make(Path(other)), space, trials)
        added = 1e3 * (np.array(with_it) - bare)
        found.append((name, float(added.mean()), float(added[-LAST:].mean())))
    return found


def bulk_rate(space: Space, count: int, seed: int) -> tuple[float, int]:
    """Draw and cost distinct candidates, and build some that cover the range of MACs.

    Returns:
        CPU seconds, and how many of :data:`BINS` bins of log MACs have a candidate.
    """
    rng = np.random.default_rng(seed)
    start = time.process_time()
    pool = draw_pool(space, rng, count)
    logs = np.log(pool.costs.macs)
    for place in spread(logs, BINS, rng):
        pool.config(int(place))
    seconds = time.process_time() - start
    return seconds, int((np.histogram(logs, BINS)[0] > 0).sum())


def front_milliseconds(points: int, dimension: int, seed: int) -> tuple[float, float]:
    """CPU milliseconds of the front and of the hypervolume of points that are all on the front.

    Medians of :data:`REPEATS`: a single call may have to clear away what came before it.
    """
    values = np.random.default_rng(seed).random((points, dimension))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        non_dominated(values)
        middle = time.process_time()
        hypervolume(values, [1.0] * dimension)
        times.append((middle - start, time.process_time() - middle))
    front, volume = np.median(times, axis=0)
    return 1e3 * float(front), 1e3 * float(volume)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@one_line_errors
def main(
    space: Annotated[str, typer.Option(help=f"One of: {', '.join(list_spaces())}.")] = "sepvit",
    trials: Annotated[int, typer.Option(min=1, help="Trials of each search.")] = 1000,
    sampler: Annotated[list[str] | None, typer.Option(help="Repeat for several.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Drawn in bulk.")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
) -> None:
    """Measure the CPU time of samplers, of bulk candidates and of fronts, on one thread."""
    quiet_optuna()
    console, searched = Console(highlight=False), get_space(space)
    table = Table("sampler", "storage", "ms a trial", f"ms a trial, last {LAST}", box=None)
    for name in sampler or ["evolution", "random"]:
        for storage, every, last in overheads(searched, name, trials, seed):
            table.add_row(name, storage, f"{every:.2f}", f"{last:.2f}")
    console.print(f"added to Optuna's storage, over {trials} trials of space {space}:")
    console.print(table)
    for dimension in (2, 3):
        front, volume = front_milliseconds(FRONT, dimension, seed)
        console.print(
            f"{FRONT:,} points on a front of {dimension} objectives: "
            f"front {front:.0f} ms, hypervolume {volume:.0f} ms"
        )
    seconds, covered = bulk_rate(searched, candidates, seed)
    console.print(
        f"{candidates:,} candidates drawn and costed: {seconds:.1f} s, "
        f"{covered} of {BINS} bins of MACs covered"
    )


if __name__ == "__main__":
    app()
