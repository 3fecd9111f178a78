"""Several processes train one network; killed ones leave what is needed to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from search.records import write_csv
from search.train.__main__ import app
from tests.search.train.small import MODEL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PATIENCE = 300.0
"""Seconds after which a test gives up; on a quiet machine a training takes less than ten."""


def arguments(folder: Path, out: str, *more: object) -> list[str]:
    row = {"number": 0, "config": json.dumps(MODEL.to_dict())}
    write_csv(folder / "trials.csv", [row])
    options = ["--trial", 0, "--epochs", 2, "--batch", 8, "--threads", 1]
    return [str(part) for part in (folder, *options, "--out", folder / out, *more)]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(command: list[str]) -> str:
    process = start(command)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output + errors
    return output


def run_here(given: list[str]) -> str:
    """The same in this process: it need not be the one that began."""
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return result.output


TOGETHER = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("-m", "search.train"),
]


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """Without batch norms and mixing, up to the rounding of sums; only one of them speaks."""
    plain = ["--subset", 50, "--set", "average=0.5", "--final-test"]
    run_here(arguments(tmp_path, "one", *plain))
    output = run([*TOGETHER, *arguments(tmp_path, "two", *plain)])
    assert output.count("epoch 1/2") == 1
    one, two = (load_file(tmp_path / out / "weights.safetensors") for out in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)
    results = [json.loads((tmp_path / out / "result.json").read_text()) for out in ("one", "two")]
    assert results[0]["test"]["images"] == results[1]["test"]["images"]
    assert results[0]["last_epoch"]["train_loss"] == pytest.approx(
        results[1]["last_epoch"]["train_loss"], rel=1e-4
    )


def test_kill_9_in_an_epoch_changes_no_bit(tmp_path: Path) -> None:
    changes = ("mixup=0.8", "drop_path=0.3", "random_erasing=0.5")
    random = ["--subset", 200, *(part for change in changes for part in ("--set", change))]
    run_here(arguments(tmp_path, "whole", *random))
    cut = arguments(tmp_path, "cut", *random, "--save-minutes", 0)
    process = start([sys.executable, "-m", "search.train", *cut])
    end = time.monotonic() + PATIENCE
    checkpoint = tmp_path / "cut" / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    assert run_here(cut).startswith("resuming ")
    for name in ("weights.safetensors", "log.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
