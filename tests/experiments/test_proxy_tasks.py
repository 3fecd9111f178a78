"""What the tasks see: which rows are trained, how they are compared, and what the page says."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from effvit import ConfigError, ModelConfig
from experiments import task_trainings
from experiments.catalogue import Options
from experiments.proxy_tasks import BASE, QUICK, measure_all, networks, quick_recipe, run
from experiments.proxy_tasks_page import BASE as BASE_LABEL
from experiments.proxy_tasks_page import (
    CHANGES,
    RAW,
    TASKS,
    differences,
    draw,
    page,
    sentences,
)
from experiments.task_trainings import TaskTraining, record
from search.proxy.evaluation import ProxyResult
from search.proxy.scaling import proxy_config
from search.proxy.transfer import TRANSFER, TransferResult
from search.workers import TrainingFailure, TrainingTask, run_transfer_task

SEEDS = range(5)
NOISE = (0.0, 0.002, -0.002, 0.001, -0.001)
"""By seed: the spread of paired differences."""


def result(accuracy: float, texture: float = 0.5, seed: int = 0) -> TransferResult:
    cue = ProxyResult(
        accuracy=accuracy, relation=1.0, recognition=0.7, relation_near=1.0, relation_far=1.0,
        relation_found=True, recipe="search", steps=120, seed=seed, attempts=1, seconds=1.0,
    )  # fmt: skip
    return TransferResult(
        cue=cue, routing=0.6, localisation=0.4, texture=texture, recipe="transfer", seconds=9.0
    )


class FakePool:
    """Trains nothing: what the label's network has as a score, or a failure."""

    trained: list[TrainingTask]

    def __init__(self, *_: object) -> None:
        type(self).trained = []

    def __enter__(self) -> FakePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def train(
        self, tasks: Sequence[TrainingTask]
    ) -> Iterator[tuple[int, TransferResult | TrainingFailure]]:
        for index, task in enumerate(tasks):
            self.trained.append(task)
            failed = task.config == networks()["average pooling"] and task.seed == 1
            yield index, TrainingFailure("loss is nan") if failed else result(0.6, seed=task.seed)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakePool]:
    monkeypatch.setattr(task_trainings, "WorkerPool", FakePool)
    return FakePool


def made_up(scores: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Rows of five seeds; ``scores`` are means by label and task, what is not there is 0.5."""
    rows = []
    for label, seed in itertools.product(networks(), SEEDS):
        config = networks()[label]
        training = TaskTraining(label, config, TRANSFER, seed)
        row = record(training, result(0.5, seed=seed))
        spread = NOISE[seed] if label != BASE_LABEL else 0.0
        rows.append(row | {task: scores.get(label, {}).get(task, 0.5) + spread for task in TASKS})
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def test_every_change_is_one_thing_that_the_proxy_keeps() -> None:
    fields = [field.name for field in dataclasses.fields(BASE)]
    known = networks()
    assert known[BASE_LABEL] == BASE
    for change in CHANGES:
        before, after = known[change.before], known[change.after]
        changed = {name for name in fields if getattr(before, name) != getattr(after, name)}
        assert changed == {"widths", "heads"} or len(changed) == 1, change.name
        assert proxy_config(before) != proxy_config(after)


def test_every_change_is_between_networks_that_are_trained() -> None:
    known = networks()
    compared = {label for change in CHANGES for label in (change.before, change.after)}
    assert compared == set(known)
    assert set(QUICK) <= set(known)


def test_what_is_finished_is_not_trained_again(tmp_path: Path, fake: type[FakePool]) -> None:
    options = Options(out=tmp_path, seeds=2)
    first = measure_all(options)
    assert len(first) == len(fake.trained) == 2 * len(networks())
    again = measure_all(dataclasses.replace(options, seeds=3))
    assert {task.seed for task in fake.trained} == {2}
    assert len(again) == 3 * len(networks())


def test_rows_of_other_settings_are_not_mixed_in(tmp_path: Path, fake: type[FakePool]) -> None:
    measure_all(Options(out=tmp_path, quick=True))
    fake.trained.clear()
    with pytest.raises(ConfigError, match=r"rows of other settings; choose another --out"):
        measure_all(Options(out=tmp_path))
    assert not fake.trained


def test_a_failure_is_a_row_with_its_reason_and_the_page_leaves_it_out(
    tmp_path: Path, fake: type[FakePool], capsys: pytest.CaptureFixture[str]
) -> None:
    run(Options(out=tmp_path, seeds=3))
    assert "left out: average pooling: loss is nan" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / RAW)
    failed = rows[rows["error"].notna()]
    assert failed["accuracy"].isna().all()
    assert failed[["label", "seed"]].to_numpy().tolist() == [["average pooling", 1]]
    pair = differences(rows)["accuracy"]["fixed token instead of pooling"]
    assert pair.seeds == 2
    assert (tmp_path / "proxy_tasks.md").exists()
    assert (tmp_path / "proxy_tasks.png").stat().st_size > 10_000
    assert fake.trained


def test_a_difference_is_the_row_after_less_the_row_before() -> None:
    rows = made_up({"no grouped windows": {"localisation": 0.4}})
    found = differences(rows)
    assert found["localisation"]["grouped windows"].value == pytest.approx(0.1)
    assert found["localisation"]["grouped windows"].significant
    assert found["texture"]["grouped windows"].value == pytest.approx(0.0, abs=1e-9)


def test_sentences_say_what_is_gained_lost_and_not_resolved() -> None:
    rows = made_up(
        {
            "no grouped windows": {"localisation": 0.4, "texture": 0.6},
            "MLP ratio 2": {"routing": 0.4995},
        }
    )
    said = dict(sentence.split(": ", 1) for sentence in sentences(differences(rows)))
    assert said["grouped windows"] == "localisation gain; texture lose."
    assert said["inner shortcuts"].startswith("no task resolves it, nor would 100 seeds")
    assert "routing (+0.001) would by itself with" in said["MLP ratio, 2 to 4"]


def test_the_page_marks_what_is_significant_and_shows_every_network() -> None:
    rows = made_up({"no grouped windows": {"localisation": 0.4}})
    text = page(rows)
    line = next(line for line in text.splitlines() if line.startswith("| grouped windows"))
    assert "**+0.100** [" in line
    assert line.count("**") == 2
    assert all(f"| {label} |" in text for label in networks())
    assert "none is an accuracy on images of things" in " ".join(text.split())


def test_the_figure_has_a_panel_a_task_and_a_mark_a_change() -> None:
    figure = draw(made_up({}))
    named = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in named] == list(TASKS)
    for axes in named:
        marks = [line for line in axes.lines if line.get_marker() in {"o", "D"}]
        assert len(marks) == len(CHANGES)


def test_the_quick_form_trains_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step or two on every task, in this process."""
    monkeypatch.setattr(task_trainings, "WorkerPool", Here)
    rows = measure_all(Options(out=tmp_path, quick=True))
    assert len(rows) == 2 * len(QUICK)
    assert rows["error"].isna().all()
    assert rows[["routing", "localisation", "texture"]].apply(lambda x: x.between(0, 1)).all(None)
    assert quick_recipe().name == rows["recipe"].iloc[0]


class Here(FakePool):
    """Trains in this process."""

    def train(
        self, tasks: Sequence[TrainingTask]
    ) -> Iterator[tuple[int, TransferResult | TrainingFailure]]:
        for index, task in enumerate(tasks):
            yield index, run_transfer_task(task)


def test_macs_are_those_of_the_network_itself() -> None:
    rows = made_up({})
    lite: ModelConfig = networks()[BASE_LABEL]
    assert set(rows.loc[rows["label"] == BASE_LABEL, "params"]) == {3_661_128}
    assert lite.variant_id in set(rows["variant_id"])
