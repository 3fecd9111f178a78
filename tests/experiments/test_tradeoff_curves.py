"""What a search adds over published sizes: the arithmetic, and what is drawn and written of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from effvit.config import ConfigError
from experiments.catalogue import Options
from experiments.earlier import NOTE, RETRY_WEIGHT
from experiments.latency_claims_figure import LOOKS
from experiments.latency_claims_table import networks
from experiments.tradeoff_curves import (
    COLUMNS,
    command,
    finalists_by,
    gain_text,
    page,
    read,
    run,
    write,
)
from experiments.tradeoff_findings import Finalist, gain
from search.proxy import SEARCH


def finalist(
    number: int, label: str, cost: float, first: float, accuracy: float, sd: float | None = 0.0
) -> Finalist:
    return Finalist(number, label, cost, first, accuracy, sd, 3)


SMALL, LARGE = finalist(0, "small", 1e8, 0.5, 0.5), finalist(1, "large", 4e8, 0.6, 0.6)


def test_search_adds_what_its_choice_has_over_the_published_one_at_equal_budget() -> None:
    # From 2e8 on, half of the way from 1e8 to 4e8 in the logarithm, 0.8 instead of 0.5.
    found = gain([SMALL, LARGE, finalist(2, "", 2e8, 0.7, 0.8)])
    assert found is not None
    assert found.value == pytest.approx((0.8 - 0.5) / 2)
    assert (found.cheapest, found.dearest) == (1e8, 4e8)


def test_a_lucky_training_during_the_search_earns_what_it_is_worth_afterwards() -> None:
    found = gain([SMALL, LARGE, finalist(2, "", 1e8, 0.9, 0.4)])
    assert found is not None
    assert found.value == pytest.approx(0.4 - 0.5)


def test_a_variant_that_no_budget_admits_or_prefers_changes_nothing() -> None:
    for other in (finalist(2, "", 5e8, 0.9, 0.9), finalist(2, "", 2e8, 0.4, 0.9)):
        found = gain([SMALL, LARGE, other])
        assert found is not None
        assert (found.value, found.low, found.high) == (0.0, None, None)


def test_the_interval_is_students_of_both_choices() -> None:
    # One searched choice against one published one over all budgets: a difference of two means of
    # three trainings with equal deviations, so 2 + 2 degrees of freedom.
    small, searched = SMALL._replace(sd=0.03), finalist(2, "", 1e8, 0.9, 0.7, sd=0.03)
    found = gain([small, LARGE, searched])
    assert found is not None
    assert found.low is not None
    half = stats.t.ppf(0.975, 4) * 0.03 * (2 / 3) ** 0.5
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2 - half)
    assert gain_text(found) == f"+0.200 (+{0.2 - half:.3f} to +{0.2 + half:.3f})"


def test_a_single_seed_has_no_interval_and_one_published_model_no_gain() -> None:
    found = gain([SMALL, LARGE, finalist(2, "", 2e8, 0.9, 0.8, sd=None)])
    assert found is not None
    assert found.low is None
    assert gain_text(found) == "+0.150"
    assert gain([SMALL, finalist(2, "", 2e8, 0.9, 0.8)]) is None
    assert "fewer" in gain_text(None)


@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 10), st.integers(0, 10)),
        min_size=0,
        max_size=6,
    )
)
def test_accuracies_bound_the_gain(others: list[tuple[int, int, int]]) -> None:
    finalists = [SMALL, LARGE]
    for number, (cost, first, worth) in enumerate(others, start=2):
        finalists.append(finalist(number, "", cost * 1e7, first / 10, worth / 10))
    found = gain(finalists)
    assert found is not None
    worths = [each.accuracy for each in finalists]
    assert min(worths) - 0.6 - 1e-9 <= found.value <= max(worths) - 0.5 + 1e-9


# --- rows, page and figures ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Records of a run with three trials, two of them published models."""
    trials = pd.DataFrame(
        {
            "number": [0, 1, 2, 3],
            "state": ["complete"] * 3 + ["failed"],
            "published": ["sepvit_lite", "sepvit_tiny", None, None],
            "macs": [1e8, 4e8, 2e8, 9e8],
            "latency_ms": [10.0, 40.0, 20.0, None],
            "accuracy": [0.5, 0.6, 0.7, None],
        }
    )
    trials.to_csv(tmp_path / "trials.csv", index=False)
    finalists = trials[:3].assign(
        accuracy=[0.5, 0.6, 0.8], accuracy_sd=0.01, accuracy_low=[0.48, 0.58, 0.78],
        accuracy_high=[0.52, 0.62, 0.82], seeds=3, found=[3, 3, 2], routing=[0.9, 1.0, 0.6],
    )  # fmt: skip
    finalists.drop(columns="state").to_csv(tmp_path / "pareto.csv", index=False)
    settings = {"proxy": {"search_recipe": SEARCH.to_dict()}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    return tmp_path


def test_runs_of_an_earlier_version_are_said_to_be_such(folder: Path) -> None:
    assert NOTE not in page(read("sepvit", folder))
    earlier = {name: value for name, value in SEARCH.to_dict().items() if name != RETRY_WEIGHT}
    settings = {"proxy": {"search_recipe": earlier}}
    (folder / "settings.json").write_text(json.dumps(settings))
    rows = read("sepvit", folder)
    assert set(rows[RETRY_WEIGHT]) == {1.0}
    assert NOTE in page(rows)


def test_the_page_says_which_tasks_an_accuracy_is_of(folder: Path) -> None:
    settings = {"proxy": {"search_recipe": SEARCH.to_dict(), "tasks": ["cue", "routing"]}}
    (folder / "settings.json").write_text(json.dumps(settings))
    rows = read("sepvit", folder)
    assert set(rows["tasks"]) == {"cue+routing"}
    assert "| `sepvit` | cue+routing | 3 |" in page(rows)
    assert "| `sepvit` | cue | 3 |" in page(rows.drop(columns="tasks"))


def test_rows_of_a_run_are_its_complete_trials_and_its_finalists(folder: Path) -> None:
    rows = read("sepvit", folder)
    assert tuple(rows.columns) == COLUMNS
    assert rows["kind"].tolist() == ["trial"] * 3 + ["finalist"] * 3
    assert rows["relation_found"].tolist()[3:] == [True, True, False]
    assert finalists_by(rows, "latency_ms")[2] == Finalist(2, "", 20.0, 0.7, 0.8, 0.01, 3)


@pytest.mark.slow  # figures are drawn
def test_the_page_says_the_gain_and_figures_are_written(folder: Path) -> None:
    rows = read("sepvit", folder)
    text = page(rows)
    assert "| `sepvit` | cue | 3 | 3 | 3 | +0.150 (" in text
    assert "| 0.60 to 0.60 | 0.90 to 1.00 |\n" in text
    written = {path.name for path in write(rows, folder)}
    assert written == {
        "tradeoff_sepvit.png", "tradeoff_published.png", "tradeoff_curves.md",
    }  # fmt: skip
    assert (folder / "tradeoff_sepvit.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # figures are drawn
def test_one_space_is_searched_and_all_that_are_done_are_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out / "hybrid", ignore=shutil.ignore_patterns("out"))
    begun: list[str] = []

    def searched(space: str, options: Options) -> None:
        begun.append(space)
        shutil.copytree(options.out / "hybrid", options.out / space)

    monkeypatch.setattr("experiments.tradeoff_curves.search", searched)
    run(Options(out=out, space="sepvit"))
    assert begun == ["sepvit"]
    assert pd.read_csv(out / "tradeoff_curves.csv")["space"].unique().tolist() == [
        "sepvit", "hybrid",
    ]  # fmt: skip


def test_a_search_is_that_of_the_command_line_with_its_seeds(tmp_path: Path) -> None:
    words = command("hybrid", Options(out=tmp_path, seeds=2, workers=3))
    assert words[words.index("--out") + 1] == str(tmp_path / "hybrid")
    assert {"--final-seeds=2", "--trials=40"} <= set(words)
    assert "--steps=20" in command("hybrid", Options(out=tmp_path, quick=True))


def test_a_space_that_is_not_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="searched space"):
        run(Options(out=tmp_path, space="pit"))


def test_every_family_with_published_accuracies_has_a_look() -> None:
    assert {side.family for side in networks().values()} <= set(LOOKS)
