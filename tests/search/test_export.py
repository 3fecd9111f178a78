"""Taking a variant out of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from effvit import ConfigError, as_config, create_model
from effvit.designs.sepvit import SepViTConfig
from search.export import app, read_trial
from search.records import TrialRecord, write_trials
from tests.search.fakes import SCALE, complete_record

CONFIG = SepViTConfig(
    widths=(32, 64, 128, 256),
    depths=(1, 1, 1, 1),
    heads=(1, 2, 4, 8),
    image_size=(64, 64),
    num_classes=7,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    records = [
        TrialRecord(number=0, reason="the run was stopped during this trial"),
        complete_record(1, 0.7, 10**9, 10.0, CONFIG),
    ]
    write_trials(tmp_path / "trials.csv", records, SCALE)
    return tmp_path


def export(folder: Path, *options: str) -> str:
    result = CliRunner().invoke(app, [str(folder), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def failure(folder: Path, *options: str) -> str:
    result = CliRunner().invoke(app, [str(folder), *options])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_json_makes_the_same_model(folder: Path) -> None:
    printed = export(folder, "--trial", "1")
    path = folder / "export" / f"{CONFIG.variant_id}.json"
    assert str(path) in printed
    assert "read back equal" in printed
    assert as_config(json.loads(path.read_text())) == CONFIG


def test_safetensors_holds_weights_and_configuration(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    options = ("--trial", "1", "--format", "safetensors", "--output", str(path), "--seed", "3")
    printed = export(folder, *options)
    assert "fresh weights, not trained" in printed
    assert printed.strip().endswith("over batches 1, 3: 0.00e+00")
    with safe_open(path, framework="pt") as file:
        config = as_config(json.loads(file.metadata()["config"]))
    assert config == CONFIG
    torch.manual_seed(3)
    expected = create_model(CONFIG).state_dict()
    torch.testing.assert_close(load_file(path), dict(expected), rtol=0, atol=0)


def test_given_weights_are_used(folder: Path, tmp_path: Path) -> None:
    state = create_model(CONFIG).state_dict()
    weights = {name: torch.rand(tensor.shape) for name, tensor in state.items()}
    save_file(weights, tmp_path / "mine.safetensors")
    path = tmp_path / "out.safetensors"
    options = ("--trial", "1", "--format", "safetensors", "--output", str(path))
    assert "weights of" in export(folder, *options, "--weights", str(tmp_path / "mine.safetensors"))
    torch.testing.assert_close(load_file(path), weights, rtol=0, atol=0)


@pytest.mark.slow
def test_onnx_agrees_for_other_batches(folder: Path) -> None:
    printed = export(folder, "--trial", "1", "--format", "onnx")
    assert (folder / "export" / f"{CONFIG.variant_id}.onnx").exists()
    difference = float(printed.strip().rpartition(" ")[2])
    assert 0 <= difference <= 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trial", "9"), "has no trial 9 (known: 0 to 1)"),
        (("--trial", "0"), "trial 0"),
    ],
)
def test_trials_that_have_no_variant(folder: Path, options: tuple[str, ...], message: str) -> None:
    assert message in failure(folder, *options)
    assert not (folder / "export").exists()


def test_folders_that_hold_no_run(tmp_path: Path) -> None:
    assert "holds no run" in failure(tmp_path, "--trial", "0")
    (tmp_path / "trials.csv").write_text("a,b\n1,2\n")
    assert "trials.csv" in failure(tmp_path, "--trial", "0")
    (tmp_path / "trials.csv").write_text('number,config\n0,"{half"\n')
    assert "trial 0" in failure(tmp_path, "--trial", "0")
    with pytest.raises(ConfigError):
        read_trial(tmp_path / "none", 0)


def test_weights_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("other", "text", "missing"):
        path = tmp_path / f"{name}.safetensors"
        options = ("--trial", "1", "--format", "safetensors", "--weights", str(path))
        assert str(path) in failure(folder, *options)
