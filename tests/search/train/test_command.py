"""The command line of full training, from a folder of images to a tested network."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import effvit
from search.datasets import sets
from search.records import write_csv
from search.train import __main__ as command
from search.train import final
from search.train.trainer import Trainer
from tests.search.datasets.folders import COLOURS, write_parts
from tests.search.train.small import MODEL

FAST = ["--epochs", "2", "--batch", "6", "--threads", "1", "--recipe", "small"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search's folder with one trial."""
    folder = tmp_path_factory.mktemp("run")
    row = {"number": 4, "config": json.dumps(MODEL.replace(num_classes=1000).to_dict())}
    write_csv(folder / "trials.csv", [row])
    return folder


def data_folder(root: Path) -> Path:
    return write_parts(root, train=dict.fromkeys(COLOURS, 8), test=dict.fromkeys(COLOURS, 3))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [str(part) for part in arguments])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[object], Result]:
    """Data, output and arguments of a training of the trial, and what it said."""
    data = data_folder(tmp_path_factory.mktemp("data"))
    out = tmp_path_factory.mktemp("out") / "training"
    arguments = [run_folder, "--trial", 4, "--data", data, "--out", out, *FAST]
    result = call(*arguments)
    return data, out, arguments, result


def test_a_trial_is_trained_on_a_folder(trained: tuple[Path, Path, list[object], Result]) -> None:
    data, out, _, result = trained
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].endswith("at 32x32, 3 classes: 21 images to train on, 3 to validate")
    assert "2 epochs of 3 steps of 6 images" in lines[1]
    assert any(line.startswith("epoch 2/2, loss ") for line in lines)
    assert lines[-1] == f"weights: {out / 'weights.safetensors'}, log: {out / 'log.csv'}"
    assert [row["epoch"] for row in rows(out)] == ["1", "2"]
    saved = json.loads((out / "settings.json").read_text())
    assert saved["classes"] == ["blue", "green", "red"]
    assert saved["identity"]["data"]["source"] == str(data)
    assert saved["identity"]["recipe"]["epochs"] == 2
    assert saved["environment"]["torch"]
    result_file = json.loads((out / "result.json").read_text())
    assert set(result_file) == {"last_epoch"}
    model = effvit.create_model(saved["identity"]["model"])
    model.load_state_dict(load_file(out / "weights.safetensors"))


def test_the_test_images_are_looked_at_once(
    trained: tuple[Path, Path, list[object], Result], tmp_path: Path
) -> None:
    data, done, arguments, _ = trained
    out = tmp_path / "copy"
    shutil.copytree(done, out)
    again = [out if part == done else part for part in arguments]
    first = call(*again, "--final-test")
    assert first.exit_code == 0, first.output
    assert first.output.splitlines()[0].startswith("resuming ")
    assert "of 9 images" in first.output.splitlines()[-1]
    saved = json.loads((out / "result.json").read_text())
    assert saved["test"]["images"] == 9
    for path in (data / "test").rglob("*.png"):
        path.write_bytes(b"cannot be read any more")
    assert call(*again, "--final-test").output == first.output


def test_without_asking_the_test_part_stays_closed(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise AssertionError("a training opened the test part")

    monkeypatch.setattr(final, "held_out_images", closed)
    monkeypatch.setattr(sets, "held_out_images", closed)
    data, out = data_folder(tmp_path / "data"), tmp_path / "out"
    arguments = [run_folder, "--trial", 4, "--data", data, "--out", out, *FAST, "--epochs", 1]
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert isinstance(call(*arguments, "--final-test").exception, AssertionError)


def test_the_same_command_with_other_settings_is_refused(
    trained: tuple[Path, Path, list[object], Result],
) -> None:
    _, _, arguments, _ = trained
    result = call(*arguments, "--set", "flip=0.5")
    assert result.exit_code == 2
    assert "its recipe's flip is 0.0, not 0.5" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to train: DIR --trial N, or --model NAME"),
        (["--model", "sepvit_lite", "--trial", "1"], "say what to train"),
        (["--model", "sepvit_lit"], "did you mean 'sepvit_lite'"),
        (["--model", "sepvit_lite", "--data", "nowhere"], "nor is there such a folder"),
        (["--model", "sepvit_lite", "--recipe", "smal"], "did you mean 'small'"),
        (["--model", "sepvit_lite", "--precision", "half"], "unknown precision 'half'"),
        (["--model", "sepvit_lite", "--device", "tpu"], "device must be cpu, cuda"),
        (["--model", "sepvit_lite", "--resolution", "7"], "nearest valid: 32"),
        (["--model", "sepvit_lite", "--subset", "20"], "batch must be at most the 20 training"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = call(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_broken_image_ends_the_training_by_name(run_folder: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data")
    for path in (data / "train" / "red").iterdir():
        path.write_bytes(b"no image")
    result = call(run_folder, "--trial", 4, "--data", data, "--out", tmp_path / "out", *FAST)
    assert result.exit_code == 2
    assert "it is no image" in result.output


def test_a_loss_that_is_no_number_ends_with_1(run_folder: Path, tmp_path: Path) -> None:
    changes = ["--set", "learning_rate=1e30", "--set", "clip=none", "--set", "warm_up=0"]
    arguments = [run_folder, "--trial", 4, "--subset", 12, "--out", tmp_path / "out", *FAST]
    result = call(*arguments, *changes, "--epochs", 3)
    assert result.exit_code == 1
    assert "no finite number" in result.output


def test_ctrl_c_says_that_the_command_goes_on(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    result = call(run_folder, "--trial", 4, "--subset", 12, "--out", tmp_path / "out", *FAST)
    assert result.exit_code == 130
    assert "the same command goes on" in result.output
    assert torch.get_num_threads() == 1
