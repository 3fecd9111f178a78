"""What holds for every sampler: a new one adds a row to the registry and inherits all of this."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.trial import TrialState

from effvit import ConfigError, ModelConfig, model_cost, model_costs
from search.samplers import (
    SAMPLERS,
    GuardedSampler,
    SpaceExhaustedError,
    quiet_optuna,
    sampler_kind,
    within,
)
from search.storage import DIRECTIONS
from spaces import Space, get_space
from tests.search.fakes import MemoryJournal, latency_of, share, small_space

TRIALS = 12
"""More than the ten random trials with which Optuna's samplers begin."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_optuna()


@pytest.fixture(scope="module")
def space() -> Space:
    return get_space("sepvit")


SECONDS_A_PROPOSAL = {"gp"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in SECONDS_A_PROPOSAL else [])
        for name in SAMPLERS
    ]
)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
        self.sampler = GuardedSampler(
            SAMPLERS[name], space, lambda configs: within(configs, max_macs, None), seed
        )
        self.study = optuna.create_study(
            study_name="s",
            storage=storage,
            directions=DIRECTIONS,
            sampler=self.sampler,
            load_if_exists=True,
        )
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self.sampler.saw(space.decode(trial.params))

    def go_on(self, trials: int) -> list[ModelConfig]:
        """Evaluate two at a time, as two workers do."""
        found = []
        for _ in range(trials // 2):
            pair = [self.study.ask() for _ in range(2)]
            configs = []
            for trial in pair:
                configs.append(self.space.suggest(trial))
                self.sampler.saw(configs[-1])
            for trial, config in zip(pair, configs, strict=True):
                self._tell(trial, config)
            found += configs
        return found

    def _tell(self, trial: optuna.Trial, config: ModelConfig) -> None:
        if share(config, "fails") < 0.1:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            values = (share(config), float(model_cost(config).macs), latency_of(config))
            self.study.tell(trial, values)


def test_proposals_are_members_within_the_budget_and_never_repeat(name: str, space: Space) -> None:
    budget = 3 * 10**9  # a third of the space
    run = Run(name, space, InMemoryStorage(), max_macs=budget)
    found = run.go_on(TRIALS)
    assert all(space.contains(config) for config in found)
    assert all(config == config.canonical() for config in found)
    assert max(model_cost(config).macs for config in found) <= budget
    assert len({config.variant_id for config in found}) == len(found)


def test_same_seed_same_proposals_and_another_seed_others(name: str, space: Space) -> None:
    first = Run(name, space, InMemoryStorage(), seed=1).go_on(TRIALS)
    assert Run(name, space, InMemoryStorage(), seed=1).go_on(TRIALS) == first
    other = Run(name, space, InMemoryStorage(), seed=2).go_on(TRIALS)
    assert {c.variant_id for c in other} != {c.variant_id for c in first}


def test_a_resumed_study_goes_on_as_if_it_had_never_stopped(name: str, space: Space) -> None:
    straight = Run(name, space, InMemoryStorage()).go_on(TRIALS)
    resumed: list[ModelConfig] = []
    journal = MemoryJournal()
    for part in (4, TRIALS - 6, 2):  # each part with new objects, as in a new process
        resumed += Run(name, space, JournalStorage(journal)).go_on(part)
    assert resumed == straight


def test_what_is_enqueued_comes_first_and_unchanged(name: str, space: Space) -> None:
    run = Run(name, space, InMemoryStorage())
    published = list(space.published().values())
    for config in published:
        run.study.enqueue_trial(space.encode(config))
    assert run.go_on(4) == published


def test_a_small_space_is_exhausted_to_the_last_variant(name: str) -> None:
    space = small_space(mlp_ratio=(2, 3, 4), depth_3=(4, 6))
    run = Run(name, space, InMemoryStorage())
    found = run.go_on(space.size())
    every = {space.unrank(index).variant_id for index in range(space.size())}
    assert {config.variant_id for config in found} == every
    with pytest.raises(SpaceExhaustedError, match="no variant within the budgets is left"):
        run.go_on(2)


def test_a_budget_that_almost_nothing_meets_is_met(name: str, space: Space) -> None:
    drawn = space.sample_many(np.random.default_rng(1), 2000)
    budget = int(np.sort(model_costs(drawn).macs)[2])  # about one in a thousand
    found = Run(name, space, InMemoryStorage(), max_macs=budget).go_on(2)
    assert max(model_cost(config).macs for config in found) <= budget


def test_a_budget_that_nothing_meets_is_an_error() -> None:
    space = small_space(mlp_ratio=(2, 4))
    run = Run("random", space, InMemoryStorage(), max_macs=1000)
    with pytest.raises(SpaceExhaustedError):
        run.go_on(2)


def test_invalid_proposals_are_not_passed_on(space: Space) -> None:
    """Independent draws of all axes are invalid often; the guard is what makes them valid."""
    raw = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    invalid = 0
    for _ in range(50):
        trial = raw.ask(space.distributions())
        invalid += bool(space.violations(trial.params))
    assert invalid > 10
    assert len(Run("random", space, InMemoryStorage()).go_on(50)) == 50


def test_low_discrepancy_sequence_is_one_sequence(space: Space) -> None:
    """Sobol points of one scrambling fill halves evenly; points of many would be random draws."""
    run = Run("qmc", space, InMemoryStorage())
    seeds = []
    for _ in range(3):
        trial = run.study.ask()
        inner = run.sampler._inner
        assert isinstance(inner, optuna.samplers.QMCSampler)
        seeds.append(inner._seed)
        run._tell(trial, space.suggest(trial))
    assert len(set(seeds)) == 1


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
    assert within(configs, None, None) == [True] * len(configs)
    assert within(configs, macs, None) == [cost.macs <= macs for cost in costs]
    assert within(configs, None, params) == [cost.params <= params for cost in costs]
    assert within(configs, macs, params) == [
        cost.macs <= macs and cost.params <= params for cost in costs
    ]
    assert within([], macs, params) == []
