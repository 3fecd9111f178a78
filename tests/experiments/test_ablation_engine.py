"""Measuring: what is measured once, what survives a stop, what is missing and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from effvit import model_cost
from effvit.designs.swin import SwinConfig
from experiments.ablation.definition import (
    ALL_MEASURES,
    OFF,
    ON,
    Ablation,
    Factor,
    NotBuilt,
    Row,
    becomes,
    switch,
)
from experiments.ablation.designs import FullFactorial, OneFactor
from experiments.ablation.engine import Instruments, MeasuredRow, Plan, measure
from experiments.ablation.store import Store
from experiments.ablation.subjects import Absent, Blocks, Network
from search.proxy import ProxyRecipe
from tests.experiments.ablation_fakes import (
    LITE,
    PLAN,
    STEPS,
    Fakes,
    StopHere,
    accuracy,
    printed,
    quiet,
)


@pytest.fixture(autouse=True)
def quick_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for all versions takes longer than all else here."""
    here = {"date": "today", "device": "fake", "threads": 1, "torch": "2"}
    monkeypatch.setattr("experiments.ablation.store.environment", lambda: here)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def run(ablation: Ablation, store: Store, fakes: Fakes, plan: Plan = PLAN) -> list[MeasuredRow]:
    return measure(ablation, plan, store, quiet(), fakes.instruments)


def test_every_row_has_costs_latency_and_all_seeds(store: Store) -> None:
    fakes = Fakes()
    rows = run(STEPS, store, fakes, dataclasses.replace(PLAN, workers=2))
    assert [row.row.label for row in rows] == ["DSSA", "+ GSA", "+ learned token"]
    for row in rows:
        config = row.row.subject.config
        assert config is not None
        assert row.costs is not None
        assert row.costs.macs == model_cost(config).macs
        assert row.latency is not None
        assert row.latency.ratio == row.costs.macs / 10**9
        found = {training.seed: training.scores["accuracy"] for training in row.trainings}
        assert found == {seed: accuracy(config, seed) for seed in PLAN.seeds}
        assert not row.missing
    assert fakes.workers == [2]


def test_trainings_go_seed_by_seed(store: Store) -> None:
    """An early stop then leaves as many whole pairs as possible."""
    fakes = Fakes()
    run(STEPS, store, fakes)
    assert [seed for _, seed in fakes.trained] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


# --- once ---------------------------------------------------------------------------------------


def test_a_second_run_measures_nothing(store: Store) -> None:
    first = run(STEPS, store, Fakes())
    fakes = Fakes()
    assert run(STEPS, store, fakes) == first
    assert (fakes.trained, fakes.timed, fakes.workers) == ([], [], [])


def test_equal_networks_are_measured_once_in_an_ablation(store: Store) -> None:
    """Without pointwise attention nothing reads the token: 3 networks in 4 rows."""
    combined = Ablation(
        question="?",
        base=LITE.replace(pointwise_attention="off", window_representation="zero"),
        factors=(
            switch("DSSA", pointwise_attention="multi_window"),
            switch("token", window_representation="learned"),
        ),
        design=FullFactorial(),
    )
    fakes = Fakes()
    rows = run(combined, store, fakes)
    assert len(fakes.trained) == 3 * len(PLAN.seeds)
    assert len(fakes.timed) == 3
    assert rows[0].trainings == rows[1].trainings
    assert rows[0].latency == rows[1].latency


def test_equal_networks_are_measured_once_across_ablations(store: Store) -> None:
    run(STEPS, store, Fakes())
    sweep = Ablation(
        question="?",
        base=LITE,
        factors=(
            Factor("token", {"learned": {}, "average": {"window_representation": "average"}}),
        ),
        design=OneFactor(),
    )
    fakes = Fakes()
    run(sweep, store, fakes)
    average = LITE.replace(window_representation="average").variant_id
    assert fakes.trained == [(average, seed) for seed in PLAN.seeds]
    assert fakes.timed == [average]


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": ProxyRecipe(name="brief", steps=4)},
        {"recipe": ProxyRecipe(name="other", steps=3)},
        {"seeds": (3, 4, 5)},
    ],
)
def test_other_recipes_and_seeds_are_other_trainings(
    store: Store, changed: dict[str, object]
) -> None:
    run(STEPS, store, Fakes())
    fakes = Fakes()
    run(STEPS, store, fakes, dataclasses.replace(PLAN, **changed))  # type: ignore[arg-type]  # by name
    assert len(fakes.trained) == 9
    assert fakes.timed == []


def test_another_protocol_is_another_latency(store: Store) -> None:
    run(STEPS, store, Fakes())
    fakes = Fakes()
    longer = dataclasses.replace(PLAN.protocol, seconds=9.0)
    run(STEPS, store, fakes, dataclasses.replace(PLAN, protocol=longer))
    assert (len(fakes.timed), fakes.trained) == (3, [])


def test_a_noisy_latency_is_measured_again(store: Store) -> None:
    rows = run(STEPS, store, Fakes(noisy=True))
    assert all(row.latency and row.latency.noisy for row in rows)
    fakes = Fakes()
    rows = run(STEPS, store, fakes)
    assert len(fakes.timed) == 3
    assert not any(row.latency and row.latency.noisy for row in rows)


# --- stops and failures -------------------------------------------------------------------------


def test_a_stopped_run_goes_on_where_it_was(store: Store) -> None:
    fakes = Fakes(stop_after=4)
    with pytest.raises(StopHere):
        run(STEPS, store, fakes)
    rest = Fakes()
    run(STEPS, store, rest)
    assert len(rest.trained) == 9 - 4
    assert not set(rest.trained) & set(fakes.trained)
    assert rest.timed == []


@pytest.mark.parametrize("kept", [0, 1, 40, -2])
def test_a_file_cut_short_is_measured_again(tmp_path: Path, kept: int) -> None:
    store = Store(tmp_path)
    before = run(STEPS, store, Fakes())
    for kind in ("trainings", "latency"):
        path = sorted((tmp_path / kind).rglob("*.json"))[0]
        path.write_text(path.read_text()[:kept])
    fakes = Fakes()
    again = run(STEPS, store, fakes)
    assert (len(fakes.trained), len(fakes.timed)) == (1, 1)
    assert [_numbers(row) for row in again] == [_numbers(row) for row in before]


def test_files_of_another_making_are_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(STEPS, store, Fakes())
    training, other = sorted((tmp_path / "trainings").rglob("*.json"))[:2]
    training.write_text('{"training": {"seed": 0}}')
    other.write_text("[]")
    fakes = Fakes()
    run(STEPS, store, fakes)
    assert len(fakes.trained) == 2


def _numbers(row: MeasuredRow) -> tuple[object, ...]:
    """What does not depend on the time of the measurement."""
    scores = [(training.seed, training.scores) for training in row.trainings]
    return row.costs, row.latency and row.latency.ratio, scores


def test_a_failure_is_kept_with_its_reason_and_not_repeated(store: Store) -> None:
    rows = run(STEPS, store, Fakes(failing=frozenset({1})))
    for row in rows:
        assert [t.error for t in row.trainings] == ["", "loss is nan at step 1 of 3", ""]
        assert [bool(t.scores) for t in row.trainings] == [True, False, True]
    fakes = Fakes()
    run(STEPS, store, fakes)
    assert fakes.trained == []


def test_progress_says_what_is_known_and_how_long_the_rest_takes(store: Store) -> None:
    with pytest.raises(StopHere):
        run(STEPS, store, Fakes(stop_after=3))
    console = quiet()
    measure(STEPS, PLAN, store, console, Fakes().instruments)
    lines = printed(console)
    assert "trainings, brief: 3 known, 6 to do, about 6.0 min" in lines  # 60 s each
    assert "trainings, brief 9/9" in lines


# --- second task --------------------------------------------------------------------------------

BOTH_TASKS = dataclasses.replace(STEPS, measures=ALL_MEASURES)


def test_rows_are_trained_on_the_second_task_where_the_ablation_asks_for_it(store: Store) -> None:
    fakes = Fakes()
    rows = run(BOTH_TASKS, store, fakes)
    assert len(fakes.routed) == len(fakes.trained) == 9
    learned = rows[-1].trainings
    # 0.7 + 0.25 of the token, and a hundredth of the seed; both trainings' seconds
    assert [training.scores["routing"] for training in learned] == [0.95, 0.96, 0.97]
    assert [training.scores["relation"] for training in learned] == [0.9] * 3
    assert {training.seconds for training in learned} == {60.0 + 30.0}


def test_the_second_task_is_not_trained_twice_nor_asked_for_elsewhere(store: Store) -> None:
    run(BOTH_TASKS, store, Fakes())
    fakes = Fakes()
    again, without = run(BOTH_TASKS, store, fakes), run(STEPS, store, fakes)
    assert (fakes.trained, fakes.routed) == ([], [])
    assert all("routing" in training.scores for training in again[0].trainings)
    assert all("routing" not in training.scores for training in without[0].trainings)


def test_a_failure_on_the_second_task_is_told_from_one_on_the_first(store: Store) -> None:
    run(STEPS, store, Fakes())
    rows = run(BOTH_TASKS, store, Fakes(failing=frozenset({1})))
    found = rows[0].trainings[1]
    assert found.error == "second task: loss is nan at step 9 of 100"
    assert set(found.scores) == {"accuracy", "relation", "recognition"}


# --- what is missing ----------------------------------------------------------------------------


def test_families_without_a_scaling_rule_have_costs_and_latency_only(store: Store) -> None:
    mixed = Ablation(
        question="?",
        base=SwinConfig(),
        factors=(Factor("SepViT", {OFF: {}, ON: becomes(LITE)}),),
        design=OneFactor(),
    )
    fakes = Fakes()
    swin, sepvit = run(mixed, store, fakes)
    assert "swin" in swin.missing["proxy"]
    assert swin.latency is not None
    assert (swin.trainings, len(sepvit.trainings)) == ((), 3)
    assert len(fakes.trained) == 3


def test_a_stand_in_is_trained_but_neither_costed_nor_timed(store: Store) -> None:
    given = Ablation(question="?", given=(Row("Swin", Network(SwinConfig()), stand_in=LITE),))
    fakes = Fakes()
    (row,) = run(given, store, fakes)
    assert {variant for variant, _ in fakes.trained} == {LITE.variant_id}
    assert fakes.timed == [SwinConfig().variant_id]
    assert row.costs is not None
    assert row.costs.macs == model_cost(SwinConfig()).macs
    assert len(row.trainings) == len(PLAN.seeds)


def test_what_is_not_asked_for_is_not_measured(store: Store) -> None:
    fakes = Fakes()
    rows = run(dataclasses.replace(STEPS, measures=frozenset()), store, fakes)
    assert (fakes.trained, fakes.timed) == ([], [])
    assert all(row.costs and set(row.missing) == {"latency", "proxy"} for row in rows)


def test_parts_of_networks_are_timed_but_not_trained(store: Store) -> None:
    given = Ablation(question="?", given=(Row("two blocks", Blocks(LITE, 1, (0, 1))),))
    (row,) = run(given, store, Fakes())
    whole = model_cost(LITE).by_module(4)
    assert row.costs is not None
    assert row.costs.macs == sum(whole[f"stages.1.blocks.{block}"][1] for block in (0, 1))
    assert row.latency is not None
    assert row.missing == {"proxy": "two blocks is no whole network of this package"}


def test_what_cannot_be_built_is_a_row_with_its_reason(store: Store) -> None:
    def never(_: object) -> SwinConfig:
        raise NotBuilt("there is none")

    given = Ablation(
        question="?",
        base=LITE,
        factors=(Factor("idea", {OFF: {}, ON: never}),),
        design=OneFactor(),
    )
    assert given.rows()[1].subject == Absent("there is none")
    row = run(given, store, Fakes())[1]
    assert (row.costs, row.latency, row.trainings) == (None, None, ())
    assert row.missing == {"latency": "there is none", "proxy": "there is none"}


def test_a_latency_that_does_not_fit_is_missing_with_its_reason(store: Store) -> None:
    given = Ablation(
        question="?",
        given=(Row("huge", Network(LITE.replace(widths=(32_000, 64, 128, 256)))),),
        measures=frozenset({"latency"}),
    )
    (row,) = run(given, store, Fakes())
    assert row.latency is None
    assert row.missing["latency"] == "needs about 9.0 GB, 1.0 GB are available"


def test_the_default_instruments_are_the_searches() -> None:
    names = {field: getattr(Instruments(), field).__name__ for field in ("pool", "meter")}
    assert names == {"pool": "TrainingPool", "meter": "SubjectMeter"}
