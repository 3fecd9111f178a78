"""Finalists: which they are, what is trained of them, and the arithmetic of their rows."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Iterator, Sequence

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effvit import as_config
from search.finalists import (
    FinalRound,
    mean_interval,
    pareto_entries,
    select_finalists,
    share_interval,
)
from search.front import hypervolume, non_dominated
from search.proxy import ProxyRecipe
from search.records import Front, TrialRecord
from search.workers import TrainingTask, TrialScores
from tests.search.fakes import (
    ROUTING,
    SCALE,
    FakePool,
    Killed,
    complete_record,
    result_of,
    small_space,
)

SPACE = small_space(mlp_ratio=(2, 3, 4), depth_3=(4, 6))
CONFIGS = [SPACE.unrank(index) for index in range(SPACE.size())]
RECIPE = ProxyRecipe(name="full", steps=2)
SEEDS = (1, 2, 3)


def record(number: int, accuracy: float, macs: float, latency_ms: float) -> TrialRecord:
    config = CONFIGS[number % len(CONFIGS)]
    return complete_record(number, accuracy, int(macs), latency_ms, config)


def volume(chosen: list[TrialRecord]) -> float:
    values = [r.values for r in chosen]
    return hypervolume([SCALE.losses(v) for v in values if v is not None], Front.REFERENCE)


# --- which --------------------------------------------------------------------------------------

VALUES = st.tuples(st.floats(0.1, 0.9), st.floats(2e6, 9e9), st.floats(0.2, 900))


@given(st.lists(VALUES, min_size=1, max_size=9), st.integers(1, 4))
def test_each_choice_adds_the_most_hypervolume(
    values: list[tuple[float, float, float]], count: int
) -> None:
    records = [record(number, *value) for number, value in enumerate(values)]
    chosen = select_finalists(records, SCALE, count)
    losses = [SCALE.losses(v) for r in records if (v := r.values) is not None]
    front = [r for r, keep in zip(records, non_dominated(losses), strict=True) if keep]
    assert len(chosen) == min(count, len(front))
    assert all(r in front for r in chosen)
    for index, taken in enumerate(chosen):
        before = chosen[:index]
        gains = [volume([*before, r]) for r in front if r not in before]
        assert volume([*before, taken]) == max(gains)


def test_only_complete_trials_are_finalists() -> None:
    failed = record(1, 0.9, 1e7, 1.0)
    failed.state = "failed"
    kept = record(0, 0.5, 1e9, 10.0)
    assert select_finalists([kept, failed], SCALE, 5) == [kept]
    assert select_finalists([failed], SCALE, 5) == []
    assert select_finalists([], SCALE, 5) == []


def test_published_models_are_compared_even_off_the_front() -> None:
    best, published = record(0, 0.9, 1e7, 1.0), record(1, 0.5, 1e9, 10.0)
    published.published = "sepvit_lite"
    assert select_finalists([best, published], SCALE, 1) == [best, published]
    assert select_finalists([best, published], SCALE, 0) == []
    best.published = "sepvit_tiny"
    assert select_finalists([best, published], SCALE, 1) == [best, published]


# --- training -----------------------------------------------------------------------------------


def final_round(study: optuna.Study) -> FinalRound:
    return FinalRound(study, RECIPE, SEEDS)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


@pytest.fixture
def finalists() -> list[TrialRecord]:
    return [record(0, 0.6, 1e8, 5.0), record(1, 0.7, 2e8, 6.0), record(2, 0.8, 4e8, 9.0)]


def test_each_finalist_is_trained_with_each_seed_the_longest_first(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    pairs = final_round(study).missing(finalists)
    expected = itertools.product(reversed(finalists), SEEDS)
    assert [(r.number, seed) for r, seed in pairs] == [(r.number, seed) for r, seed in expected]


def test_a_stopped_round_goes_on_with_what_is_missing(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    steps: list[None] = []
    first, second = FakePool(dies_after=4), FakePool()
    with pytest.raises(Killed):
        final_round(study).run(finalists, first, lambda: steps.append(None))
    assert len(steps) == 4
    final_round(study).run(finalists, second, lambda: steps.append(None))
    assert len(first.trained) + len(second.trained) == len(finalists) * len(SEEDS) == len(steps)
    assert final_round(study).missing(finalists) == []
    straight = optuna.create_study()
    final_round(straight).run(finalists, FakePool(), lambda: None)
    rows = [final_round(each).rows(finalists, SCALE) for each in (study, straight)]
    assert rows[0] == rows[1]


def test_another_recipe_is_trained_anew(study: optuna.Study, finalists: list[TrialRecord]) -> None:
    final_round(study).run(finalists, FakePool(), lambda: None)
    longer = ProxyRecipe(name="full", steps=3)
    assert len(FinalRound(study, longer, SEEDS).missing(finalists)) == 9
    assert len(FinalRound(study, RECIPE, (*SEEDS, 4)).missing(finalists)) == 3


# --- rows ---------------------------------------------------------------------------------------


def test_rows_hold_means_and_spreads_over_seeds(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    final_round(study).run(finalists, FakePool(), lambda: None)
    rows = final_round(study).rows(finalists[::-1], SCALE)
    assert [row["number"] for row in rows] == [0, 1, 2]  # cheapest first
    row = rows[1]
    results = [result_of(finalists[1].model_config, RECIPE, seed) for seed in SEEDS]
    tests = [result_of(finalists[1].model_config, RECIPE, seed, "test") for seed in SEEDS]
    accuracies = [result.accuracy for result in results]
    mean, sd = statistics.fmean(accuracies), statistics.stdev(accuracies)
    assert (row["accuracy"], row["accuracy_sd"]) == pytest.approx((mean, sd))
    half = 4.302652729911275 * sd / math.sqrt(3)  # Student's t, 97.5 %, 2 degrees of freedom
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((mean - half, mean + half))
    assert row["test_accuracy"] == pytest.approx(statistics.fmean(t.accuracy for t in tests))
    assert (row["relation"], row["relation_sd"]) == pytest.approx((0.7, 0.0))
    assert (row["recognition"], row["recognition_sd"]) == pytest.approx((0.6, 0.0))
    assert (row["routing"], row["routing_sd"]) == (ROUTING, 0.0)
    assert (row["seeds"], row["found"]) == (3, 3)
    assert (row["latency_ms"], row["latency_low_ms"]) == (6.0, pytest.approx(5.4))
    assert as_config(json.loads(row["config"])) == finalists[1].model_config


def test_of_a_mean_of_tasks_the_rows_hold_each_task(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    final = FinalRound(study, RECIPE, SEEDS, tasks=("cue", "routing", "texture"))
    final.run(finalists, FakePool(), lambda: None)
    row = final.rows(finalists, SCALE)[0]
    cues = [result_of(finalists[0].model_config, RECIPE, seed).accuracy for seed in SEEDS]
    tests = [result_of(finalists[0].model_config, RECIPE, s, "test").accuracy for s in SEEDS]
    assert row["cue_accuracy"] == pytest.approx(statistics.fmean(cues))
    assert row["routing"] == row["texture"] == ROUTING
    assert row["localisation"] is None
    assert row["accuracy"] == pytest.approx((statistics.fmean(cues) + 2 * ROUTING) / 3)
    assert row["test_accuracy"] == pytest.approx((statistics.fmean(tests) + 2 * ROUTING) / 3)


def test_finalists_of_an_older_version_have_no_second_task(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    final_round(study).run(finalists, FakePool(), lambda: None)
    for key, values in study.user_attrs.items():
        kept = {name: value for name, value in values.items() if name != "routing"}
        study.set_user_attr(key, kept)
    row = final_round(study).rows(finalists, SCALE)[0]
    assert (row["routing"], row["routing_sd"]) == (None, None)
    assert row["test_accuracy"] is not None


def test_front_is_that_of_the_means(study: optuna.Study) -> None:
    accuracies = [
        statistics.fmean(result_of(config, RECIPE, seed).accuracy for seed in SEEDS)
        for config in CONFIGS[:3]
    ]
    # Each costs more than the one before, so it is on the front if it is better than all before.
    finalists = [record(n, 0.1 * n, 1e8 * (n + 1), 5.0 + n) for n in range(3)]
    final_round(study).run(finalists, FakePool(), lambda: None)
    rows = final_round(study).rows(finalists, SCALE)
    expected = [all(a < accuracies[n] for a in accuracies[:n]) for n in range(3)]
    assert [row["on_front"] for row in rows] == expected
    entries = list(pareto_entries(rows))
    assert [entry["number"] for entry in entries] == [n for n in range(3) if expected[n]]
    assert as_config(entries[0]["config"]) == finalists[entries[0]["number"]].model_config


def test_trainings_that_failed_are_left_out_and_not_repeated(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    broken = finalists[0].variant_id
    pool = FakePool(fails=lambda config: config.variant_id == broken)
    final_round(study).run(finalists, pool, lambda: None)
    assert [row["number"] for row in final_round(study).rows(finalists, SCALE)] == [1, 2]
    assert final_round(study).missing(finalists) == []


def test_a_task_without_a_relation_leaves_its_columns_empty(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    class OnImages:
        def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, TrialScores]]:
            for index, task in enumerate(tasks):
                accuracy, seed = 0.5 + task.seed / 10, task.seed
                yield (
                    index,
                    TrialScores(
                        accuracy=accuracy, test_accuracy=0.4, steps=3, seed=seed, seconds=1.0
                    ),
                )

    final_round(study).run(finalists, OnImages(), lambda: None)
    row = final_round(study).rows(finalists, SCALE)[0]
    assert row["accuracy"] == pytest.approx(0.5 + statistics.fmean(SEEDS) / 10)
    assert row["test_accuracy"] == pytest.approx(0.4)
    for name in ("relation", "relation_sd", "recognition", "recognition_sd", "found"):
        assert row[name] is None


def test_failures_are_counted_by_their_reason(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    broken = finalists[0].variant_id
    pool = FakePool(fails=lambda config: config.variant_id == broken)
    final_round(study).run(finalists, pool, lambda: None)
    assert final_round(study).failures(finalists) == {
        "loss is nan at step 3 of 10": len(SEEDS),
    }


def test_another_test_part_is_looked_at_anew(
    study: optuna.Study, finalists: list[TrialRecord]
) -> None:
    final_round(study).run(finalists, FakePool(), lambda: None)
    assert len(FinalRound(study, RECIPE, SEEDS, "test").missing(finalists)) == 9


def test_no_finalists_no_rows(study: optuna.Study) -> None:
    final_round(study).run([], FakePool(), lambda: None)
    assert final_round(study).rows([], SCALE) == []


def test_interval_needs_two_values_and_has_no_width_for_equal_ones() -> None:
    assert mean_interval([0.5]) == (None, None)
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5)
    low, high = mean_interval([0.4, 0.6])
    # t(97.5 %, 1) = 12.706, sd = 0.1 sqrt(2), half = 12.706 x 0.1
    assert (low, high) == pytest.approx((0.5 - 1.2706205, 0.5 + 1.2706205))


def test_the_interval_of_a_share_stays_within_what_a_share_can_be() -> None:
    low, high = mean_interval([0.88, 0.98])
    assert low is not None
    assert high is not None
    assert high > 1
    assert share_interval([0.88, 0.98]) == (low, 1.0)
    assert share_interval([0.02, 0.12])[0] == 0.0
    assert share_interval([0.5]) == (None, None)
