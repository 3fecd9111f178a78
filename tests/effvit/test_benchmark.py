"""python -m effvit.benchmark: ratios from interleaved rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import effvit
from effvit.benchmark import CHANGES, Mode, benchmark, main, summarise
from effvit.benchmark_baselines import BASELINES, build_pair
from effvit.networks.layers import Fused
from tests.effvit.models import sepvit
from tests.effvit.peers import randomised

QUICK = ["eager", "eager+explicit", "eager+channels_last+folded"]


@pytest.mark.parametrize("text", [*QUICK, "compile", "onnxruntime+folded"])
def test_modes_are_written_as_they_are_read(text: str) -> None:
    assert str(Mode.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compiled", "unknown mode 'compiled'; did you mean 'compile'"),
        ("eager+fold", "unknown change in a mode 'fold'; did you mean 'folded'"),
    ],
)
def test_an_unknown_mode_offers_the_nearest(text: str, message: str) -> None:
    with pytest.raises(effvit.ConfigError, match=message):
        Mode.parse(text)


def test_each_mode_computes_the_same_and_is_compared_with_eager() -> None:
    model = sepvit("sepvit_lite")
    ((eager, *others),) = benchmark([model], torch.randn(1, 3, 64, 64), QUICK[1:], rounds=4)
    assert [eager.mode, *(timing.mode for timing in others)] == QUICK
    assert eager.over_eager == eager.over_same == (1.0, 1.0, 1.0)
    for timing in others:
        assert 0 < timing.over_eager.low <= timing.over_eager.median <= timing.over_eager.high
        assert timing.over_same == (1.0, 1.0, 1.0)
        assert timing.difference < 1e-5
        assert timing.milliseconds > 0
    assert all(module.fused for module in model.modules() if isinstance(module, Fused))


def test_networks_are_compared_in_the_same_round() -> None:
    """Two rounds, the second on a machine ten times as slow: ratios stay as they are."""
    ours, theirs = [1.0, 0.5], [2.0, 1.5]  # seconds in eager, and compiled
    seconds = np.array([[ours, theirs], [[10 * t for t in ours], [10 * t for t in theirs]]])
    differences = np.array([[0.0, 1e-7], [2e-7, 3e-7]])
    found, baseline = summarise(["eager", "compile"], seconds, differences)
    assert [timing.milliseconds for timing in found] == [5500.0, 2750.0]
    assert [timing.over_same for timing in found] == [(2.0, 2.0, 2.0), (3.0, 3.0, 3.0)]
    assert [timing.over_eager for timing in found] == [(2.0, 2.0, 2.0), (4.0, 4.0, 4.0)]
    assert [timing.difference for timing in baseline] == [2e-7, 3e-7]
    assert [timing.over_same for timing in baseline] == [(1.0, 1.0, 1.0)] * 2


# --- baselines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "name"),
    [
        ("plain", "sepvit_lite"),
        ("timm", "mobilevitv2_050"),
        ("timm", "efficientvit_b0"),
        ("timm", "efficientvit_l1"),
    ],
)
@torch.no_grad()
def test_baselines_compute_what_our_networks_compute(baseline: str, name: str) -> None:
    ours, theirs = build_pair(baseline, name)
    size = 224 if baseline == "plain" else 64
    images = torch.randn(2, 3, size, size)
    expected = theirs(images)
    assert not theirs.training
    difference = (ours(images) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5


@torch.no_grad()
def test_the_plain_formulation_has_the_weights_and_not_the_modules() -> None:
    ours, plain = build_pair("plain", "sepvit_lite")
    images = torch.randn(1, 3, 224, 224)
    before = plain(images)
    randomised(ours)
    assert torch.equal(plain(images), before)


@pytest.mark.parametrize(
    ("baseline", "name", "message"),
    [
        ("timn", "sepvit_lite", "unknown baseline 'timn'; did you mean 'timm'"),
        ("plain", "efficientvit_b0", "the plain formulation is SepViT's, got 'efficientvit_b0'"),
        ("timm", "sepvit_lite", "timm has MobileViTv2 and EfficientViT, got 'sepvit_lite'"),
    ],
)
def test_what_has_no_baseline_says_so(baseline: str, name: str, message: str) -> None:
    with pytest.raises(effvit.ConfigError, match=message):
        build_pair(baseline, name)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    return app


def run(app: typer.Typer, *arguments: str) -> list[list[str]]:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    return [line.split() for line in result.stdout.splitlines()]


def test_command(app: typer.Typer) -> None:
    modes = "eager,eager+explicit"
    lines = run(
        app,
        "sepvit_lite",
        "--resolution",
        "64",
        "--modes",
        modes,
        "--rounds",
        "4",
        "--batch",
        "1,2",
    )
    assert [" ".join(line[:6]) for line in lines[::4]] == [
        f"sepvit_lite at 64x64, batch {batch}, 1" for batch in (1, 2)
    ]
    assert [line[0] for line in lines[2:4] + lines[6:8]] == [*modes.split(",")] * 2


@pytest.mark.parametrize("baseline", BASELINES)
def test_command_against_a_baseline(app: typer.Typer, baseline: str) -> None:
    name = "sepvit_lite" if baseline == "plain" else "efficientvit_b0"
    lines = run(app, name, "--against", baseline, "--modes", "eager+folded", "--rounds", "4")
    assert f"over {baseline}'s eager" in " ".join(lines[1])
    assert [line[0] for line in lines[2:]] == ["eager", "eager+folded"]
    for line in lines[2:]:
        assert float(line[-1]) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modes", "eagre"], "unknown mode 'eagre'"),
        (["--batch", "1,0"], "batch must be numbers of images like 1 or 1,16, got '1,0'"),
        (["--batch", "one"], "got 'one'"),
        (["--against", "timm"], "timm has MobileViTv2 and EfficientViT"),
    ],
)
def test_command_with_what_it_cannot_do(
    app: typer.Typer, arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, ["sepvit_lite", *arguments])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert message in line


@pytest.mark.slow
def test_compiled_and_exported_modes() -> None:
    """On a network that compiles in seconds."""
    pytest.importorskip("onnxscript")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    changes = "".join(f"+{change}" for change in CHANGES)
    modes = ["eager", "compile", "onnxruntime", f"onnxruntime{changes}"]
    (timings,) = benchmark([model], torch.randn(2, 3, 8, 8), modes, rounds=4)
    assert [timing.mode for timing in timings] == modes
    assert max(timing.difference for timing in timings) < 1e-5
