"""ViT-Bench-101: its data, honest predictions, and what the page says."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

import effvit
from experiments.catalogue import DATA
from experiments.ranking import FloatArray, kendall
from experiments.vit_bench import command, learning, scoring
from experiments.vit_bench.agreement import compare, draws, ranks, resampled_kendall
from experiments.vit_bench.architectures import (
    CLASSES,
    SHARED_ENCODING,
    SLICES,
    TARGETS,
    Architecture,
    costs,
)
from experiments.vit_bench.learning import Features, best_groups, left_out, transferred
from experiments.vit_bench.page import CHOSEN, RESULT, draw, page, verdicts
from search.scores.table import SCORES
from spaces import get_space

# Kendall's tau of the parameter count, as reported of these files before.
PARAMETER_TAUS = {
    "autoformer": (-0.32, 0.55, 0.31, 0.70),
    "pit": (0.72, 0.82),
}


@pytest.fixture(scope="module")
def architectures() -> dict[str, list[Architecture]]:
    return {name: each.read(name) for name, each in SLICES.items()}


@pytest.fixture(scope="module")
def rows(architectures: dict[str, list[Architecture]]) -> pd.DataFrame:
    """Scores drawn at random, of two seeds."""
    rng = np.random.default_rng(0)
    drawn: pd.DataFrame = pd.DataFrame(
        [
            {"architecture": a.name, "seed": seed, **dict.fromkeys(SCORES, rng.normal())}
            for seed in (0, 1)
            for members in architectures.values()
            for a in members
        ]
    )
    return drawn


@pytest.fixture(scope="module")
def table(architectures: dict[str, list[Architecture]], rows: pd.DataFrame) -> pd.DataFrame:
    few = {name: members[:16] for name, members in architectures.items()}
    with pytest.MonkeyPatch.context() as patch:  # as the real thing, in seconds
        patch.setattr(learning, "OUTER_FOLDS", 3)
        patch.setattr(learning, "INNER_FOLDS", 2)
        patch.setattr(learning, "SHUFFLES", 1)
        return command.evaluate(few, rows, seed=0)


# --- the benchmark ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SLICES)
def test_architectures_are_members_of_their_space(
    name: str, architectures: dict[str, list[Architecture]]
) -> None:
    """AutoFormer's as the paper builds them: the benchmark's heads split the width."""
    space = get_space(name)
    assert len({a.config.variant_id for a in architectures[name]}) == 100
    for architecture in architectures[name]:
        config = architecture.config.replace(num_classes=1000)
        if name == "autoformer":
            config = config.replace(head_width=64, relative_reach=14)
        assert space.contains(config)
        assert set(SHARED_ENCODING) <= set(architecture.encoding)


@pytest.mark.parametrize("name", SLICES)
def test_the_parameter_count_ranks_as_reported(
    name: str, architectures: dict[str, list[Architecture]]
) -> None:
    members = architectures[name]
    counted = costs(members)["params"]
    taus = [
        float(kendall(counted, np.array([a.accuracies[target] for a in members])))
        for target in members[0].accuracies
    ]
    assert taus == pytest.approx(PARAMETER_TAUS[name], abs=0.005)
    assert counted[0] == effvit.model_cost(members[0].config).params


# --- intervals ----------------------------------------------------------------------------------


def test_resampled_tau_is_that_of_the_resample() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 12).astype(float), rng.normal(size=12)  # with ties
    counts = draws(12, seed=1)
    taus = resampled_kendall(x, y, counts)
    assert counts.sum(1) == pytest.approx(12)
    for row in range(20):
        chosen = np.repeat(np.arange(12), counts[row].astype(int))
        assert taus[row] == pytest.approx(float(kendall(x[chosen], y[chosen])), nan_ok=True)


def test_gains_are_differences_to_the_parameter_count_on_the_same_resamples() -> None:
    truth = np.arange(30.0)
    readings = {"params": np.random.default_rng(0).normal(size=30), "copy": truth}
    readings["twin"] = 2 * readings["params"]
    table = compare(readings, truth).set_index("reading")
    assert table.loc["copy", "gain"] == pytest.approx(1 - table.loc["params", "tau"])
    assert table.loc["copy", "gain_low"] > 0
    assert list(table.loc["twin", ["gain", "gain_low", "gain_high"]]) == [0, 0, 0]


def test_ranks_lie_between_minus_one_and_one() -> None:
    found = ranks(np.array([[3.0, 1.0], [9.0, 1.0], [5.0, 2.0]]))
    assert found[:, 0] == pytest.approx([-2 / 3, 2 / 3, 0])
    assert found[:, 1] == pytest.approx([-1 / 3, -1 / 3, 2 / 3])  # ties at their mean


# --- learning -----------------------------------------------------------------------------------


def made_up(count: int = 60) -> tuple[Features, FloatArray]:
    """A signal in one group, noise in the other."""
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(count, 2)), rng.normal(size=(count, 5))
    truth: FloatArray = signal @ np.array([1.0, 2.0]) + 0.1 * rng.normal(size=count)
    return Features.join({"noise": noise, "signal": signal}), truth


CHOICES = (("noise",), ("signal",))


def test_the_group_that_predicts_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "OUTER_FOLDS", 4)
    monkeypatch.setattr(learning, "SHUFFLES", 2)
    features, truth = made_up()
    predicted, chosen = left_out(features, truth, CHOICES, seed=0)
    assert set(chosen) == {("signal",)}
    assert float(kendall(predicted, truth)) > 0.85


def test_noise_predicts_nothing() -> None:
    features, truth = made_up()
    predicted, _ = left_out(features, truth, CHOICES[:1], seed=0)
    assert abs(float(kendall(predicted, truth))) < 0.3


def test_an_architectures_accuracy_does_not_reach_its_own_prediction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Leaving one out at a time: a wrong accuracy changes all predictions but its own."""
    features, truth = made_up(20)
    monkeypatch.setattr(learning, "OUTER_FOLDS", 20)
    monkeypatch.setattr(learning, "INNER_FOLDS", 2)
    monkeypatch.setattr(learning, "SHUFFLES", 1)
    wrong = truth.copy()
    wrong[7] += 50
    changed = left_out(features, truth, CHOICES, 0)[0] != left_out(features, wrong, CHOICES, 0)[0]
    assert np.flatnonzero(~changed).tolist() == [7]


def test_what_is_learned_on_one_slice_ranks_another() -> None:
    features, truth = made_up()
    half = [
        Features(features.columns[rows], features.groups) for rows in (slice(30), slice(30, 60))
    ]
    predicted = transferred(half[0], truth[:30], half[1], CHOICES, seed=0)
    assert best_groups(half[0], truth[:30], range(30), CHOICES, 0) == ("signal",)
    assert float(kendall(predicted, truth[30:])) > 0.85


# --- scores -------------------------------------------------------------------------------------


@pytest.mark.slow  # scores or learned combinations of many networks
def test_scores_are_kept_and_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = effvit.model_config("pit_ti").replace(
        depths=(1, 1, 1), heads=(1, 1, 2), head_widths=(8, 8, 8), num_classes=CLASSES
    )
    one = scoring.scored(config, 0)
    assert set(one.values) == set(SCORES)
    assert one == scoring.scored(config, 0) != scoring.scored(config, 1)
    tiny = Architecture("pit_0", config, MappingProxyType({}), MappingProxyType({}))
    path = tmp_path / "scores.csv"
    here = ThreadPoolExecutor(1)
    monkeypatch.setattr(scoring, "ProcessPoolExecutor", lambda *_, **__: here)
    first = scoring.score_missing([tiny], (0,), path, workers=1)
    here = ThreadPoolExecutor(1)
    monkeypatch.setattr(scoring, "scored", None)  # nothing is left to score
    again = scoring.score_missing([tiny], (0,), path, workers=1)
    assert again.to_dict() == first.to_dict()
    assert float(first["snip"].iloc[0]) == dict(one.values)["snip"]


def test_means_are_over_seeds_that_are_complete() -> None:
    rows = pd.DataFrame(
        [
            {"architecture": name, "seed": seed, **dict.fromkeys(SCORES, value)}
            for name, seed, value in (("a", 0, 1.0), ("b", 0, 2.0), ("a", 1, 5.0))
        ]
    )
    assert scoring.mean_scores(rows, ["b", "a"])["snip"].tolist() == [2.0, 1.0]


# --- what it says -------------------------------------------------------------------------------


@pytest.mark.slow  # scores or learned combinations of many networks
def test_every_reading_of_every_target_is_compared(table: pd.DataFrame) -> None:
    counts = table.groupby(["slice", "target"], sort=False).size()
    assert list(counts.index) == [
        *(("AutoFormer-T", target) for target in TARGETS.values()),
        *(("PiT", target) for target in list(TARGETS.values())[:2]),
    ]
    learned = len(command.FIXED) + 1
    assert set(counts) == {3 + len(SCORES) + learned, 3 + len(SCORES) + learned + 1}
    assert set(table["seeds"]) == {2}
    chosen = table[table["reading"] == CHOSEN]["chosen"]
    assert all(" of 3)" in text for text in chosen)


@pytest.mark.slow  # scores or learned combinations of many networks
def test_the_page_says_plainly_what_is_not_beaten(table: pd.DataFrame) -> None:
    text = page(table)
    assert json.dumps(text)
    for sentence in verdicts(table):
        assert f"- {sentence}" in text
    beaten = table[(table["reading"] == CHOSEN) & (table["gain_low"] > 0)]
    assert text.count(" beats the parameter count") == len(beaten)
    assert text.count(" does not beat the parameter count") == 6 - len(beaten)


@pytest.mark.slow  # scores or learned combinations of many networks
def test_each_panel_draws_each_reading(table: pd.DataFrame) -> None:
    panels = draw(table).axes
    assert len(panels) == 6
    assert [len(panel.get_yticks()) for panel in panels] == list(
        table.groupby(["slice", "target"], sort=False).size()
    )


@pytest.mark.skipif(not (DATA / RESULT).exists(), reason="the table is not kept yet")
def test_the_kept_table_is_of_all_architectures() -> None:
    kept = pd.read_csv(DATA / RESULT)
    assert set(kept["architectures"]) == {100}
    assert np.isfinite(kept[["tau", "gain", "gain_low", "gain_high"]].to_numpy()).all()
