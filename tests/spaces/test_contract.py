"""What holds for every space: a new one adds a row to the registry and inherits all of this."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest

import effvit
from effvit import ConfigError
from effvit.cost import CostArrays
from spaces import SPACES, InvalidVariant, Space, get_space, list_spaces
from spaces.counted import Numbers

ROOT = Path(__file__).parents[2]
CASES = [(name, resolution) for name in SPACES for resolution in (224, (96, 160))]

SAMPLERS: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
    "random": lambda: optuna.samplers.RandomSampler(seed=1),
    "tpe": lambda: optuna.samplers.TPESampler(multivariate=True, n_startup_trials=5, seed=1),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=5, seed=1),
    "qmc": lambda: optuna.samplers.QMCSampler(seed=1),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def space(request: pytest.FixtureRequest) -> Space:
    name, resolution = request.param
    return get_space(name, resolution)


@pytest.fixture(scope="module")
def sampled(space: Space) -> list[effvit.ModelConfig]:
    return space.sample_many(np.random.default_rng(0), 100)


def in_fresh_process(code: str, hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_samples_are_canonical_members(space: Space, sampled: list[effvit.ModelConfig]) -> None:
    for config in sampled:
        assert config == config.canonical()
        assert config.image_size == space.resolution
        assert space.contains(config)
        assert effvit.model_cost(config).macs > 0


def test_sampling_follows_its_seed(space: Space, sampled: list[effvit.ModelConfig]) -> None:
    again = np.random.default_rng(0)
    assert [space.sample(again) for _ in sampled] == sampled
    assert space.sample_many(np.random.default_rng(1), len(sampled)) != sampled


@pytest.mark.parametrize("name", list_spaces())
def test_a_fresh_process_counts_samples_and_walks_the_same(name: str) -> None:
    code = f"""
import numpy, spaces
space = spaces.get_space({name!r})
configs = space.sample_many(numpy.random.default_rng(7), 5)
configs += space.neighbours(configs[0])
print(space.size(), *(config.variant_id for config in configs))
"""
    space = get_space(name)
    configs = space.sample_many(np.random.default_rng(7), 5)
    configs += space.neighbours(configs[0])
    expected = " ".join([str(space.size()), *(config.variant_id for config in configs)])
    assert in_fresh_process(code, hash_seed=1) == expected
    assert in_fresh_process(code, hash_seed=2) == expected


def test_using_a_space_does_not_load_torch() -> None:
    code = """
import sys, numpy, spaces
for name in spaces.list_spaces():
    spaces.get_space(name).sample(numpy.random.default_rng(0)).variant_id
print("torch" in sys.modules)
"""
    assert in_fresh_process(code, hash_seed=0) == "False"


def test_numbers_name_networks(space: Space) -> None:
    size = space.size()
    numbers = [0, 1, size // 3, size // 2, size - 2, size - 1]
    configs = [space.unrank(number) for number in numbers]
    assert len({config.variant_id for config in configs}) == len(numbers)
    for outside in (-1, size):
        with pytest.raises(IndexError, match=f"got {outside}"):
            space.unrank(outside)


FIELDS = [field.name for field in dataclasses.fields(CostArrays)]


def assert_costed_by_number(space: Space, numbers: Numbers) -> None:
    costs = space.costs(numbers)
    expected = effvit.model_costs([space.unrank(int(number)) for number in numbers])
    for name in FIELDS:
        assert getattr(costs, name).dtype == np.int64
        assert getattr(costs, name).tolist() == getattr(expected, name).tolist()


def test_costs_by_number_are_those_of_the_networks(space: Space) -> None:
    drawn = space.draw(np.random.default_rng(3), 500)
    assert_costed_by_number(space, np.append(drawn, [0, space.size() - 1]))
    assert len(space.costs(drawn[:0])) == 0
    for outside in (-1, space.size()):
        with pytest.raises(IndexError, match=f"got {outside}"):
            space.costs(np.array([0, outside]))


def test_costs_by_number_do_not_depend_on_what_else_is_costed(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = space.draw(np.random.default_rng(4), 50)
    together = space.costs(drawn).macs.tolist()
    monkeypatch.setattr("spaces.space.COSTED", 20)
    assert space.costs(drawn).macs.tolist() == together


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", list_spaces())
def test_costs_by_number_hold_for_any_values_of_the_axes(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = None
    while space is None:
        values = {
            axis.name: [value for value in axis.values if rng.random() < 0.5] or axis.values[:1]
            for axis in SPACES[name].AXES
        }
        with contextlib.suppress(ConfigError):  # no choice keeps all rules
            space = SPACES[name]((160, 224), values)
    assert_costed_by_number(space, space.draw(rng, 100))


def test_a_space_without_columns_is_costed_by_its_configurations(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = space.draw(np.random.default_rng(5), 20)
    expected = space.costs(drawn).params.tolist()
    monkeypatch.setattr(type(space), "_costs", Space._costs)
    assert space.costs(drawn).params.tolist() == expected


def test_samples_are_the_networks_of_numbers_drawn(
    space: Space, sampled: list[effvit.ModelConfig]
) -> None:
    numbers = space.draw(np.random.default_rng(0), len(sampled))
    assert [space.unrank(int(number)) for number in numbers] == sampled


def test_encode_and_decode_are_inverse(space: Space, sampled: list[effvit.ModelConfig]) -> None:
    for config in sampled:
        params = space.encode(config)
        assert space.decode(params) == config
        assert space.violations(params) == []
        distributions = space.distributions()
        assert list(params) == list(distributions)
        for name, value in params.items():
            assert type(value) in (int, str)
            distribution = distributions[name]
            assert distribution.to_external_repr(distribution.to_internal_repr(value)) == value


def test_parameters_survive_json(space: Space, sampled: list[effvit.ModelConfig]) -> None:
    for config in sampled:
        assert effvit.as_config(json.loads(config.to_json())) == config
        assert space.decode(json.loads(json.dumps(space.encode(config)))) == config


def test_every_encoding_makes_the_same_network(
    space: Space, sampled: list[effvit.ModelConfig]
) -> None:
    axes = {axis.name: axis for axis in space.axes}
    for config in sampled[:20]:
        encodings = list(space.encodings(config))
        assert len({tuple(choices.items()) for choices in encodings}) == len(encodings)
        for choices in encodings:
            params = {axes[n].parameter: axes[n].write(value) for n, value in choices.items()}
            assert space.decode(params) == config


def test_what_acts_in_training_only_is_ignored(
    space: Space, sampled: list[effvit.ModelConfig]
) -> None:
    config = sampled[0]
    assert space.encode(config.replace(drop_path_rate=0.1)) == space.encode(config)


def test_neighbours_are_mutual_distinct_members(
    space: Space, sampled: list[effvit.ModelConfig]
) -> None:
    for config in sampled[:8]:
        neighbours = space.neighbours(config)
        assert neighbours == space.neighbours(config)
        assert len({other.variant_id for other in [config, *neighbours]}) == 1 + len(neighbours)
        for other in neighbours:
            assert other == other.canonical()
            assert space.contains(other)
        for other in neighbours[:: 1 + len(neighbours) // 12]:  # about a dozen: each takes a while
            assert config in space.neighbours(other)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_optuna_sampler_can_suggest(space: Space, sampler: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=SAMPLERS[sampler]())
    valid = 0
    for _ in range(24):
        trial = study.ask()
        config, reason = None, ""
        try:
            config = space.suggest(trial)
        except InvalidVariant as error:
            reason = str(error)
        assert reason == "; ".join(space.violations(trial.params))
        if config is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            valid += 1
            assert config == space.decode(trial.params)
            assert space.contains(config)
            study.tell(trial, effvit.model_cost(config).macs)
        assert trial.distributions == space.distributions()
    assert valid > 0


def test_a_stored_trial_suggests_what_it_holds(
    space: Space, sampled: list[effvit.ModelConfig]
) -> None:
    for config in sampled[:10]:
        assert space.suggest(optuna.trial.FixedTrial(dict(space.encode(config)))) == config


@pytest.mark.parametrize("name", list_spaces())
def test_published_variants_of_the_family_are_members(name: str) -> None:
    """At the resolution they are designed for; the spaces' own tests say which variants."""
    written = get_space(name).family_variants()
    (resolution,) = {config.image_size for config in written.values()}
    space = get_space(name, resolution)
    published = space.published()
    assert published
    assert set(published) == {v for v, config in written.items() if space.contains(config)}
    for variant, config in published.items():
        assert config.variant_id == written[variant].variant_id
        assert config == config.canonical()
        assert space.decode(space.encode(written[variant])) == config


def test_axes_are_described(space: Space) -> None:
    assert space.resolution in ((224, 224), (96, 160))
    for axis in space.axes:
        assert axis.values
        assert axis.description
        assert "\n" not in axis.description
        assert all(isinstance(value, int if axis.ordered else str) for value in axis.values)
    names = {axis.name for axis in space.axes}
    for rule in space.rules:
        assert rule.reason
        assert set(rule.reads) <= names


def test_malformed_parameters_are_named(space: Space, sampled: list[effvit.ModelConfig]) -> None:
    params = space.encode(sampled[0])
    name = space.axes[0].parameter
    short = {key: value for key, value in params.items() if key != name}
    with pytest.raises(InvalidVariant, match=f"missing: {name}"):
        space.decode(short)
    with pytest.raises(InvalidVariant, match=f"did you mean '{name}'"):
        space.decode({**params, f"{name}x": 1})
    with pytest.raises(InvalidVariant, match=f"{name} must be one of .*nearest valid"):
        space.decode({**params, name: 10**6})


@pytest.mark.parametrize("name", list_spaces())
def test_unknown_names_and_resolutions_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        get_space(name[:-1])
    with pytest.raises(ConfigError, match="nearest valid: 32"):
        get_space(name, 31)
    assert get_space(name, "64x96").resolution == (64, 96)
    with pytest.raises(ConfigError, match="unknown axis 'depht'"):
        SPACES[name](224, {"depht": (1, 2)})
