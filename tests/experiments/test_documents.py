"""Kept results say what was measured, and the documentation's pages say what they say."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest

from effvit import ConfigError
from experiments.ablation.command import write
from experiments.ablation.engine import measure
from experiments.ablation.kept import RESULTS, TRIALS, kept_names, read_result
from experiments.ablation.overview import overview
from experiments.ablation.published import MILLION, Printed, Published, PublishedRow
from experiments.ablation.results import Result, summarise
from experiments.ablation.store import Store
from experiments.ablation.tables import ABLATIONS
from experiments.ablation.writers import markdown
from experiments.catalogue import DATA
from experiments.documents import documents
from tests.experiments.ablation_fakes import PLAN, STEPS, Fakes, quiet

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A small ablation with a failed training, written and kept in ``tmp_path``."""
    monkeypatch.setitem(ABLATIONS, "steps", STEPS)
    fakes = Fakes(failing=frozenset({1}), noisy=True)
    rows = measure(STEPS, PLAN, Store(tmp_path / "store"), quiet(), fakes.instruments)
    result = summarise("steps", STEPS, PLAN, rows)
    write(result, tmp_path / "out")
    for kept, written in ((RESULTS, "results.csv"), (TRIALS, "trials.csv")):
        shutil.copy(tmp_path / "out" / written, tmp_path / kept.format("steps"))
    return result


def test_a_kept_result_reads_back_as_it_was_measured(tmp_path: Path, measured: Result) -> None:
    assert kept_names(tmp_path) == ["steps"]
    read = read_result("steps", tmp_path)
    assert markdown(read) == markdown(measured)
    assert [row.means for row in read.rows] == [row.means for row in measured.rows]
    assert [row.above for row in read.rows] == [row.above for row in measured.rows]
    assert [row.speed for row in read.rows] == [row.speed for row in measured.rows]
    assert read.plan.recipe == PLAN.recipe
    assert read.plan.protocol == PLAN.protocol
    failed = [t for row in read.rows for t in row.measured.trainings if t.error]
    assert [(t.seed, t.error, t.seconds) for t in failed] == [
        (1, "loss is nan at step 1 of 3", None)
    ] * 3


@pytest.mark.usefixtures("measured")
def test_a_kept_result_of_other_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / RESULTS.format("steps")
    rows = pd.read_csv(path)
    rows.loc[1, "subject"] = "sepvit-000000000000"
    rows.to_csv(path, index=False)
    with pytest.raises(ConfigError, match="the kept result of steps is of other networks"):
        read_result("steps", tmp_path)


def test_the_overview_tells_what_was_reproduced_from_what_shows(
    measured: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = overview([measured])
    # GSA adds 0.1 at both seeds that did not fail, the token 0.01 and -0.01 beyond
    assert "| [steps](steps.md) | + GSA +0.100 | — |" in alone
    assert "| [steps](steps.md) | Do components help? | 3 | 3 |" in alone
    assert "Beside the papers" not in alone
    printed = {  # counted are 3,756,104 and 3,656,264
        "DSSA": PublishedRow(row="DSSA", params=Printed("3.8", MILLION)),
        "+ GSA": PublishedRow(row="+ GSA", params=Printed("4.0", MILLION)),
    }
    monkeypatch.setattr(Published, "rows", lambda _: printed)
    table = dataclasses.replace(STEPS, published=Published("file.csv", "a paper"))
    rows = [row.measured for row in measured.rows]
    beside = overview([summarise("steps", table, measured.plan, rows)])
    assert "| [steps](steps.md) | 1 reproduced, 1 not reproduced | — | — | — | — |" in beside


@pytest.mark.slow  # all pages are made
@pytest.mark.parametrize("name", documents(DATA))
def test_pages_of_the_documentation_say_what_the_kept_results_say(name: str) -> None:
    document = documents(DATA)[name]()
    assert (DOCS / name).read_text(encoding="utf-8") == document.text
    for figure in document.figures:
        assert (DOCS / name).with_name(figure).exists()
