"""Rungs: who goes on, what it costs, and that a run with rungs stops and resumes like any other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from effvit import ConfigError
from search.engine import Search
from search.fidelities import FIDELITIES, Fidelities, best_first, check_fidelities, promoted
from search.front import layers
from search.records import TrialRecord
from search.settings import RunSettings
from search.storage import DIRECTIONS, STUDY
from search.workers import training_length
from spaces import get_space
from tests.search.fakes import FakeMeter, FakePool, Killed, MemoryJournal, run_settings

points = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=20)


def record(number: int, accuracy: float, macs: int, published: str = "") -> TrialRecord:
    return TrialRecord(
        number=number,
        published=published,
        macs=macs,
        latency_ms=float(macs),
        rungs={"30": accuracy},
    )


# --- who goes on --------------------------------------------------------------------------------


@given(points)
def test_lower_ranks_come_first(values: list[tuple[int, int, int]]) -> None:
    losses = np.array(values, dtype=np.float64)
    order = best_first(losses)
    assert sorted(order.tolist()) == list(range(len(values)))
    ranks = layers(losses)[order]
    assert (np.diff(ranks) >= 0).all()


def test_of_a_layer_the_loneliest_come_first() -> None:
    line = np.array([[0.0, 4.0], [1.0, 3.0], [1.1, 2.9], [4.0, 0.0]])
    # Both ends are infinitely lonely; 1's neighbours are nearer (1.1 + 1.1) than 2's (3 + 3).
    assert best_first(line).tolist() == [0, 3, 2, 1]


def test_one_of_so_many_goes_on_and_published_models_do() -> None:
    members = [record(n, accuracy=0.5 + 0.1 * n, macs=100) for n in range(4)]
    assert promoted(members, [], 30, reduction=2) == {2, 3}
    assert promoted(members, [], 30, reduction=4) == {3}
    assert promoted(members[:3], [], 30, reduction=2) == {1, 2}
    published = [record(9, 0.1, 100, published="sepvit_lite")]
    assert promoted([*members, *published], [], 30, reduction=5) == {3, 9}


def test_earlier_brackets_set_the_standard_but_do_not_compete() -> None:
    strong, cheap = record(2, 0.6, 100), record(3, 0.5, 10)
    assert promoted([strong, cheap], [], 30, reduction=2) == {2}  # both on the front: the first
    better_than_strong = record(0, 0.7, 90)
    assert promoted([strong, cheap], [better_than_strong], 30, reduction=2) == {3}


# --- settings -----------------------------------------------------------------------------------


def test_steps_of_rungs_are_shares_of_the_whole() -> None:
    rungs = Fidelities(rungs=(0.25, 0.5), purpose="")
    assert rungs.steps(120) == (30, 60)
    assert rungs.steps(4) == (1, 2)
    assert rungs.steps(2) == (1,)  # a quarter rounds to nothing
    assert rungs.steps(1) == ()
    assert Fidelities(rungs=(0, 0.5), purpose="").steps(120) == (0, 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rungs": (0.5, 0.25)}, "ascending shares"),
        ({"rungs": (1.0,)}, "0 to below 1"),
        ({"rungs": (-0.1,)}, "0 to below 1"),
        ({"reduction": 1.0}, "reduction must be above 1, got 1.0"),
        ({"bracket": 0}, "bracket must be at least 1, got 0"),
    ],
)
def test_settings_that_break_a_rule(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(FIDELITIES["halving"], **change)  # type: ignore[arg-type]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown fidelities 'halv'; did you mean 'halving'"):
        check_fidelities("halv")


# --- runs ---------------------------------------------------------------------------------------


SETTINGS = run_settings(trials=40, fidelities="halving")
RUNGS = FIDELITIES["halving"].steps(training_length(SETTINGS.search_recipe))


def search(journal: MemoryJournal, pool: FakePool, settings: RunSettings = SETTINGS) -> Search:
    study = optuna.create_study(
        study_name=STUDY,
        storage=JournalStorage(journal),
        directions=DIRECTIONS,
        load_if_exists=True,
    )
    opened = Search(settings, get_space("sepvit"), study, FakeMeter())
    opened.run(pool, lambda record: None)
    return opened


@pytest.fixture(scope="module")
def undisturbed() -> Search:
    return search(MemoryJournal(), FakePool())


def summary(run: Search) -> list[tuple[object, ...]]:
    return [
        (r.number, r.state, r.variant_id, r.rungs, r.values, r.round, r.proxy_steps)
        for _, r in sorted(run.records.items())
    ]


def test_few_are_trained_in_full_and_all_have_an_end(undisturbed: Search) -> None:
    ended = list(undisturbed.records.values())
    assert len(ended) == 40
    assert {record.state for record in ended} == {"complete", "pruned"}
    first = [r for r in ended if r.round == 0]
    assert len(first) == FIDELITIES["halving"].bracket
    unpublished = [r for r in first if not r.published]
    assert sum(r.state == "complete" for r in unpublished) <= len(first) / 2 ** len(RUNGS)
    for record in ended:
        assert list(record.rungs)[:1] == [str(RUNGS[0])]
        if record.published:
            assert record.state == "complete"
        if record.state == "pruned":
            assert record.proxy_steps == int(list(record.rungs)[-1])
            assert record.reason == f"not promoted after {record.proxy_steps} of 100 steps"
            assert record.values is None


@pytest.mark.parametrize("trainings", [0, 5, 16, 20, 27, 40])
def test_a_run_with_rungs_that_dies_ends_as_if_it_had_not(
    undisturbed: Search, trainings: int
) -> None:
    journal = MemoryJournal()
    with pytest.raises(Killed):
        search(journal, FakePool(dies_after=trainings))
    assert summary(search(journal, FakePool())) == summary(undisturbed)


SCREENING = dataclasses.replace(SETTINGS, fidelities="screening")


def test_before_any_training_costs_decide_who_is_trained() -> None:
    pool = FakePool()
    ended = list(search(MemoryJournal(), pool, SCREENING).records.values())
    trained = {record.variant_id for record in ended if record.state == "complete"}
    assert set(pool.trained) == trained
    left_out = [record for record in ended if record.state == "pruned"]
    assert len(left_out) + len(trained) == 40
    kind = FIDELITIES["screening"]
    brackets = 40 / kind.bracket
    published = sum(bool(record.published) for record in ended)
    assert len(trained) <= brackets * math.ceil(kind.bracket / kind.reduction) + published
    for record in left_out:
        assert record.proxy_seconds is None
        assert record.reason == "not trained: MACs and latency of others promised more"


@pytest.mark.parametrize("trainings", [0, 3, 7])
def test_a_screened_run_that_dies_ends_as_if_it_had_not(trainings: int) -> None:
    journal = MemoryJournal()
    with pytest.raises(Killed):
        search(journal, FakePool(dies_after=trainings), SCREENING)
    undisturbed = search(MemoryJournal(), FakePool(), SCREENING)
    assert summary(search(journal, FakePool(), SCREENING)) == summary(undisturbed)


def test_costs_alone_order_what_is_not_trained() -> None:
    cheap, dear = record(0, 0.0, 100), record(1, 0.9, 200)
    for each in (cheap, dear):
        each.rungs = {"0": 0.0}
    assert promoted([cheap, dear], [], 0, reduction=2) == {0}


def test_samplers_see_trials_without_values_as_pruned() -> None:
    journal = MemoryJournal()
    ended = search(journal, FakePool())
    study = optuna.load_study(study_name=STUDY, storage=JournalStorage(journal))
    states = {trial.number: trial.state for trial in study.trials}
    for number, record in ended.records.items():
        pruned = record.state == "pruned"
        assert states[number] is (TrialState.PRUNED if pruned else TrialState.COMPLETE)
