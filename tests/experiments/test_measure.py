"""Measuring into a CSV: resuming, failures, files of another making."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from effvit import model_cost
from effvit.config import ConfigError
from effvit.designs.sepvit import SepViTConfig
from experiments import measure
from experiments.measure import Task, describe, measure_all
from search.proxy import ProxyRecipe, ProxyResult
from search.workers import Outcome, Trained, TrainingFailure, TrainingTask

RECIPE = ProxyRecipe(name="brief", steps=3)
CONFIG = SepViTConfig(widths=(32, 64, 128, 256), heads=(1, 2, 4, 8))
TASKS = [Task("lite", CONFIG, RECIPE, seed) for seed in range(3)]


class FakePool:
    """Trains nothing: accuracy is 0.5 + seed / 10, seeds in ``failing`` fail."""

    trained: list[int] = []  # noqa: RUF012 - the tests read what all instances did
    failing: frozenset[int] = frozenset()

    def __init__(self, workers: int) -> None:
        assert workers >= 1

    def __enter__(self) -> FakePool:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        for index, task in enumerate(tasks):
            self.trained.append(task.seed)
            if task.seed in self.failing:
                yield index, TrainingFailure("loss is nan at step 1 of 3")
            else:
                yield index, Trained(_result(task.seed))


def _result(seed: int) -> ProxyResult:
    return ProxyResult(
        accuracy=0.5 + seed / 10,
        relation=0.9,
        recognition=0.4,
        relation_near=0.9,
        relation_far=0.9,
        relation_found=True,
        recipe="brief",
        steps=3,
        seed=seed,
        attempts=1,
        seconds=1.0,
    )


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> type[FakePool]:
    monkeypatch.setattr(measure, "TrainingPool", FakePool)
    monkeypatch.setattr(FakePool, "trained", [])
    return FakePool


def test_rows_describe_variant_result_and_environment(tmp_path: Path) -> None:
    rows = measure_all(TASKS, tmp_path / "rows.csv", 1)
    assert rows["accuracy"].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert rows["macs"].tolist() == [model_cost(CONFIG).macs] * 3
    assert SepViTConfig.from_dict(json.loads(rows["config"][0])) == CONFIG
    assert json.loads(rows["recipe_settings"][0])["steps"] == 3
    assert {"date", "cpu", "threads", "torch"} <= set(rows.columns)


def test_the_same_command_goes_on_where_it_stopped(tmp_path: Path, pool: type[FakePool]) -> None:
    path = tmp_path / "rows.csv"
    measure_all(TASKS[:2], path, 1)
    before = path.read_text()
    rows = measure_all(TASKS, path, 1)
    assert pool.trained == [0, 1, 2]
    assert path.read_text().startswith(before)
    assert len(rows) == 3


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_line_cut_off_by_a_crash_is_measured_again(
    tmp_path: Path, pool: type[FakePool], kept: int
) -> None:
    path = tmp_path / "rows.csv"
    measure_all(TASKS[:1], path, 1)
    whole = path.read_text()
    header = whole.index("\n") + 1
    path.write_text(whole + whole[header : header + kept])
    rows = measure_all(TASKS[:2], path, 1)
    assert pool.trained == [0, 1]
    assert len(rows) == len(pd.read_csv(path)) == 2


def test_a_failure_is_a_row_with_its_reason(
    tmp_path: Path, pool: type[FakePool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "failing", frozenset({1}))
    rows = measure_all(TASKS, tmp_path / "rows.csv", 1)
    assert rows["error"].fillna("").tolist() == ["", "loss is nan at step 1 of 3", ""]
    assert rows["accuracy"].isna().tolist() == [False, True, False]


def test_rows_of_another_recipe_of_that_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    measure_all(TASKS[:1], path, 1)
    longer = dataclasses.replace(TASKS[0], recipe=dataclasses.replace(RECIPE, steps=4))
    with pytest.raises(ConfigError, match="rows of recipe 'brief' with other settings"):
        measure_all([longer], path, 1)


def test_description_needs_no_training(pool: type[FakePool]) -> None:
    row = describe(TASKS[0])
    assert (row["label"], row["params"]) == ("lite", model_cost(CONFIG).params)
    assert row["proxy_macs"] < row["macs"]
    assert row["mixes_windows"]
    assert pool.trained == []
