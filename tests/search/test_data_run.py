"""Searches on a data set of the user's, through the command line.

Trainings run in this process instead of workers, and latencies are made up; one run is whole.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reports.page import render_page
from reports.records import load_run
from search import run as command
from search.datasets import DataSettings, held_out_images, images
from search.datasets.sets import ImageSet
from search.settings import SETTINGS
from search.workers import SuccessT, TrainingFailure, TrainingTask, WorkerPool
from tests.search.datasets.folders import COLOURS, write_images, write_parts
from tests.search.instant_runs import InstantMeter

ROOT = Path(__file__).parents[2]
TRIALS = 2
Row = dict[str, str]


class InProcess(WorkerPool[SuccessT]):
    """A pool that trains in this process."""

    def train(
        self, tasks: Sequence[TrainingTask]
    ) -> Iterator[tuple[int, SuccessT | TrainingFailure]]:
        for index, task in enumerate(tasks):
            yield index, self._work(task)


@pytest.fixture(autouse=True)
def _instant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stand_in in (("LatencyMeter", InstantMeter), ("WorkerPool", InProcess)):
        monkeypatch.setattr(command, name, stand_in)
    monkeypatch.setattr(command, "_report", lambda folder, console: None)


def arguments(data: Path | str, out: Path, *more: object, finalists: int = 1) -> list[str]:
    """A search of a few small networks."""
    options = {
        "--space": "pit",  # the smallest networks, which the embedded task has no rule for
        "--resolution": 96,
        "--max-params": "4M",
        "--sampler": "random",
        "--trials": TRIALS,
        "--finalists": finalists,
        "--final-seeds": 1,
        "--workers": 1,
        "--threads": 1,
        "--data": data,
        "--data-resolution": 32,
        "--epochs": 1,
        "--final-epochs": 2,
        "--set": "batch=6",
        "--out": out,
    }
    return [str(part) for pair in options.items() for part in pair] + list(map(str, more))


def call(*words: object) -> Result:
    return CliRunner().invoke(command.app, [str(word) for word in words])


def succeeded(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def refused(result: Result) -> str:
    """Message of a command that must fail: one line."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


def rows(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def trials(folder: Path) -> list[Row]:
    return rows(folder / "trials.csv")


def parts(root: Path) -> Path:
    return write_parts(
        root,
        train=dict.fromkeys(COLOURS, 4),
        val=dict.fromkeys(COLOURS, 2),
        test=dict.fromkeys(COLOURS, 2),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder of a run, and what it said."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _instant.__wrapped__(patch)  # type: ignore[attr-defined]  # fixtures of tests come later
        return out, succeeded(call(*arguments(data, out)))


# --- to the end ---------------------------------------------------------------------------------


def test_trials_are_trained_on_the_folder(finished: tuple[Path, str]) -> None:
    folder, said = finished
    assert (
        "accuracy: colours at 32x32, 3 classes: 12 images to train on, 6 to validate; epochs of a "
        "trial: 1, of a finalist: 2" in said
    )
    found = trials(folder)
    assert [row["state"] for row in found] == ["complete"] * TRIALS
    for row in found:
        assert float(row["accuracy"]) * 6 == pytest.approx(round(float(row["accuracy"]) * 6))
        assert (row["relation"], row["recognition"], row["relation_found"]) == ("", "", "")
        assert int(row["proxy_steps"]) == 12 // 6
        assert float(row["proxy_seconds"]) > 0
    front = rows(folder / "pareto.csv")
    assert front
    for row in front:
        assert float(row["test_accuracy"]) * 6 == pytest.approx(round(float(row["accuracy"]) * 6))
        assert (row["relation"], row["found"], row["seeds"]) == ("", "", "1")


def test_records_say_what_the_accuracy_is(finished: tuple[Path, str], data: Path) -> None:
    saved = json.loads((finished[0] / SETTINGS).read_text())
    proxy = saved["proxy"]
    assert proxy["accuracy"] == (
        "accuracy on validation images of colours after 1 epoch (finalists: 2)"
    )
    assert proxy["data"]["source"] == saved["identity"]["data"]["source"] == str(data)
    assert proxy["data"]["training_images"] == 12
    assert (proxy["search_recipe"]["batch"], proxy["final_recipe"]["epochs"]) == (6, 2)
    assert proxy["ranking"] is None
    assert proxy["tasks"] == []
    page = render_page(load_run(finished[0]), "runs/x")
    text = page[page.index("<main>") : page.index("Settings and environment")]
    assert "colours at 32x32 pixels, trained for 1 epoch (finalists: 2)" in text
    assert "It is not the accuracy of a full training" in text
    for word in ("digit", "relation", "recognition", "cue"):
        assert word not in text


def test_the_same_command_trains_nothing_again(
    finished: tuple[Path, str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> None:
        raise AssertionError("trained again")

    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = (folder / "trials.csv").read_bytes()
    monkeypatch.setattr(InProcess, "train", lambda pool, tasks: map(train, tasks))
    assert succeeded(call(*arguments(data, folder))).startswith("resuming pit")
    assert (folder / "trials.csv").read_bytes() == before


def test_resuming_with_other_data_is_refused(
    finished: tuple[Path, str], data: Path, tmp_path: Path
) -> None:
    folder = finished[0]
    other = parts(tmp_path / "other")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for changed, message in [
        (arguments(other, folder), f"its data.source is '{data}', not '{other}'"),
        (arguments(data, folder, "--classes", 2), "its data.classes is None, not 2"),
        (arguments(data, folder, "--epochs", 2), "its search_recipe.epochs is 1, not 2"),
        (arguments(data, folder, "--data-resolution", 64), "its data_resolution is [32, 32]"),
    ]:
        assert message in refused(call(*changed))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# --- smaller images first -----------------------------------------------------------------------


SMALLER = ("--fidelities", "resolution", "--data-resolution", 64, "--trials", 4)


def untimed(found: list[Row]) -> list[Row]:
    times = ("started", "seconds", "proxy_seconds")
    return [{name: value for name, value in row.items() if name not in times} for row in found]


def test_smaller_images_first_and_a_stop_changes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    said = succeeded(call(*arguments(data, whole, *SMALLER, finalists=0)))
    assert "of a finalist: 2; compared at 32x32 first" in said
    found = trials(whole)
    assert sorted(row["state"] for row in found) == ["complete"] * 2 + ["pruned"] * 2
    for row in found:
        done = row["state"] == "complete"
        assert row["proxy_resolution"] == ("64x64" if done else "32x32")
        assert bool(row["accuracy"]) == done
        assert ("images of 32x32 in the place of 64x64" in row["reason"]) != done
    saved = json.loads((whole / SETTINGS).read_text())
    assert saved["fidelities"] == "resolution"
    assert "first built for images of 32x32 pixels" in saved["proxy"]["description"]

    train, left = InProcess.train, 5  # all at 32x32, and one of two at 64x64

    def stopping(
        pool: InProcess[SuccessT], tasks: Sequence[TrainingTask]
    ) -> Iterator[tuple[int, SuccessT | TrainingFailure]]:
        nonlocal left
        for outcome in train(pool, tasks):
            if not left:
                raise KeyboardInterrupt
            left -= 1
            yield outcome

    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "train", stopping)
        result = call(*arguments(data, stopped, *SMALLER, finalists=0))
    assert result.exit_code == command.INTERRUPTED, result.output
    succeeded(call(*arguments(data, stopped, *SMALLER, finalists=0)))
    assert untimed(trials(stopped)) == untimed(found)


# --- what is refused at the start ---------------------------------------------------------------


def empty(folder: Path) -> None:
    folder.mkdir()


def unreadable(folder: Path) -> None:
    write_images(folder, dict.fromkeys(COLOURS, 8))
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")


def two_images(folder: Path) -> None:
    write_images(folder, {"red": 1, "blue": 1})


def sound(folder: Path) -> None:
    write_images(folder, dict.fromkeys(COLOURS, 8))


@pytest.mark.parametrize(
    ("make", "more", "message"),
    [
        (None, [], "nor is there such a folder"),
        (empty, [], "holds no folders of classes with images in them"),
        (unreadable, [], "it is no image"),
        (two_images, [], "has no validation images to search with (nearest valid: --validation"),
        (sound, ["--validation", 0], "has no validation images"),
        (sound, ["--classes", 4], "classes must be 2 to 3 here, got 4"),
        (sound, ["--classes", 1], "classes must be at least 2, got 1"),
        (sound, ["--subset", 50], "subset must be at most the 18 training images, got 50"),
        (sound, ["--subset", 3], "the recipe's batch must be at most the 3 training images, got 6"),
        (sound, ["--data-resolution", 7], "nearest valid: 32"),
        (sound, ["--set", "batches=3"], "did you mean 'batch'"),
        (sound, ["--set", "epochs=3"], "give --epochs and --final-epochs"),
        (sound, ["--recipe", "smal"], "did you mean 'small'"),
        (sound, ["--fidelities", "halving"], "--fidelities halving needs the embedded task"),
        (sound, ["--fidelities", "resolution"], "got 16x16 of 32x32 (nearest valid --data-reso"),
        (sound, ["--proxy", "supernet"], "--proxy supernet needs the embedded task"),
        (sound, ["--steps", 3], "--steps needs the embedded task"),
        (sound, ["--final-steps", 3], "--final-steps needs the embedded task"),
    ],
)
def test_what_cannot_be_searched_on_is_one_line(
    make: Callable[[Path], None] | None, more: list[object], message: str, tmp_path: Path
) -> None:
    folder, out = tmp_path / "images", tmp_path / "run"
    if make is not None:
        make(folder)
    assert message in refused(call(*arguments(folder, out, *more)))
    assert not out.exists()


def test_finalists_need_test_images(tmp_path: Path) -> None:
    few = dict.fromkeys(COLOURS, 8)
    folder = write_parts(tmp_path / "images", train=few, val=few, test=few)
    shutil.rmtree(folder / "test")
    more = ("--validation", 0, "--validation-part", "val")
    said = refused(call(*arguments(folder, tmp_path / "run", *more)))
    assert "brings no test images, and --validation 0 cuts none" in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--data-root", "x"),
        ("--classes", 3),
        ("--subset", 10),
        ("--validation", 0.2),
        ("--test-part", "x"),
        ("--data-resolution", 64),
        ("--fidelities", "resolution"),
        ("--recipe", "small"),
        ("--set", "batch=3"),
        ("--epochs", 2),
        ("--final-epochs", 2),
    ],
)
def test_options_of_data_sets_need_one(option: str, value: object, tmp_path: Path) -> None:
    said = refused(call(option, value, "--out", tmp_path / "run"))
    shown = f"{option} {value}" if option == "--fidelities" else option
    assert said == f"error: {shown} needs a data set: give --data\n"
    assert not (tmp_path / "run").exists()


# --- the test part ------------------------------------------------------------------------------


def test_a_search_does_without_readable_test_images(tmp_path: Path) -> None:
    folder, out = parts(tmp_path / "images"), tmp_path / "run"
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"whoever opens this fails")
    succeeded(call(*arguments(folder, out, finalists=0)))
    assert [row["state"] for row in trials(out)] == ["complete"] * TRIALS
    said = succeeded(call(*arguments(folder, out)))  # finalists are trained now
    assert "trainings of finalists that failed: " in said
    assert f"cannot read image {folder / 'test'}" in said


@pytest.mark.slow
def test_no_trial_opens_an_image_that_finalists_are_tested_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the test part is cut from the training part."""
    folder, out = write_images(tmp_path / "images", dict.fromkeys(COLOURS, 10)), tmp_path / "run"
    opened: set[str] = set()
    open_image = images.open_image

    def noting(file: Path, name: str) -> object:
        opened.add(name)
        return open_image(file, name)

    monkeypatch.setattr(images, "open_image", noting)
    held = held_out_images(DataSettings(source=str(folder)))
    assert isinstance(held, ImageSet)
    whole = held.transformed(lambda image: image)  # type: ignore[arg-type,return-value]
    for number in range(len(held)):
        whole[number]
    tested = set(opened)
    assert len(tested) == len(held) == 3  # a tenth of each class
    opened.clear()
    succeeded(call(*arguments(folder, out, finalists=0)))
    assert len(opened) == 3 * 9
    assert not opened & tested
    succeeded(call(*arguments(folder, out)))
    assert opened >= tested


# --- in fresh processes -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_run_with_workers_and_report(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = subprocess.run(
        [sys.executable, "-m", "search.run", *arguments(data, out, "--space", "sepvit")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert [row["state"] for row in trials(out)] == ["complete"] * TRIALS
    assert rows(out / "pareto.csv")[0]["test_accuracy"]
    assert (out / "report.html").stat().st_size > 10_000
