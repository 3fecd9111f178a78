"""The experiment on scores that are no finite numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from effvit import ModelConfig
from experiments import score_health, score_health_page
from experiments.catalogue import Options
from experiments.measure import finished_rows
from search.scores.many import Scored
from search.scores.table import SCORES

SEEN: list[str] = []
TWO_SPACES = ("sepvit", "mobilevitv2")


def scores_of(config: ModelConfig) -> Scored:
    values = dict.fromkeys(SCORES, float(int(config.variant_id[-4:], 16)))
    values["grasp"] = float("nan")
    return Scored(values, dict.fromkeys(SCORES, 0.5))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Score without scoring; the list holds the variants that were asked for."""
    SEEN.clear()

    def score_all(
        configs: Sequence[ModelConfig], *_: int, **__: int
    ) -> Iterator[tuple[int, Scored]]:
        for index, config in enumerate(configs):
            SEEN.append(config.variant_id)
            yield index, scores_of(config)

    monkeypatch.setattr(score_health, "score_all", score_all)
    monkeypatch.setattr(score_health, "SPACES", TWO_SPACES)
    return SEEN


def test_spaces_are_scored_and_what_is_not_finite_is_counted(
    tmp_path: Path, scored: list[str]
) -> None:
    score_health.run(Options(out=tmp_path, quick=True))
    summary = pd.read_csv(tmp_path / score_health_page.SUMMARY)
    assert set(summary["space"]) == set(TWO_SPACES)
    for row in summary.to_dict("records"):
        assert row["variants"] == score_health.QUICK_VARIANTS
        missing = score_health.QUICK_VARIANTS if row["score"] == "grasp" else 0
        assert row["not_finite"] == missing
        assert row["different"] == score_health.QUICK_VARIANTS - missing
        assert row["seconds_median"] == 0.5


def test_the_page_says_which_score_is_not_finite(tmp_path: Path, scored: list[str]) -> None:
    score_health.run(Options(out=tmp_path, quick=True))
    page = (tmp_path / score_health_page.PAGE).read_text(encoding="utf-8")
    variants = len(TWO_SPACES) * score_health.QUICK_VARIANTS
    values = variants * len(SCORES)
    assert (
        f"{variants} variants of 2 spaces, {len(SCORES)} scores each: {values} values. "
        f"{variants} are not finite." in page
    )
    assert f"| `grasp` | arXiv 2002.07376 | published | {variants} of {variants} | 0 |" in page
    assert f"| `zen` | arXiv 2102.01063 | published | 0 of {variants} | {variants} |" in page


def test_an_interrupted_run_goes_on(tmp_path: Path, scored: list[str]) -> None:
    score_health.run(Options(out=tmp_path, quick=True))
    path = tmp_path / score_health.RAW
    whole, asked = finished_rows(path), list(scored)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    left = len(finished_rows(path))
    scored.clear()
    score_health.run(Options(out=tmp_path, quick=True))
    assert len(scored) == len(asked) - left
    again = finished_rows(path)
    assert set(again["variant_id"]) == set(whole["variant_id"])
    assert len(again) == len(whole)
