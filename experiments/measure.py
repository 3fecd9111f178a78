"""Measure many variants with the proxy, in several processes, into a CSV that can be resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from effvit import ModelConfig, model_cost
from effvit.config import ConfigError
from experiments.progress import progress_bar
from search.environment import environment
from search.proxy import ProxyRecipe
from search.proxy.scaling import cells_meet, proxy_config
from search.workers import (
    Outcome,
    TrainingFailure,
    TrainingPool,
    TrainingTask,
    train_insistently,
)

Row = dict[str, Any]
KEY = ("variant_id", "recipe", "seed")
"""What tells rows apart."""

READINGS = ("accuracy", "relation", "recognition", "relation_near", "relation_far")
"""Shares of right decisions, see :class:`search.proxy.ProxyResult`."""

SCORES = (*READINGS, "relation_found", "attempts", "seconds")
"""What a training gives; empty where it failed."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One row to measure: a labelled variant, a recipe, a seed."""

    label: str
    config: ModelConfig
    recipe: ProxyRecipe
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Its :data:`KEY`."""
        return self.config.variant_id, self.recipe.name, self.seed


def describe(task: Task) -> Row:
    """Everything about a row that needs no training."""
    scaled = proxy_config(task.config)
    cost, small = model_cost(task.config), model_cost(scaled)
    return {
        "variant_id": task.config.variant_id,
        "label": task.label,
        "recipe": task.recipe.name,
        "seed": task.seed,
        "mixes_windows": cells_meet(scaled),
        "params": cost.params,
        "macs": cost.macs,
        "proxy_params": small.params,
        "proxy_macs": small.macs,
    }


def record(task: Task, outcome: Outcome) -> Row:
    """Make the row of a training; a failure is recorded with its reason."""
    scores: Row = dict.fromkeys(SCORES)
    error = ""
    if isinstance(outcome, TrainingFailure):
        error = outcome.reason
    else:
        result = outcome.validation.to_dict()
        scores = {name: result[name] for name in SCORES}
    settings = {
        "config": task.config.to_json(),
        "recipe_settings": json.dumps(task.recipe.to_dict()),
    }
    return {**describe(task), **scores, "error": error, **settings, **environment()}


def measure_all(tasks: Sequence[Task], path: Path, workers: int) -> pd.DataFrame:
    """Measure what the file does not hold yet, appending each row as it is finished.

    Args:
        tasks: Rows wanted.
        path: CSV file; made if it does not exist.
        workers: Processes.

    Returns:
        The rows wanted, whatever else the file holds.

    Raises:
        ConfigError: The file holds rows of a recipe of the same name but other settings.
    """
    done = _read(path, tasks)
    missing = [task for task in tasks if task.key not in done]
    with progress_bar() as progress, TrainingPool(workers) as pool:
        bar = progress.add_task("", total=len(tasks), completed=len(tasks) - len(missing))
        trainings = [TrainingTask(task.config, task.recipe, task.seed) for task in missing]
        for index, outcome in train_insistently(pool, trainings):
            append_row(path, record(missing[index], outcome))
            progress.update(bar, advance=1, description=missing[index].label)
    wanted = pd.DataFrame([task.key for task in tasks], columns=list(KEY))
    rows: pd.DataFrame = wanted.merge(pd.read_csv(path), on=list(KEY), validate="one_to_one")
    return rows


def _read(path: Path, tasks: Sequence[Task]) -> set[tuple[str, str, int]]:
    """Keys of the rows in a file."""
    rows = finished_rows(path)
    if rows.empty:
        return set()
    settings = {task.recipe.name: json.dumps(task.recipe.to_dict()) for task in tasks}
    for name, written in zip(rows["recipe"], rows["recipe_settings"], strict=True):
        if settings.get(name, written) != written:
            raise ConfigError(
                f"{path} holds rows of recipe {name!r} with other settings; choose another --out"
            )
    return set(zip(rows["variant_id"], rows["recipe"], rows["seed"], strict=True))


def finished_rows(path: Path) -> pd.DataFrame:
    """Read the rows of a CSV file, after cutting off a last line that was not finished."""
    if path.exists():
        text = path.read_text()
        if not text.endswith("\n"):
            path.write_text(text[: text.rfind("\n") + 1])
    begun = path.exists() and path.stat().st_size > 0
    rows: pd.DataFrame = pd.read_csv(path) if begun else pd.DataFrame()
    return rows


def append_row(path: Path, row: Row) -> None:
    """Add a row to a CSV file, which is begun with the names of the columns."""
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def machines(rows: pd.DataFrame) -> str:
    """Each processor that rows were measured on, with its version of torch and the last date."""
    last = rows.groupby(["cpu", "torch"], sort=False, as_index=False)["date"].max()
    found = zip(last["cpu"], last["torch"], last["date"], strict=True)
    return "; ".join(f"{cpu}, torch {torch}, {date[:10]}" for cpu, torch, date in found)
