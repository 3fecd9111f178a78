"""python -m effvit.benchmark: ratios from interleaved rounds."""

from __future__ import annotations

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import effvit
from effvit.benchmark import MODES, benchmark, main

QUICK = ["eager", "explicit", "channels_last"]


def test_each_mode_computes_the_same_and_is_compared_with_eager() -> None:
    model = effvit.create_model("sepvit_lite").eval()
    timings = benchmark(model, torch.randn(1, 3, 64, 64), QUICK[1:], rounds=4)
    assert [timing.mode for timing in timings] == QUICK
    assert timings[0].speed == (1.0, 1.0, 1.0)
    for timing in timings:
        low, middle, high = timing.speed
        assert 0 < low <= middle <= high
        assert timing.difference < 1e-5
        assert timing.milliseconds > 0
    assert all(module.fused for module in model.modules() if hasattr(module, "fused"))


def test_an_unknown_mode_offers_the_nearest() -> None:
    with pytest.raises(effvit.ConfigError, match="unknown mode 'compiled'; did you mean 'compile'"):
        benchmark(effvit.create_model("sepvit_lite"), torch.zeros(1, 3, 32, 32), ["compiled"], 4)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    return app


def test_command(app: typer.Typer) -> None:
    arguments = ["sepvit_lite", "--resolution", "64", "--modes", "eager,explicit", "--rounds", "4"]
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("sepvit_lite at 64x64, batch 1, 1 of")
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["eager", "explicit"]


def test_command_with_an_unknown_mode(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["sepvit_lite", "--modes", "eagre"])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_compiled_and_exported_modes() -> None:
    """On a network that compiles in seconds."""
    pytest.importorskip("onnxscript")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    timings = benchmark(model, torch.randn(2, 3, 8, 8), list(MODES), rounds=4)
    assert [timing.mode for timing in timings] == list(MODES)
    assert max(timing.difference for timing in timings) < 1e-5
