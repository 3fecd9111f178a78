"""python -m effvit: numbers on the screen, one line for bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import effvit
from effvit.__main__ import app
from effvit.config import ModelConfig
from effvit.console import readable


@pytest.fixture
def command() -> CliRunner:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})


def numbers(line: str) -> list[int]:
    """Integers of a line, thousands separated by commas."""
    words = line.replace(",", "").split()
    return [int(word) for word in words if word.lstrip("+-").isdigit()]


def test_list(command: CliRunner) -> None:
    result = command.invoke(app, ["list"])
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for name in effvit.list_models():
        cost = effvit.model_cost(name)
        assert numbers(rows[name]) == [cost.params, cost.macs, cost.activations]


def test_list_at_another_resolution(command: CliRunner) -> None:
    result = command.invoke(app, ["list", "--resolution", "512x2048"])
    assert f"{effvit.model_cost('sepvit_tiny', (512, 2048)).macs:,}" in result.stdout
    assert "512x2048" in result.stdout


@pytest.mark.parametrize("width", [80, 120])
def test_a_list_fits_the_screen(width: int) -> None:
    """One line a model, no digit cut off."""
    result = CliRunner(env={"COLUMNS": str(width)}).invoke(app, ["list", "--resolution", "2048"])
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert len(lines) == 1 + len(effvit.list_models())
    assert max(map(len, lines)) <= width
    assert f"{effvit.model_cost('efficientvit_l3', 2048).macs:,}" in result.stdout


def test_list_for_other_programs(command: CliRunner) -> None:
    by_format = {
        name: command.invoke(app, ["list", "--format", name]).stdout for name in ("csv", "json")
    }
    models = json.loads(by_format["json"])
    assert [model["model"] for model in models] == effvit.list_models()
    rows = list(csv.DictReader(by_format["csv"].splitlines()))
    assert [{name: str(value) for name, value in model.items()} for model in models] == rows
    tiny = next(model for model in models if model["model"] == "mobilevit_xxs")
    cost = effvit.model_cost("mobilevit_xxs")
    assert (tiny["family"], tiny["height"], tiny["macs"]) == ("mobilevit", 256, cost.macs)


def test_cost(command: CliRunner) -> None:
    result = command.invoke(app, ["cost", "sepvit_tiny"])
    assert result.exit_code == 0
    assert "31,182,856 parameters, 4,518,998,784 MACs (4.52 G)" in result.stdout
    stage = next(line for line in result.stdout.splitlines() if "stages.0 " in line)
    params, macs, _ = effvit.model_cost("sepvit_tiny").by_module(2)["stages.0"]
    assert numbers(stage)[:2] == [params, macs]


def test_cost_beside_other_counters(command: CliRunner) -> None:
    result = command.invoke(app, ["cost", "sepvit_lite", "--resolution", "64", "--compare"])
    assert result.exit_code == 0
    unexplained = [line for line in result.stdout.splitlines() if "unexplained" in line]
    assert [numbers(line) for line in unexplained] == [[0]] * 5
    assert "parameters of the built network: 3,661,128 (equal)" in result.stdout


@pytest.mark.parametrize("wrapped", [True, False])
def test_cost_of_a_variant_in_a_file(command: CliRunner, tmp_path: Path, wrapped: bool) -> None:
    config: ModelConfig = effvit.model_config("sepvit_lite").replace(mlp_ratio=2)
    values = {"number": 3, "config": config.to_dict()} if wrapped else config.to_dict()
    path = tmp_path / "variant.json"
    path.write_text(json.dumps(values))
    result = command.invoke(app, ["cost", str(path)])
    assert result.exit_code == 0
    assert f"{effvit.model_cost(config).macs:,} MACs" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cost", "sepvit_tinny"], "unknown model 'sepvit_tinny'; did you mean 'sepvit_tiny'?"),
        (["cost", "sepvit_tiny", "--resolution", "large"], "resolution must be like 224"),
        (["cost", "sepvit_tiny", "--resolution", "16"], "nearest valid: 32"),
        (["list", "--resolution", "1x2x3"], "resolution must be like 224"),
        (["cost", "missing.json"], "missing.json"),
    ],
)
def test_bad_input_is_one_line(command: CliRunner, arguments: list[str], message: str) -> None:
    result = command.invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"family": "sepvit", "widths": [1]}'])
def test_a_file_that_holds_no_variant_is_one_line(
    command: CliRunner, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    result = command.invoke(app, ["cost", str(path)])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1500, "1.5 k"), (4_518_998_784, "4.52 G")]
)
def test_readable(count: float, text: str) -> None:
    assert readable(count) == text
