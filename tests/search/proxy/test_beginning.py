"""The relation comes first: recognition weighs less until it is found."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest
import torch

from effvit import model_config
from effvit.config import ConfigError
from search.proxy import SEARCH, ProxyRecipe, evaluate, evaluation, training
from search.proxy.recipe import FULL
from search.proxy.scaling import proxy_config
from search.proxy.scores import Scores
from search.proxy.training import BEGINNING_LOSS, BEGINNING_STEPS, Beginning, Training, Weights
from tests.search.proxy.test_routing import SILENT

CHANCE = math.log(2)
RECIPE = ProxyRecipe(
    name="brief", steps=20, batch=2, first_recognition_weight=0.2, evaluation_canvases=4
)
"""Its first part are ten steps."""


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Weights of recognition, step by step; the relation is found after the sixth step."""
    used: list[float] = []

    def note(*arguments: object) -> float:
        of_step = arguments[5]
        assert isinstance(of_step, Weights)
        used.append(of_step.recognition_weight)
        return CHANCE if len(used) < 7 else 0.0

    monkeypatch.setattr(training, "take_step", note)
    return used


def train(recipe: ProxyRecipe, *pauses: int) -> Training:
    """Train to the end, pausing after some steps as a file would keep it."""
    config = proxy_config(SILENT)
    going = Training(config, recipe, 0)
    for step in pauses:
        going.advance(step)
        kept = pickle.dumps(copy.deepcopy(going.pause()))
        going = Training(config, recipe, 0, pickle.loads(kept))
    going.advance(recipe.steps)
    return going


def test_recognition_weighs_less_until_the_relation_is_found(weights: list[float]) -> None:
    """Two terms of 0 among five, the mean below 0.5: found after the eighth step."""
    assert 3 * CHANCE / BEGINNING_STEPS < BEGINNING_LOSS < 4 * CHANCE / BEGINNING_STEPS
    train(RECIPE)
    assert weights == [0.2] * 8 + [1.0] * 12


def test_it_ends_with_the_first_part_where_nothing_is_found(weights: list[float]) -> None:
    train(dataclasses.replace(RECIPE, first_share=0.3))
    assert weights == [0.2] * 6 + [1.0] * 14


@pytest.mark.parametrize("pauses", [(4,), (7,), (8,), (9,), (4, 7, 12)])
def test_a_paused_training_goes_on_with_the_weight_it_had(
    weights: list[float], pauses: tuple[int, ...]
) -> None:
    train(RECIPE, *pauses)
    assert weights == [0.2] * 8 + [1.0] * 12


def test_a_training_that_an_older_version_paused_has_no_such_part(weights: list[float]) -> None:
    going = Training(proxy_config(SILENT), RECIPE, 0)
    going.advance(2)
    kept = {name: value for name, value in going.pause().items() if name != "beginning"}
    weights.clear()
    Training(proxy_config(SILENT), RECIPE, 0, kept).advance(5)
    assert weights == [1.0] * 3


def test_the_weight_reaches_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a weight of 0 what recognition says does not matter, with another one it does."""
    found = {}
    plain = training.losses
    for weight in (0.0, 0.2):
        recipe = dataclasses.replace(RECIPE, steps=2, first_recognition_weight=weight)
        for factor in (1.0, 3.0):

            def scaled(*arguments: object, by: float = factor) -> tuple[torch.Tensor, torch.Tensor]:
                relation, recognition = plain(*arguments)  # type: ignore[arg-type]
                return relation, by * recognition

            monkeypatch.setattr(training, "losses", scaled)
            going = Training(proxy_config(SILENT), recipe, 0)
            going.advance(1)
            found[weight, factor] = going.network.readings[0].get_parameter("weight").clone()
    assert torch.equal(found[0.0, 1.0], found[0.0, 3.0])
    assert not torch.equal(found[0.2, 1.0], found[0.2, 3.0])


@pytest.mark.parametrize("recipe", [SEARCH, FULL], ids=["trial", "finalist"])
def test_trainings_begin_with_the_relation_where_they_are_repeated(recipe: ProxyRecipe) -> None:
    assert recipe.first_recognition_weight == 1.0
    assert recipe.repeated() == dataclasses.replace(recipe, first_recognition_weight=0.2)


def test_only_a_repeated_training_is_one_that_begins_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relation is found by the third."""
    seen: list[tuple[float, int]] = []

    def note(_config: object, recipe: ProxyRecipe, seed: int, _paused: object) -> None:
        seen.append((recipe.first_recognition_weight, seed))

    relations = iter([0.5, 0.5, 0.9])
    monkeypatch.setattr(evaluation, "train", note)
    monkeypatch.setattr(
        evaluation, "measure", lambda *_: Scores((r := next(relations)), r, 0.3, r, r)
    )
    recipe = dataclasses.replace(SEARCH, evaluation_canvases=4)
    assert evaluate(model_config("sepvit_lite"), recipe, 5).attempts == 3
    assert [weight for weight, _ in seen] == [1.0, 0.2, 0.2]
    assert len({seed for _, seed in seen}) == 3


@pytest.mark.parametrize("limit", [0, 3])
def test_it_lasts_as_long_as_it_may(limit: int) -> None:
    beginning = Beginning(limit)
    assert [beginning.goes_on(step) for step in range(4)] == [step < limit for step in range(4)]


@pytest.mark.parametrize("weight", [-0.1, math.nan])
@pytest.mark.parametrize("name", ["first_recognition_weight", "retry_recognition_weight"])
def test_an_impossible_weight_is_refused(name: str, weight: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be 0 or more"):
        ProxyRecipe(**{**RECIPE.to_dict(), name: weight})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sepvit_lite_finds_the_relation_where_it_begins_with_it(seed: int) -> None:
    """With recognition at its whole weight it misses it with the first of these seeds."""
    found = evaluate(model_config("sepvit_lite"), SEARCH.repeated(), seed)
    assert (found.attempts, found.relation_found) == (1, True)
