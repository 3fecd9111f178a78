"""Measuring an ablation: costs, latency while nothing else runs, then trainings in parallel."""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console

from effvit import ConfigError, ModelConfig
from effvit.config import Resolution
from experiments.ablation.definition import Ablation, Row
from experiments.ablation.store import LatencyRatio, Recipe, Store, Training
from experiments.ablation.subjects import Costs, Subject
from experiments.ablation.timing import SubjectMeter
from search.latency import LatencyProtocol
from search.progress import Progress
from search.proxy import ProxyRecipe
from search.proxy.routing import ROUTING, RoutingRecipe, RoutingResult
from search.proxy.scaling import proxy_config
from search.records import Scale
from search.workers import (
    RoutingPool,
    Trained,
    Trainer,
    TrainerOf,
    TrainingPool,
    TrainingTask,
    train_insistently,
)

NOT_ASKED = "not a measure of this table"
NO_NETWORK = "no whole network of this package"

_NO_FRONT = Scale(1.0, 2.0, 1.0, 2.0)  # progress is of steps; no trial of a front passes through it


@dataclasses.dataclass(frozen=True)
class Plan:
    """How an ablation is measured.

    Attributes:
        recipe: How the proxy trains.
        routing: How it trains on its second task.
        protocol: How latency is measured, and beside which reference network.
        seeds: Seeds that all rows share.
        workers: Processes that train side by side, one thread each.
    """

    recipe: ProxyRecipe
    protocol: LatencyProtocol
    seeds: tuple[int, ...]
    workers: int = 1
    routing: RoutingRecipe = ROUTING


@dataclasses.dataclass(frozen=True)
class MeasuredRow:
    """A row with all that was measured.

    Attributes:
        row: The row.
        costs: Exact costs; None where nothing can be built.
        latency: Ratio to the reference network.
        trainings: One for each seed, with the scores of all tasks; empty without a proxy accuracy.
        missing: Why a measure (``latency``, ``proxy``) is not there.
    """

    row: Row
    costs: Costs | None
    latency: LatencyRatio | None
    trainings: tuple[Training, ...]
    missing: Mapping[str, str]


class RatioMeter(Protocol):
    """What measures latency."""

    def measure(self, subject: Subject) -> LatencyRatio:
        """Measure a subject in turn with the reference network."""


@dataclasses.dataclass(frozen=True)
class Instruments:
    """What measures; tests put others in place.

    Attributes:
        pool: Makes what trains, for a number of workers.
        routing_pool: Makes what trains on the second task.
        meter: Makes what measures latency, for a protocol and an image size.
    """

    pool: Callable[[int], AbstractContextManager[Trainer]] = TrainingPool
    routing_pool: Callable[[int], AbstractContextManager[TrainerOf[RoutingResult]]] = RoutingPool
    meter: Callable[[LatencyProtocol, Resolution], RatioMeter] = SubjectMeter


def measure(
    ablation: Ablation,
    plan: Plan,
    store: Store,
    console: Console,
    instruments: Instruments | None = None,
) -> list[MeasuredRow]:
    """Measure all rows; what the store holds is not measured again.

    Args:
        ablation: What to measure.
        plan: How.
        store: Where measurements are kept, one by one as they are made.
        console: For progress.
        instruments: What measures.

    Returns:
        The rows in order. A measure that a row does not have is missing with its reason.
    """
    instruments = instruments or Instruments()
    rows = ablation.rows()
    missing: dict[str, dict[str, str]] = {row.label: _impossible(row, ablation) for row in rows}
    timed = [row for row in rows if "latency" not in missing[row.label]]
    ratios, untimed = _measure_latency(timed, plan.protocol, store, console, instruments)
    trained = [row for row in rows if "proxy" not in missing[row.label]]
    with_routing = "routing" in ablation.measures
    _train(trained, plan, plan.recipe, instruments.pool, store, console)
    if with_routing:
        _train(trained, plan, plan.routing, instruments.routing_pool, store, console)
    for row in timed:
        if row.subject.key in untimed:
            missing[row.label]["latency"] = untimed[row.subject.key]
    return [
        MeasuredRow(
            row=row,
            costs=row.subject.costs(),
            latency=ratios.get(row.subject.key),
            trainings=_trainings(row, plan, store, with_routing) if row in trained else (),
            missing=missing[row.label],
        )
        for row in rows
    ]


def _impossible(row: Row, ablation: Ablation) -> dict[str, str]:
    """Why a row has no latency or no proxy accuracy, as far as is known beforehand."""
    reasons = {name: NOT_ASKED for name in ("latency", "proxy") if name not in ablation.measures}
    if row.subject.absence:
        return dict.fromkeys(("latency", "proxy"), row.subject.absence)
    if "proxy" not in reasons:
        try:
            proxy_config(_config(row))
        except ConfigError as error:
            reasons["proxy"] = str(error)
    return reasons


def _config(row: Row) -> ModelConfig:
    """Return the configuration of a row that is trained.

    Raises:
        ConfigError: It is not about a whole network of this package.
    """
    if row.trained is None:
        raise ConfigError(f"{row.label} is {NO_NETWORK}")
    return row.trained


# --- latency ------------------------------------------------------------------------------------


def _measure_latency(
    rows: Sequence[Row],
    protocol: LatencyProtocol,
    store: Store,
    console: Console,
    instruments: Instruments,
) -> tuple[dict[str, LatencyRatio], dict[str, str]]:
    """Ratios by subject, and why others have none. Noisy measurements are repeated by a new run."""
    ratios: dict[str, LatencyRatio] = {}
    reasons: dict[str, str] = {}
    left: dict[Resolution, dict[str, Subject]] = defaultdict(dict)
    for row in rows:
        found = store.latency(row.subject.key, protocol)
        if found is not None and not found.noisy:
            ratios[row.subject.key] = found
        else:
            left[row.subject.image_size][row.subject.key] = row.subject
    with _progress(console, "latencies", len(ratios), sum(map(len, left.values()))) as progress:
        for size, subjects in left.items():
            meter = instruments.meter(protocol, size)
            for key, subject in subjects.items():
                try:
                    ratios[key] = meter.measure(subject)
                    store.add_latency(key, protocol, ratios[key])
                except (RuntimeError, MemoryError, ValueError) as error:
                    reasons[key] = " ".join(str(error).split())
                progress.step()
    return ratios, reasons


# --- accuracy -----------------------------------------------------------------------------------


def _train(
    rows: Sequence[Row],
    plan: Plan,
    recipe: Recipe,
    pool: Callable[[int], AbstractContextManager[TrainerOf[Trained | RoutingResult]]],
    store: Store,
    console: Console,
) -> None:
    """Train what the store lacks, seed by seed, so that an early stop leaves whole pairs."""
    configs = {_config(row).variant_id: _config(row) for row in rows}
    wanted = [
        TrainingTask(config, recipe, seed) for seed in plan.seeds for config in configs.values()
    ]
    known = [store.training(task.config, recipe, task.seed) for task in wanted]
    tasks = [task for task, found in zip(wanted, known, strict=True) if found is None]
    if not tasks:
        return
    title = f"trainings, {recipe.name}"
    _say_estimate(title, [found for found in known if found], len(tasks), plan.workers, console)
    with (
        _progress(console, title, len(wanted) - len(tasks), len(tasks)) as progress,
        pool(plan.workers) as trainer,
    ):
        for index, outcome in train_insistently(trainer, tasks):
            task = tasks[index]
            store.add_training(task.config, recipe, task.seed, outcome)
            progress.step()


def _say_estimate(
    title: str, known: Sequence[Training], left: int, workers: int, console: Console
) -> None:
    seconds = [training.seconds for training in known if training.seconds is not None]
    estimate = ""
    if seconds:
        estimate = f", about {statistics.fmean(seconds) * left / workers / 60:.1f} min"
    console.print(f"{title}: {len(known)} known, {left} to do{estimate}")


def _trainings(row: Row, plan: Plan, store: Store, with_routing: bool) -> tuple[Training, ...]:
    """A row's trainings by seed, those on the second task joined to those on the first."""
    config, found = _config(row), []
    for seed in plan.seeds:
        training = store.training(config, plan.recipe, seed)
        routing = store.training(config, plan.routing, seed) if with_routing else None
        if training is not None:
            found.append(training if routing is None else _joined(training, routing))
    return tuple(found)


def _joined(first: Training, second: Training) -> Training:
    """Both trainings of a seed as one; each may have failed by itself."""
    seconds = [each.seconds for each in (first, second) if each.seconds is not None]
    errors = [first.error, second.error and f"second task: {second.error}"]
    return dataclasses.replace(
        first,
        scores=first.scores | second.scores,
        seconds=sum(seconds) if seconds else None,
        error="; ".join(filter(None, errors)),
    )


def _progress(console: Console, title: str, done: int, left: int) -> Progress:
    return Progress(console, _NO_FRONT, done + left, title=title, done=done)
