"""Train many variants on several tasks of the proxy, into a CSV that can be resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from effvit import ConfigError, ModelConfig, model_cost
from experiments.measure import append_row, finished_rows
from experiments.progress import progress_bar
from search.environment import environment
from search.proxy.routing import RoutingRecipe
from search.proxy.tasks import TASKS
from search.proxy.transfer import TransferRecipe, TransferResult
from search.supernet.supernet import Supernet
from search.supernet.trainer import InheritingTrainer
from search.workers import (
    Trained,
    TrainerOf,
    TrainingFailure,
    TrainingTask,
    WorkerPool,
    run_transfer_task,
    train_insistently,
)

Row = dict[str, Any]
KEY = ["label", "recipe", "seed"]
Key: TypeAlias = tuple[str, str, int]
"""What tells rows apart."""

OF_CUE = ("accuracy", "relation", "recognition", "attempts")
SCORES = (*OF_CUE, *TASKS[1:], "seconds")
"""What a training gives; empty where it failed."""


@dataclasses.dataclass(frozen=True)
class TaskTraining:
    """One row to measure: a labelled variant, a recipe, a seed, and what it is trained on.

    With a supernet's recipe nothing is trained: the variant inherits that one's weights.
    """

    label: str
    config: ModelConfig
    recipe: TransferRecipe | RoutingRecipe
    seed: int
    tasks: tuple[str, ...] = TASKS

    @property
    def key(self) -> Key:
        """Its :data:`KEY`."""
        return self.label, self.recipe.name, self.seed


def measure_tasks(
    trainings: Sequence[TaskTraining],
    path: Path,
    workers: int,
    obtain: Callable[[], Supernet] | None = None,
) -> pd.DataFrame:
    """Train what the file does not hold, appending each row as it is finished.

    Args:
        trainings: Rows wanted.
        path: CSV file; made if it does not exist.
        workers: Processes.
        obtain: Trains or loads the supernet, if rows of its recipe are among those wanted.

    Returns:
        All rows of the file.

    Raises:
        ConfigError: The file holds rows of other settings.
    """
    done = _read(path, trainings)
    trained = [each for each in trainings if isinstance(each.recipe, TransferRecipe)]
    with WorkerPool(workers, run_transfer_task) as pool:
        _measure(trained, done, path, pool)
    inheriting = [each for each in trainings if not isinstance(each.recipe, TransferRecipe)]
    if obtain and not {each.key for each in inheriting} <= done:
        _measure(inheriting, done, path, InheritingTrainer(obtain()))
    rows: pd.DataFrame = pd.read_csv(path)
    return rows


def _measure(
    trainings: Sequence[TaskTraining],
    done: Container[Key],
    path: Path,
    trainer: TrainerOf[TransferResult | Trained],
) -> None:
    missing = [training for training in trainings if training.key not in done]
    tasks = [TrainingTask(t.config, t.recipe, t.seed, tasks=t.tasks) for t in missing]
    finished = len(trainings) - len(missing)
    with progress_bar() as progress:
        bar = progress.add_task("", total=len(trainings), completed=finished)
        for index, outcome in train_insistently(trainer, tasks):
            append_row(path, record(missing[index], outcome))
            progress.update(bar, advance=1, description=missing[index].label)


def _read(path: Path, trainings: Sequence[TaskTraining]) -> set[Key]:
    """Keys of the rows in a file."""
    rows = finished_rows(path)
    if rows.empty:
        return set()
    settings = {each.recipe.name: json.dumps(each.recipe.to_dict()) for each in trainings}
    for name, written in zip(rows["recipe"], rows["recipe_settings"], strict=True):
        if settings.get(name) != written:
            raise ConfigError(f"{path} holds rows of other settings; choose another --out")
    return set(rows[KEY].itertuples(index=False, name=None))


def left_out(rows: pd.DataFrame) -> Iterator[str]:
    """A line for each training that failed: what it was of, and why."""
    failed = rows["error"].fillna("").astype(bool)
    for label, reason in zip(rows.loc[failed, "label"], rows.loc[failed, "error"], strict=True):
        yield f"left out: {label}: {reason}"


def record(training: TaskTraining, outcome: TransferResult | Trained | TrainingFailure) -> Row:
    """Make the row of a training; a failure is recorded with its reason."""
    config, cost = training.config, model_cost(training.config)
    reason = outcome.reason if isinstance(outcome, TrainingFailure) else ""
    return {
        "label": training.label,
        "seed": training.seed,
        "variant_id": config.variant_id,
        "params": cost.params,
        "macs": cost.macs,
        "recipe": training.recipe.name,
        **_scores(outcome),
        "error": reason,
        "config": config.to_json(),
        "recipe_settings": json.dumps(training.recipe.to_dict()),
        **environment(),
    }


def _scores(result: TransferResult | Trained | TrainingFailure) -> Row:
    """Scores of a training, empty where it failed."""
    if isinstance(result, TrainingFailure):
        return dict.fromkeys(SCORES)
    if isinstance(result, Trained):
        cue, further, seconds = result.validation, result.further, result.validation.seconds
    else:
        cue, further, seconds = result.cue, dataclasses.asdict(result), result.seconds
    found = {name: getattr(cue, name) for name in OF_CUE}
    found |= {task: further.get(task) for task in TASKS[1:]}
    return found | {"seconds": round(seconds, 2)}
