"""The search, with a meter and a pool whose numbers are functions of the variant."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from effvit import ModelConfig, model_cost
from search.engine import Search, read_records
from search.proxy import ProxyRecipe
from search.quantities import Budgets
from search.records import TrialRecord
from search.samplers import SAMPLERS, quiet_optuna
from search.settings import RunSettings
from search.storage import DIRECTIONS, STUDY
from search.workers import Outcome, Trainer, TrainingTask, WorkerDied
from spaces import Space, get_space
from tests.search.fakes import (
    ROUTING,
    FakeMeter,
    FakePool,
    Killed,
    MemoryJournal,
    latency_of,
    result_of,
    run_settings,
    small_space,
)

PUBLISHED = ["sepvit_lite", "sepvit_tiny", "sepvit_small", "sepvit_base"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_optuna()


@pytest.fixture(scope="module")
def space() -> Space:
    return get_space("sepvit")


@dataclasses.dataclass
class Runner:
    """Starts the search on one study again and again, each time with new objects."""

    space: Space
    journal: MemoryJournal = dataclasses.field(default_factory=MemoryJournal)
    seen: list[TrialRecord] = dataclasses.field(default_factory=list)

    @property
    def study(self) -> optuna.Study:
        return optuna.create_study(
            study_name=STUDY,
            storage=JournalStorage(self.journal),
            directions=DIRECTIONS,
            load_if_exists=True,
        )

    def open(self, settings: RunSettings, meter: FakeMeter | None = None) -> Search:
        return Search(settings, self.space, self.study, meter or FakeMeter())

    def __call__(
        self,
        settings: RunSettings,
        meter: FakeMeter | None = None,
        pool: Trainer | None = None,
        after: Callable[[TrialRecord], None] | None = None,
    ) -> Search:
        search = self.open(settings, meter)
        search.run(pool or FakePool(), after or self.seen.append)
        return search


@pytest.fixture
def run(space: Space) -> Runner:
    return Runner(space)


def by_number(search: Search) -> list[TrialRecord]:
    return [search.records[number] for number in sorted(search.records)]


def names_of_published(search: Search) -> list[str]:
    """Names of the published models in the order of their trials that were not cut off."""
    records = [record for record in by_number(search) if record.state != "interrupted"]
    return [record.published for record in records if record.published]


def states(search: Search) -> Counter[str]:
    return Counter(record.state for record in search.records.values())


def is_one_of(configs: list[ModelConfig]) -> Callable[[ModelConfig], bool]:
    names = {config.variant_id for config in configs}
    return lambda config: config.variant_id in names


# --- an undisturbed run -------------------------------------------------------------------------


def test_a_run_does_its_trials_the_published_models_first(run: Runner) -> None:
    search = run(run_settings(trials=11))
    assert sorted(search.records) == list(range(11))
    assert states(search) == {"complete": 11}
    assert [search.records[number].published for number in range(5)] == [*PUBLISHED, ""]
    assert sorted(record.number for record in run.seen) == list(range(11))


def test_a_record_holds_what_was_measured(run: Runner) -> None:
    settings = run_settings(trials=5, seed=3)
    record = run(settings).records[4]
    config, cost = record.model_config, model_cost(record.model_config)
    assert (record.params, record.macs) == (cost.params, cost.macs)
    assert record.activations == cost.activations
    assert record.peak_activation_mb == cost.peak_bytes() / 1e6
    assert record.latency_ms == latency_of(config)
    assert isinstance(settings.search_recipe, ProxyRecipe)
    result = result_of(config, settings.search_recipe, 3)
    assert (record.accuracy, record.relation) == (result.accuracy, result.relation)
    assert (record.proxy_steps, record.proxy_seed, record.proxy_attempts) == (1, 3, 1)
    assert record.seconds is not None
    assert record.seconds >= result.seconds
    assert run.space.decode(run.study.trials[4].params) == config
    assert dict(record.choices) in [dict(c) for c in run.space.encodings(config)]
    assert record.reason == ""


def test_the_study_holds_the_same_as_the_records(run: Runner) -> None:
    search = run(run_settings(trials=7))
    assert {record.number: record for record in read_records(run.study)}.keys() == set(range(7))
    for trial in run.study.trials:
        if trial.state is TrialState.COMPLETE:
            values = search.records[trial.number].values
            assert values is not None
            assert trial.values == list(values)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_no_variant_is_evaluated_twice(run: Runner, sampler: str) -> None:
    run.space = small_space(mlp_ratio=(2, 3, 4), depth_3=(2, 4, 6))
    meter, pool = FakeMeter(), FakePool()
    search = run(run_settings(trials=run.space.size(), sampler=sampler), meter, pool)
    assert search.finished == run.space.size() == 9
    assert len(set(meter.measured)) == len(meter.measured) == 9
    assert len(set(pool.trained)) == len(pool.trained) == 9


def test_longest_trainings_of_a_round_start_first(run: Runner) -> None:
    pool = FakePool()
    search = run(run_settings(trials=8, workers=2), pool=pool)
    macs = {record.variant_id: record.macs or 0 for record in search.records.values()}
    for start in (0, 4):
        trained = [macs[name] for name in pool.trained[start : start + 4]]
        assert trained == sorted(trained, reverse=True)


# --- what goes wrong with a variant -------------------------------------------------------------


def test_failed_trainings_are_recorded_with_their_reason(run: Runner) -> None:
    published = list(run.space.published().values())
    search = run(run_settings(trials=8), pool=FakePool(fails=is_one_of(published[:2])))
    assert states(search) == {"failed": 2, "complete": 6}
    for record in by_number(search)[:2]:
        assert record.reason == "loss is nan at step 3 of 10"
        assert record.latency_ms is not None
        assert record.accuracy is None
        assert run.study.trials[record.number].state is TrialState.FAIL


def test_failed_measurements_are_recorded_and_not_trained(run: Runner) -> None:
    broken = list(run.space.published().values())[:1]
    pool = FakePool()
    search = run(run_settings(trials=6), FakeMeter(fails=is_one_of(broken)), pool)
    record = search.records[0]
    assert (record.state, record.latency_ms) == ("failed", None)
    assert record.reason == "latency: [enforce fail] can't allocate memory"
    assert record.variant_id not in pool.trained
    assert states(search) == {"failed": 1, "complete": 5}


def test_all_variants_may_fail(run: Runner) -> None:
    search = run(run_settings(trials=6), pool=FakePool(fails=lambda config: True))
    assert states(search) == {"failed": 6}


# --- budgets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_no_budget_is_broken_by_a_trained_variant(run: Runner, sampler: str) -> None:
    budgets = Budgets(max_macs=4 * 10**9, max_params=30 * 10**6, max_latency_ms=25.0)
    pool = FakePool()
    search = run(run_settings(trials=24, sampler=sampler, budgets=budgets), pool=pool)
    assert search.finished == 24
    trained = [r for r in search.records.values() if r.variant_id in pool.trained]
    assert len(trained) >= 12
    for record in trained:
        assert (record.macs or 0) <= 4 * 10**9
        assert (record.params or 0) <= 30 * 10**6
        assert (record.latency_ms or 0) <= 25.0
    assert max(r.macs or 0 for r in search.records.values()) <= 4 * 10**9


def test_variants_over_the_latency_budget_are_recorded_and_not_trained(run: Runner) -> None:
    budgets = Budgets(max_latency_ms=20.0)
    pool = FakePool()
    search = run(run_settings(trials=8, budgets=budgets), pool=pool)
    over = [r for r in search.records.values() if (r.latency_ms or 0) > 20]
    assert {"sepvit_tiny", "sepvit_small", "sepvit_base"} <= {r.published for r in over}
    for record in over:
        assert record.state == "infeasible"
        assert record.reason == f"latency {record.latency_ms:.1f} ms is over 20 ms"
        assert record.variant_id not in pool.trained
        assert run.study.trials[record.number].state is TrialState.FAIL


def test_hopeless_variants_are_not_even_measured_once_latency_can_be_guessed(run: Runner) -> None:
    budgets = Budgets(max_latency_ms=20.0)
    search = run(run_settings(trials=36, budgets=budgets))
    latencies = [record.latency_ms or 0 for record in by_number(search)]
    assert sum(ms > 2 * 20 for ms in latencies[:16]) >= 4
    assert max(latencies[16:]) < 2 * 20  # 1.3 x 20 by the guess, which is a little off


def test_published_models_over_the_budget_are_left_out(run: Runner) -> None:
    search = run(run_settings(trials=4, budgets=Budgets(max_params=5 * 10**6)))
    assert list(search.published) == ["sepvit_lite"]
    assert [record.published for record in by_number(search)] == ["sepvit_lite", "", "", ""]


def test_a_space_without_published_models_within_budgets(run: Runner) -> None:
    run.space = get_space("sepvit", 64)
    budgets = Budgets(max_macs=10**9, max_latency_ms=50.0)
    assert states(run(run_settings(trials=3, budgets=budgets))).total() == 3


# --- nothing left -------------------------------------------------------------------------------


def test_an_exhausted_space_ends_the_run_with_all_variants_evaluated(run: Runner) -> None:
    run.space = small_space(mlp_ratio=(2, 3, 4))
    search = run.open(run_settings(trials=50))
    assert not search.run(FakePool(), run.seen.append)
    assert states(search) == {"complete": 3}
    assert len(run.seen) == 3
    again = run.open(run_settings(trials=50))
    assert not again.run(FakePool(), run.seen.append)
    assert again.records.keys() == search.records.keys()
    assert not running(run.study)


# --- stops --------------------------------------------------------------------------------------


def running(study: optuna.Study) -> list[int]:
    return [trial.number for trial in study.trials if trial.state is TrialState.RUNNING]


def check_whole(search: Search, study: optuna.Study, trials: int) -> None:
    """All trials that count are there, no variant twice, nothing is left open."""
    counted = [r.variant_id for r in search.records.values() if r.state != "interrupted"]
    assert len(counted) == len(set(counted)) == trials == search.finished
    assert not running(study)


def same_trials(one: Search, other: Search) -> None:
    """The same variants under the same numbers, with the same results; only times differ."""
    assert [_timeless(record) for record in by_number(one)] == [
        _timeless(record) for record in by_number(other)
    ]


def _timeless(record: TrialRecord) -> str:
    return json.dumps(dataclasses.replace(record, started="", seconds=None).to_dict())


@pytest.mark.parametrize("sampler", ["random", "evolution"])
@pytest.mark.parametrize("done", [0, 1, 3, 4, 6])
def test_a_run_that_dies_in_training_ends_as_if_it_had_not(
    run: Runner, done: int, sampler: str
) -> None:
    settings = run_settings(trials=9, sampler=sampler)
    first = FakePool(dies_after=done)
    with pytest.raises(Killed):
        run(settings, pool=first)
    kept = {r.variant_id: r for r in read_records(run.study) if r.state == "complete"}
    assert len(kept) == done
    second = FakePool()
    search = run(settings, pool=second)
    check_whole(search, run.study, 9)
    assert not set(first.trained[:done]) & set(second.trained)
    same_trials(search, Runner(run.space)(settings))


class DyingPool(FakePool):
    """A pool whose workers die with some variants, the first times that they train them."""

    def __init__(self, deaths: dict[str, int]) -> None:
        super().__init__()
        self._deaths = dict(deaths)

    def _outcome(self, task: TrainingTask) -> Outcome:
        left = self._deaths.get(task.config.variant_id, 0)
        if not left:
            return super()._outcome(task)
        self._deaths[task.config.variant_id] = left - 1
        return WorkerDied("its training process died: SIGKILL")


def test_what_died_with_its_worker_is_proposed_again(run: Runner) -> None:
    first = next(iter(run.space.published().values()))
    search = run(run_settings(trials=6), pool=DyingPool({first.variant_id: 1}))
    check_whole(search, run.study, 6)
    lost, again = (r for r in by_number(search) if r.variant_id == first.variant_id)
    assert (lost.state, again.state) == ("interrupted", "complete")
    assert lost.reason == "its training process died: SIGKILL; proposed again"
    assert run.study.trials[lost.number].state is TrialState.FAIL


def test_what_dies_with_two_workers_has_failed(run: Runner) -> None:
    first = next(iter(run.space.published().values()))
    search = run(run_settings(trials=6), pool=DyingPool({first.variant_id: 2}))
    check_whole(search, run.study, 6)
    died = [r for r in by_number(search) if r.variant_id == first.variant_id]
    assert [r.state for r in died] == ["interrupted", "failed"]
    assert died[1].reason == "its training process died: SIGKILL"
    again = run(run_settings(trials=6))
    assert len(again.records) == len(search.records) == 7


class CutJournal(MemoryJournal):
    """A journal in which the run is cut off before a given write."""

    def __init__(self, lines: list[str], writes: int) -> None:
        super().__init__()
        self.lines = lines
        self._left = writes

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._left == 0:
            raise Killed
        self._left -= 1
        super().append_logs(logs)


def cut_at(run: Runner, write: int, settings: RunSettings) -> bool:
    """Run until so many writes to the study are done; say whether it came to the end before."""
    cut = Runner(run.space, CutJournal(run.journal.lines, write))
    try:
        cut(settings)
    except Killed:
        return False
    return True


def test_a_run_can_die_between_any_two_writes() -> None:
    """Also twice in a row: what a second stop cuts off may be the mending of the first."""
    settings = run_settings(trials=3, workers=1)
    space = small_space(mlp_ratio=(2, 4), depth_3=(4, 6))  # holds SepViT-Lite
    undisturbed = Runner(space)(settings)
    for write in itertools.count(1):
        run = Runner(space)
        whole = cut_at(run, write, settings)
        cut_at(run, 3, settings)
        search = run(settings)
        check_whole(search, run.study, 3)
        assert names_of_published(search) == ["sepvit_lite"]
        same_trials(search, undisturbed)
        if whole:
            break
    assert write > 60  # a trial writes its 17 parameters one by one


def test_a_finished_run_asks_for_nothing(run: Runner) -> None:
    settings = run_settings(trials=6)
    run(settings)
    trials = run.study.trials
    meter, pool = FakeMeter(), FakePool()
    search = run(settings, meter, pool)
    assert (meter.measured, pool.trained) == ([], [])
    assert search.finished == 6
    assert run.study.trials == trials


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_more_trials_continue_as_if_they_had_been_asked_for_at_once(
    run: Runner, sampler: str
) -> None:
    run(run_settings(trials=8, sampler=sampler))
    extended = run(run_settings(trials=16, sampler=sampler))
    check_whole(extended, run.study, 16)
    at_once = Runner(run.space)(run_settings(trials=16, sampler=sampler))
    assert [extended.records[n].variant_id for n in range(16)] == [
        at_once.records[n].variant_id for n in range(16)
    ]


def test_what_a_stop_left_open_is_finished_even_if_fewer_trials_are_asked_for(run: Runner) -> None:
    with pytest.raises(Killed):
        run(run_settings(trials=8), pool=FakePool(dies_after=5))
    search = run(run_settings(trials=2))
    assert not running(run.study)
    assert states(search) == {"complete": 8}


def test_a_stop_while_latency_is_measured(run: Runner) -> None:
    settings = run_settings(trials=6)

    class Stopped(FakeMeter):
        def measure(self, config: ModelConfig) -> object:  # type: ignore[override]
            if len(self.measured) == 2:
                raise KeyboardInterrupt
            return super().measure(config)

    with pytest.raises(KeyboardInterrupt):
        run(settings, Stopped())
    search = run(settings)
    check_whole(search, run.study, 6)
    assert names_of_published(search) == PUBLISHED


def test_trials_of_a_mean_of_tasks_record_each_of_them(space: Space) -> None:
    runner = Runner(space)
    runner(run_settings(tasks=("cue", "routing")))
    complete = [record for record in runner.seen if record.state == "complete"]
    assert complete
    for record in complete:
        assert record.cue_accuracy is not None
        assert record.accuracy == pytest.approx((record.cue_accuracy + ROUTING) / 2)
        assert (record.routing, record.localisation, record.texture) == (ROUTING, None, None)
