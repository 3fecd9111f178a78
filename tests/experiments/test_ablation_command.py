"""Ablations from the command line: what is written, options, all at once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments import run
from experiments.ablation import command, engine, store, writers
from experiments.ablation.command import plan_of
from experiments.ablation.figures import figures
from experiments.ablation.tables import ABLATIONS
from experiments.catalogue import EXPERIMENTS, Options
from experiments.run import app
from search.proxy import FULL
from tests.experiments.ablation_fakes import STEPS, Fakes

HERE = {"date": "today", "device": "fake", "threads": 1, "torch": "2"}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fakes:
    """One small ablation, and nothing that takes long."""
    found = Fakes()
    monkeypatch.setitem(ABLATIONS, "steps", STEPS)
    monkeypatch.setitem(EXPERIMENTS, "steps", EXPERIMENTS["sepvit_components"])
    monkeypatch.setattr(EXPERIMENTS["steps"].__class__, "run", _run)
    monkeypatch.setattr(engine, "Instruments", lambda: found.instruments)
    for module in (store, writers):
        monkeypatch.setattr(module, "environment", lambda: HERE)
    monkeypatch.setattr(command, "figures", lambda _: {})  # they take longest
    monkeypatch.chdir(tmp_path)
    return found


def _run(_: object, options: Options) -> None:
    command.run(options, "steps")


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_everything_is_written_and_the_tables_are_printed(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "figures", figures)
    output = call("steps", "--seeds", "3")
    folder = tmp_path / "experiment-steps"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    drawn = {f"figures/{name}.{kind}" for name in ("effects", "path") for kind in ("png", "svg")}
    assert files == {"results.csv", "trials.csv", "table.md", "table.tex", "page.html"} | drawn
    results, trials = (pd.read_csv(folder / f"{name}.csv") for name in ("results", "trials"))
    assert results["row"].tolist() == ["DSSA", "+ GSA", "+ learned token"]
    assert (len(trials), trials["seed"].nunique()) == (9, 3)
    assert results["accuracy"].tolist() == pytest.approx([0.51, 0.61, 0.62])
    for word in ("Costs and speed", "Proxy accuracy", "+ learned token", "page.html"):
        assert word in output


def test_the_cache_is_shared_and_can_be_elsewhere(fakes: Fakes, tmp_path: Path) -> None:
    call("steps", "--out", "one", "--cache", "measured")
    assert (tmp_path / "measured" / "trainings").is_dir()
    trained = len(fakes.trained)
    call("steps", "--out", "two", "--cache", "measured")
    assert len(fakes.trained) == trained
    call("steps", "--out", "three")
    assert len(fakes.trained) == 2 * trained
    assert (tmp_path / "experiment-cache").is_dir()


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        ((), (0, 1, 2, 3, 4)),
        (("--quick",), (0, 1)),
        (("--seeds", "3"), (0, 1, 2)),
        (("--seeds", "2", "--seed", "7", "--quick"), (7, 8)),
    ],
)
def test_options_settle_the_seeds(
    fakes: Fakes, options: tuple[str, ...], seeds: tuple[int, ...]
) -> None:
    call("steps", *options)
    assert tuple(dict.fromkeys(seed for _, seed in fakes.trained)) == seeds


def test_a_quick_run_is_another_recipe(tmp_path: Path) -> None:
    quick = plan_of(STEPS, Options(out=tmp_path, quick=True))
    full = plan_of(STEPS, Options(out=tmp_path))
    assert full.recipe == FULL
    assert quick.recipe.name == "quick"
    assert quick.recipe.steps < full.recipe.steps / 10
    assert quick.protocol.seconds < full.protocol.seconds
    assert quick.protocol.reference == full.protocol.reference == STEPS.reference


def test_all_runs_every_ablation_into_a_folder_of_its_own(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ABLATIONS", {"steps": STEPS, "sepvit_blocks": STEPS})
    call("--all", "--quick", "--out", "all")
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"steps", "sepvit_blocks"}
    assert len(fakes.trained) == 2 * 3  # once, for both


@pytest.mark.parametrize("arguments", [("steps", "--all"), ("steps", "--seeds", "0")])
def test_impossible_options_exit_with_2(fakes: Fakes, arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert fakes.trained == []


def test_every_ablation_is_listed() -> None:
    output = call()
    for name in ABLATIONS:
        assert name in output
        assert EXPERIMENTS[name].arguments == (name,)
