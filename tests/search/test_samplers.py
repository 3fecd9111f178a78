"""What holds for every sampler: a new one adds a row to the table and inherits all of this."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from effvit import ConfigError, ModelConfig, model_config, model_cost, model_costs
from search.samplers import (
    SAMPLERS,
    GuardedSampler,
    Setting,
    SpaceExhaustedError,
    quiet_optuna,
    sampler_kind,
    within,
)
from search.samplers.bulk import Known, Numbered
from search.samplers.setting import unlimited
from search.settings import KNOWN
from search.storage import DIRECTIONS
from spaces import Space, get_space
from tests.search.blas import blas_threads
from tests.search.fakes import MemoryJournal, latency_of, share, small_space

TRIALS = 20
"""More than the even design of the workbench's own samplers and the random one of Optuna's."""

FEWER_TRIALS = {"gp": 14}
"""Of a sampler that takes seconds a proposal: still more than its random ones, which are ten."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_optuna()


@pytest.fixture(scope="module")
def space() -> Space:
    """More variants than any test evaluates, and choices that make none or the same."""
    return small_space(
        width_1=(32, 64, 96),
        width_2=(64, 128),
        width_3=(128, 192, 256),
        depth_2=(1, 2, 3),
        window_size=(7, 14),
        attention_4=("dssa", "gsa"),
        window_representation=("learned", "zero", "none"),
        head_width=(32, 64),
    )


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in FEWER_TRIALS else [])
        for name in SAMPLERS
    ]
)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trials(name: str) -> int:
    return FEWER_TRIALS.get(name, TRIALS)


class Run:
    """A study whose values are functions of the variant, on any storage."""

    def __init__(
        self,
        name: str,
        space: Space,
        storage: BaseStorage,
        seed: int = 0,
        max_macs: int | None = None,
    ) -> None:
        self.space = space
        setting = Setting(space, lambda pool: within(pool, max_macs, None), seed, KNOWN)
        self.sampler = SAMPLERS[name].make(setting)
        self.study = optuna.create_study(
            study_name="s",
            storage=storage,
            directions=DIRECTIONS,
            sampler=self.sampler,
            load_if_exists=True,
        )

    def ask(self) -> tuple[optuna.Trial, ModelConfig]:
        trial = self.study.ask()
        return trial, self.space.suggest(trial)

    def tell(self, trial: optuna.Trial, config: ModelConfig) -> None:
        if share(config, "fails") < 0.1:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            values = (share(config), float(model_cost(config).macs), latency_of(config))
            self.study.tell(trial, values)

    def go_on(self, trials: int) -> list[ModelConfig]:
        """Evaluate two at a time."""
        found = []
        for _ in range(trials // 2):
            asked = [self.ask() for _ in range(2)]
            for trial, config in asked:
                self.tell(trial, config)
                found.append(config)
        return found


def test_proposals_are_members_within_the_budget_and_never_repeat(
    name: str, space: Space, trials: int
) -> None:
    budget = int(np.median(model_costs(space.sample_many(np.random.default_rng(1), 100)).macs))
    found = Run(name, space, InMemoryStorage(), max_macs=budget).go_on(trials)
    assert all(space.contains(config) for config in found)
    assert all(config == config.canonical() for config in found)
    assert max(model_cost(config).macs for config in found) <= budget
    assert len({config.variant_id for config in found}) == len(found) == trials


def test_same_seed_same_proposals_and_another_seed_others(
    name: str, space: Space, trials: int
) -> None:
    first = Run(name, space, InMemoryStorage(), seed=1).go_on(trials)
    assert Run(name, space, InMemoryStorage(), seed=1).go_on(trials) == first
    other = Run(name, space, InMemoryStorage(), seed=2).go_on(trials)
    assert {c.variant_id for c in other} != {c.variant_id for c in first}


def test_a_resumed_study_goes_on_as_if_it_had_never_stopped(
    name: str, space: Space, trials: int
) -> None:
    straight = Run(name, space, InMemoryStorage()).go_on(trials)
    resumed: list[ModelConfig] = []
    journal = MemoryJournal()
    for part in (4, trials - 6, 2):  # each part with new objects, as in a new process
        resumed += Run(name, space, JournalStorage(journal)).go_on(part)
    assert resumed == straight


def test_two_workers_that_share_a_study_never_meet(name: str, space: Space, trials: int) -> None:
    """Each has objects of its own, as in processes of their own, and asks while the other works."""
    journal = MemoryJournal()
    workers = [Run(name, space, JournalStorage(journal)) for _ in range(2)]
    found = []
    for _ in range(trials // 2):
        asked = [worker.ask() for worker in workers]
        for worker, (trial, config) in zip(workers, asked, strict=True):
            worker.tell(trial, config)
            found.append(config)
    assert len({config.variant_id for config in found}) == trials


def test_what_is_enqueued_comes_first_and_unchanged(name: str, space: Space) -> None:
    run = Run(name, space, InMemoryStorage())
    queued = space.sample_many(np.random.default_rng(5), 4)
    for config in queued:
        run.study.enqueue_trial(space.encode(config))
    assert run.go_on(4) == queued
    assert not {*run.go_on(4)} & {*queued}
    assert all(run.sampler.has_seen(config) for config in queued)


def test_a_small_space_is_exhausted_to_the_last_variant(name: str) -> None:
    space = small_space(mlp_ratio=(2, 3, 4), depth_3=(4, 6))
    run = Run(name, space, InMemoryStorage())
    found = run.go_on(space.size())
    every = {space.unrank(index).variant_id for index in range(space.size())}
    assert {config.variant_id for config in found} == every
    with pytest.raises(SpaceExhaustedError, match="no variant within the budgets is left"):
        run.go_on(2)


def test_a_budget_that_almost_nothing_meets_is_met(name: str) -> None:
    space = get_space("sepvit")
    drawn = space.sample_many(np.random.default_rng(1), 2000)
    budget = int(np.sort(model_costs(drawn).macs)[2])  # about one in a thousand
    found = Run(name, space, InMemoryStorage(), max_macs=budget).go_on(2)
    assert max(model_cost(config).macs for config in found) <= budget


@pytest.mark.parametrize("name", ["surrogate", "evolution"])
def test_a_start_within_tight_budgets_still_covers_their_range(name: str) -> None:
    """Where the first pool holds too few affordable networks, a larger one is drawn."""
    space = get_space("sepvit")
    macs = np.sort(space.costs(space.draw(np.random.default_rng(1), 400_000)).macs)
    budget = int(macs[160])  # the first pool, of 2,000 or 4,000, holds one or two
    middle = np.sqrt(float(macs[0]) * budget)
    assert (macs < middle).sum() <= 160 / 12  # of 12 uniform draws one would be
    found = Run(name, space, InMemoryStorage(), max_macs=budget).go_on(12)
    costs = np.array([model_cost(config).macs for config in found])
    assert costs.max() <= budget
    assert (costs < middle).sum() >= 12 / 3


@pytest.mark.parametrize("name", ["surrogate", "evolution"])
def test_a_resumed_run_begins_the_same_though_more_is_known_of_the_budgets(
    name: str, space: Space
) -> None:
    """As of latency, which is guessed once some are measured: after a sampler has been made."""
    limit = int(np.median(space.costs(np.arange(space.size())).macs))

    def go_on(storage: BaseStorage, known: int, trials: int) -> list[ModelConfig]:
        limits: list[int | None] = [None]
        setting = Setting(space, lambda pool: within(pool, limits[-1], None), 0, KNOWN)
        sampler = SAMPLERS[name].make(setting)
        study = optuna.create_study(
            study_name="s",
            storage=storage,
            directions=DIRECTIONS,
            sampler=sampler,
            load_if_exists=True,
        )
        found = []
        for number in range(known, known + trials):
            limits.append(limit if number >= 4 else None)
            trial = study.ask()
            found.append(space.suggest(trial))
            study.tell(trial, state=TrialState.FAIL)
        return found

    journal = MemoryJournal()
    resumed = go_on(JournalStorage(journal), 0, 4) + go_on(JournalStorage(journal), 4, 6)
    assert resumed == go_on(InMemoryStorage(), 0, 10)


def test_a_budget_that_nothing_meets_is_an_error() -> None:
    space = small_space(mlp_ratio=(2, 4))
    run = Run("random", space, InMemoryStorage(), max_macs=1000)
    with pytest.raises(SpaceExhaustedError):
        run.go_on(2)


def test_invalid_proposals_are_not_passed_on() -> None:
    """Independent draws of all axes are invalid often; the guard is what makes them valid."""
    space = get_space("sepvit")
    raw = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    invalid = 0
    for _ in range(50):
        trial = raw.ask(space.distributions())
        invalid += bool(space.violations(trial.params))
    assert invalid > 10
    assert len(Run("random", space, InMemoryStorage()).go_on(50)) == 50


class Stubborn(optuna.samplers.RandomSampler):
    """Proposes one variant, whatever it is asked."""

    def __init__(self, space: Space, asked: list[int]) -> None:
        super().__init__()
        self.only = space.unrank(0)
        self._space, self._asked = space, asked

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._asked.append(trial.number)
        return self._space.encode(self.only)


def test_a_stubborn_sampler_is_asked_so_often_then_a_neighbour_is_taken(space: Space) -> None:
    asked: list[int] = []
    stubborn = Stubborn(space, asked)
    setting = Setting(space, unlimited, 0, KNOWN)
    sampler = GuardedSampler(setting, lambda _: stubborn, patience=4)
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    first, second = (space.suggest(study.ask()) for _ in range(2))
    assert first == stubborn.only
    assert second in space.neighbours(first)
    assert asked == [0, 1, 1, 1, 1]


def test_low_discrepancy_sequence_is_one_sequence(space: Space) -> None:
    """Sobol points of one scrambling fill halves evenly; points of many would be random draws."""
    run = Run("qmc", space, InMemoryStorage())
    seeds = []
    for _ in range(3):
        run.tell(*run.ask())
        assert isinstance(run.sampler, GuardedSampler)
        inner = run.sampler._inner
        assert isinstance(inner, optuna.samplers.QMCSampler)
        seeds.append(inner._seed)
    assert len(set(seeds)) == 1


# --- what the study holds -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["surrogate", "evolution", "tpe", "random"])
def test_a_trial_that_is_cut_off_and_queued_again_changes_nothing(name: str, space: Space) -> None:
    """Trial numbers shift by the one that was cut off; proposals do not depend on them."""
    straight = Run(name, space, InMemoryStorage()).go_on(TRIALS)
    journal = MemoryJournal()
    stopped = Run(name, space, JournalStorage(journal))
    found = stopped.go_on(TRIALS - 4)
    trial, config = stopped.ask()
    resumed = Run(name, space, JournalStorage(journal))
    resumed.study.tell(trial.number, state=TrialState.FAIL)
    resumed.study.enqueue_trial(space.encode(config))
    assert found + resumed.go_on(4) == straight


def test_a_trial_that_failed_before_it_had_parameters_is_proposed_again(space: Space) -> None:
    run = Run("evolution", space, InMemoryStorage())
    run.go_on(4)
    trial = run.study.ask()
    proposed = space.decode(trial.relative_params)
    run.study.tell(trial, state=TrialState.FAIL)
    assert run.ask()[1] == proposed


def test_running_trials_count_as_seen_from_their_first_moment(space: Space) -> None:
    journal = MemoryJournal()
    one, other = (Run("random", space, JournalStorage(journal)) for _ in range(2))
    config = space.decode(one.study.ask().relative_params)  # no parameter is written yet
    other.ask()
    assert other.sampler.has_seen(config)


def test_a_history_counts_networks_once_however_it_learned_of_them(space: Space) -> None:
    run = Run("random", space, InMemoryStorage())
    history = run.sampler.history
    configs = run.go_on(4)
    trial, config = run.ask()
    for known in (*configs, config, space.unrank(0)):
        run.sampler.saw(known)
        run.sampler.saw(known)
    running = run.study.ask()
    found = {*configs, config, space.unrank(0), space.decode(running.relative_params)}
    history.read(run.study, -1)
    assert len(history) == len(found)
    run.study.tell(running, state=TrialState.FAIL)  # before it had parameters
    history.read(run.study, -1)
    assert len(history) == len(found) - 1
    run.study.tell(trial, state=TrialState.FAIL)
    history.read(run.study, -1)
    assert len(history) == len(found) - 1


def test_infeasible_trials_are_seen_and_not_learned_from(space: Space) -> None:
    run = Run("evolution", space, InMemoryStorage())
    run.go_on(4)
    trial, config = run.ask()
    trial.set_constraint("memory", 1.0)
    run.study.tell(trial, (1.0, 1.0, 1.0))  # nothing would dominate it
    run.ask()
    assert run.sampler.has_seen(config)
    assert config not in [found.config for found in run.sampler.history.evaluated]


def test_what_acts_in_training_only_does_not_make_another_variant() -> None:
    space = small_space(mlp_ratio=(2, 4))
    run = Run("random", space, InMemoryStorage())
    lite = model_config("sepvit_lite")
    run.sampler.saw(lite.replace(drop_path_rate=0.3))
    assert run.sampler.has_seen(space.published()["sepvit_lite"])


def test_the_study_must_have_the_objectives_that_the_sampler_was_told(space: Space) -> None:
    setting = Setting(space, unlimited, 0, KNOWN)
    directions = [StudyDirection.MINIMIZE] * 2
    with pytest.raises(ConfigError, match="3 objectives accuracy, macs, latency_ms, got 2"):
        setting.objectives_of(directions)
    assert len(Setting(space, setting.affordable, 0).objectives_of(directions)) == 2


@pytest.mark.parametrize("name", ["surrogate", "evolution"])
@pytest.mark.parametrize(
    "directions",
    [[StudyDirection.MAXIMIZE], [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]],
)
def test_nothing_needs_to_be_known_of_the_objectives(
    name: str, directions: list[StudyDirection], space: Space
) -> None:
    setting = Setting(space, unlimited, 0)
    study = optuna.create_study(directions=directions, sampler=SAMPLERS[name].make(setting))
    found = []
    for _ in range(20):
        trial = study.ask()
        found.append(space.suggest(trial))
        study.tell(trial, [share(found[-1], direction.name) for direction in directions])
    assert len({*found}) == 20


def test_a_proposal_computes_on_one_thread_and_gives_the_others_back(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    sampler = SAMPLERS["random"].make(Setting(space, unlimited, 0, KNOWN))
    propose = sampler.propose

    def watched(
        study: optuna.Study, trial: FrozenTrial, seeds: np.random.SeedSequence
    ) -> ModelConfig:
        seen.append(blas_threads())
        return propose(study, trial, seeds)

    monkeypatch.setattr(sampler, "propose", watched)
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    with threadpool_limits(limits=2, user_api="blas"):
        space.suggest(study.ask())
        assert blas_threads() == {2}
    assert seen[0] == {1}


def test_unknown_sampler_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown sampler 'nsga'.*nsga2"):
        sampler_kind("nsga")
    assert all(kind.purpose for kind in SAMPLERS.values())


def test_within_reads_each_limit_by_itself() -> None:
    space = small_space(width_1=(32, 64), mlp_ratio=(2, 4))
    configs = [space.unrank(index) for index in range(space.size())]
    costs = [model_cost(config) for config in configs]
    macs = sorted(cost.macs for cost in costs)[1]
    params = sorted(cost.params for cost in costs)[2]
    for pool in (Known(configs), Numbered(space, np.arange(space.size()))):
        assert within(pool, None, None).tolist() == [True] * len(configs)
        assert within(pool, macs, None).tolist() == [cost.macs <= macs for cost in costs]
        assert within(pool, None, params).tolist() == [cost.params <= params for cost in costs]
        assert within(pool, macs, params).tolist() == [
            cost.macs <= macs and cost.params <= params for cost in costs
        ]
