"""Rungs: who goes on, what it costs, and that a run with rungs stops and resumes like any other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from effvit import ConfigError
from search.datasets import DataSettings
from search.engine import Search
from search.fidelities import FIDELITIES, Fidelities, Rung, best_first, check_fidelities, promoted
from search.front import layers
from search.records import TrialRecord
from search.settings import RunSettings
from search.storage import DIRECTIONS, STUDY
from search.train.recipe import SMALL
from search.workers import AnyTrainer, TrainingTask, TrialScores, training_length
from spaces import get_space
from tests.search.fakes import FakeMeter, FakePool, Killed, MemoryJournal, run_settings, share

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
    assert promoted(members, [], Rung(30), reduction=2) == {2, 3}
    assert promoted(members, [], Rung(30), reduction=4) == {3}
    assert promoted(members[:3], [], Rung(30), reduction=2) == {1, 2}
    published = [record(9, 0.1, 100, published="sepvit_lite")]
    assert promoted([*members, *published], [], Rung(30), reduction=5) == {3, 9}


def test_earlier_brackets_set_the_standard_but_do_not_compete() -> None:
    strong, cheap = record(2, 0.6, 100), record(3, 0.5, 10)
    # Both are on the front: the first.
    assert promoted([strong, cheap], [], Rung(30), reduction=2) == {2}
    better_than_strong = record(0, 0.7, 90)
    assert promoted([strong, cheap], [better_than_strong], Rung(30), reduction=2) == {3}


# --- settings -----------------------------------------------------------------------------------


def test_steps_of_rungs_are_shares_of_the_whole() -> None:
    rungs = Fidelities(rungs=(0.25, 0.5), purpose="")
    assert rungs.steps(120) == (30, 60)
    assert rungs.steps(4) == (1, 2)
    assert rungs.steps(2) == (1,)  # a quarter rounds to nothing
    assert rungs.steps(1) == ()
    assert Fidelities(rungs=(0, 0.5), purpose="").steps(120) == (0, 60)


def test_sizes_of_smaller_images_are_shares_of_both_sides() -> None:
    kind = Fidelities(rungs=(0,), sides=(0.25, 0.5), purpose="")
    assert kind.smaller((160, 224)) == ((40, 56), (80, 112))
    rungs = kind.placed(3, (160, 224))
    assert rungs == (Rung(0), Rung(3, (40, 56)), Rung(3, (80, 112)))
    assert [rung.name for rung in rungs] == ["0", "40x56", "80x112"]
    assert FIDELITIES["halving"].placed(120, None) == (Rung(30), Rung(60))


def test_smaller_images_need_images_and_room() -> None:
    kind = FIDELITIES["resolution"]
    assert kind.smaller((64, 66)) == ((32, 33),)
    with pytest.raises(ConfigError, match=r"at least 32 pixels, got 48x31 of 96x62 \(.*: 64\)"):
        kind.smaller((96, 62))
    with pytest.raises(ConfigError, match="need a data set: give --data"):
        kind.placed(10, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rungs": (), "sides": (0.5, 0.25)}, "sides must be ascending shares"),
        ({"rungs": (), "sides": (1.0,)}, "above 0 to below 1"),
        ({"rungs": (), "sides": (0.0,)}, "above 0 to below 1"),
        ({"sides": (0.5,)}, "does not pause, got rungs"),
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


def search(journal: MemoryJournal, pool: AnyTrainer, settings: RunSettings = SETTINGS) -> Search:
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
    assert promoted([cheap, dear], [], Rung(0), reduction=2) == {0}


# --- smaller images -----------------------------------------------------------------------------


IMAGES = dataclasses.replace(
    SETTINGS,
    fidelities="resolution",
    data=DataSettings(source="photos"),
    data_resolution=(64, 96),
    search_recipe=SMALL.shortened(2),
)


class ImagePool:
    """Trains on images without training, and notes on which.

    Args:
        dies_after: After so many trainings in all, the run is cut off.
    """

    def __init__(self, dies_after: int | None = None) -> None:
        self._dies_after = dies_after
        self.trained: list[tuple[str, tuple[int, int]]] = []

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, TrialScores]]:
        for index, task in enumerate(tasks):
            if len(self.trained) == self._dies_after:
                raise Killed
            assert task.rung is None
            assert task.memory is None
            size = task.resolution or (64, 96)
            self.trained.append((task.config.variant_id, size))
            accuracy = share(task.config, str(size))
            scores = TrialScores(accuracy=accuracy, resolution=size, steps=2, seed=1, seconds=1.5)
            yield index, scores


def test_smaller_images_decide_who_is_trained_with_whole_ones() -> None:
    pool = ImagePool()
    ended = list(search(MemoryJournal(), pool, IMAGES).records.values())
    small = {variant for variant, size in pool.trained if size == (32, 48)}
    whole = {variant for variant, size in pool.trained if size == (64, 96)}
    assert small == {record.variant_id for record in ended}
    assert whole == {record.variant_id for record in ended if record.state == "complete"}
    kind = FIDELITIES["resolution"]
    published = sum(bool(record.published) for record in ended)
    assert len(whole) <= 40 / kind.bracket * math.ceil(kind.bracket / kind.reduction) + published
    for record in ended:
        done = record.state == "complete"
        assert record.rungs == {"32x48": share(record.model_config, "(32, 48)")}
        assert record.proxy_resolution == ("64x96" if done else "32x48")
        assert record.proxy_seconds == (3.0 if done else 1.5)
        if done:
            assert record.accuracy == share(record.model_config, "(64, 96)")
        else:
            assert (record.state, record.accuracy) == ("pruned", None)
            assert record.reason == (
                "not promoted after a training with images of 32x48 in the place of 64x96"
            )


@pytest.mark.parametrize("trainings", [0, 5, 8, 10, 30])
def test_a_run_with_smaller_images_that_dies_ends_as_if_it_had_not(trainings: int) -> None:
    journal = MemoryJournal()
    with pytest.raises(Killed):
        search(journal, ImagePool(dies_after=trainings), IMAGES)
    undisturbed = search(MemoryJournal(), ImagePool(), IMAGES)
    assert summary(search(journal, ImagePool(), IMAGES)) == summary(undisturbed)


def test_samplers_see_trials_without_values_as_pruned() -> None:
    journal = MemoryJournal()
    ended = search(journal, FakePool())
    study = optuna.load_study(study_name=STUDY, storage=JournalStorage(journal))
    states = {trial.number: trial.state for trial in study.trials}
    for number, record in ended.records.items():
        pruned = record.state == "pruned"
        assert states[number] is (TrialState.PRUNED if pruned else TrialState.COMPLETE)
