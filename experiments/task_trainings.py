"""Train many variants on several tasks of the proxy, into a CSV that can be resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from effvit import ConfigError, ModelConfig, model_cost
from experiments.measure import append_row, finished_rows
from experiments.progress import progress_bar
from search.environment import environment
from search.proxy.tasks import TASKS
from search.proxy.transfer import TransferRecipe, TransferResult
from search.workers import (
    TrainingFailure,
    TrainingTask,
    WorkerPool,
    run_transfer_task,
    train_insistently,
)

Row = dict[str, Any]
KEY = ["label", "recipe", "seed"]
"""What tells rows apart."""


@dataclasses.dataclass(frozen=True)
class TaskTraining:
    """One row to measure: a labelled variant, a recipe, a seed, and what it is trained on."""

    label: str
    config: ModelConfig
    recipe: TransferRecipe
    seed: int
    tasks: tuple[str, ...] = TASKS

    @property
    def key(self) -> tuple[str, str, int]:
        """Its :data:`KEY`."""
        return self.label, self.recipe.name, self.seed


def measure_tasks(trainings: Sequence[TaskTraining], path: Path, workers: int) -> pd.DataFrame:
    """Train what the file does not hold, appending each row as it is finished.

    Args:
        trainings: Rows wanted.
        path: CSV file; made if it does not exist.
        workers: Processes.

    Returns:
        All rows of the file.

    Raises:
        ConfigError: The file holds rows of other settings.
    """
    done = _read(path, trainings)
    missing = [training for training in trainings if training.key not in done]
    tasks = [TrainingTask(t.config, t.recipe, t.seed, tasks=t.tasks) for t in missing]
    finished = len(trainings) - len(missing)
    with progress_bar() as progress, WorkerPool(workers, run_transfer_task) as pool:
        bar = progress.add_task("", total=len(trainings), completed=finished)
        for index, outcome in train_insistently(pool, tasks):
            append_row(path, record(missing[index], outcome))
            progress.update(bar, advance=1, description=missing[index].label)
    rows: pd.DataFrame = pd.read_csv(path)
    return rows


def _read(path: Path, trainings: Sequence[TaskTraining]) -> set[tuple[str, str, int]]:
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


def record(training: TaskTraining, outcome: TransferResult | TrainingFailure) -> Row:
    """Make the row of a training; a failure is recorded with its reason."""
    config, cost = training.config, model_cost(training.config)
    error, result = "", None
    if isinstance(outcome, TrainingFailure):
        error = outcome.reason
    else:
        result = outcome
    return {
        "label": training.label,
        "seed": training.seed,
        "variant_id": config.variant_id,
        "params": cost.params,
        "macs": cost.macs,
        "recipe": training.recipe.name,
        **_scores(result),
        "error": error,
        "config": config.to_json(),
        "recipe_settings": json.dumps(training.recipe.to_dict()),
        **environment(),
    }


def _scores(result: TransferResult | None) -> Row:
    """Scores of a training, empty where it failed."""
    cue = result.cue if result else None
    return {
        "accuracy": cue.accuracy if cue else None,
        "relation": cue.relation if cue else None,
        "recognition": cue.recognition if cue else None,
        "attempts": cue.attempts if cue else None,
        "routing": result.routing if result else None,
        "localisation": result.localisation if result else None,
        "texture": result.texture if result else None,
        "seconds": round(result.seconds, 2) if result else None,
    }
