"""The command line of the experiments."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import catalogue
from experiments.catalogue import EXPERIMENTS, Experiment, Options
from experiments.run import app

SEEN: list[Options] = []


def note(options: Options) -> None:
    SEEN.append(options)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    SEEN.clear()
    monkeypatch.setitem(catalogue.EXPERIMENTS, "noted", Experiment("?", f"{__name__}:note"))
    return SEEN


def test_without_a_name_all_are_listed_with_their_question() -> None:
    result = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name, experiment in EXPERIMENTS.items():
        assert name in result.output
        assert experiment.question in result.output


def test_every_experiment_is_where_the_table_says() -> None:
    for experiment in EXPERIMENTS.values():
        assert callable(pkgutil.resolve_name(experiment.where))
        assert "\n" not in experiment.question


def test_an_unknown_name_offers_the_nearest() -> None:
    result = CliRunner().invoke(app, ["proxy_audi"])
    assert result.exit_code == 2
    assert "did you mean 'proxy_audit'?" in " ".join(result.output.split())


def test_options_reach_the_experiment(noted: list[Options], tmp_path: Path) -> None:
    arguments = ["noted", "--quick", "--out", str(tmp_path / "a" / "b"), "--seed", "3"]
    result = CliRunner().invoke(app, [*arguments, "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert noted == [Options(out=tmp_path / "a" / "b", quick=True, seed=3, workers=2)]
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("option", ["--workers=0", "--seed=-1", "--seed=x"])
def test_impossible_options_exit_with_2(noted: list[Options], option: str) -> None:
    assert CliRunner().invoke(app, ["noted", option]).exit_code == 2
    assert noted == []
