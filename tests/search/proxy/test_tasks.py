"""Accuracies that are the mean of several tasks: what they are made of, what is said of them."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from effvit import ConfigError
from search.proxy import SEARCH, ProxyRecipe, digits, mean_statement
from search.proxy.evaluation import train_and_measure
from search.proxy.final import learn_and_test
from search.proxy.network import ProxyNetwork
from search.proxy.tasks import (
    AXES,
    CUE,
    LOCALISATION,
    ROUTING,
    TASKS,
    TEXTURE,
    USUAL,
    USUAL_IN,
    axis_tasks,
    combined,
)
from search.proxy.textures import held_out_textures, textures
from search.proxy.transfer import TRANSFER, TransferRecipe, learn, learn_all, work
from tests.search.proxy.test_routing import SILENT

BRIEF = TransferRecipe.following(ProxyRecipe(name="brief", steps=2, batch=2, evaluation_canvases=4))
FURTHER = (ROUTING, LOCALISATION, TEXTURE)


@pytest.fixture(scope="module")
def network() -> ProxyNetwork:
    """What the cue task has left."""
    return train_and_measure(SILENT, BRIEF.routing.cue, 3, 1)[1]


def test_an_axis_has_the_cue_task_first_and_each_task_once() -> None:
    for name, tasks in AXES.items():
        assert axis_tasks(name) == tasks
        assert tasks[0] == CUE
        assert len({*tasks}) == len(tasks)
        assert {*tasks} <= {*TASKS}


def test_an_unknown_axis_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"cue\+routin.*cue\+routing"):
        axis_tasks("cue,routin")


def test_accuracy_is_the_mean_of_its_tasks() -> None:
    assert combined(0.7, {}) == 0.7
    assert combined(0.6, {ROUTING: 1.0}) == pytest.approx(0.8)
    assert combined(0.8, {ROUTING: 1.0, LOCALISATION: 0.2, TEXTURE: 0.4}) == pytest.approx(0.6)


def test_the_work_of_an_axis_is_its_canvases_beside_those_of_the_cue_task() -> None:
    """A trial: 120 steps of 4 canvases, then 100 of 8 and twice 60 of 8."""
    assert work(SEARCH, (CUE,)) == 1
    assert work(SEARCH, (CUE, ROUTING)) == pytest.approx((480 + 800) / 480)
    assert work(SEARCH, TASKS) == pytest.approx((480 + 800 + 2 * 480) / 480)


def test_further_tasks_are_as_long_as_the_cue_task_asks_for() -> None:
    assert TransferRecipe.following(SEARCH).routing.steps == TRANSFER.routing.steps == 100
    twice = ProxyRecipe(name="twice", steps=240, evaluation_canvases=100)
    longer = TransferRecipe.following(twice)
    assert (longer.routing.cue, longer.routing.steps, longer.steps) == (twice, 200, 120)
    assert longer.evaluation_canvases == longer.routing.evaluation_canvases == 100


@pytest.fixture(scope="module")
def scores(network: ProxyNetwork) -> tuple[dict[str, float], dict[str, float]]:
    return learn_and_test(network, FURTHER, BRIEF, 3)


def test_a_finalist_learns_each_task_from_where_it_is_and_stays_there(
    network: ProxyNetwork, scores: tuple[dict[str, float], dict[str, float]]
) -> None:
    before = copy.deepcopy(network.state_dict())
    validation = learn_all(network, FURTHER, BRIEF, 3)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert scores[0] == validation
    assert list(scores[1]) == list(FURTHER)
    assert all(0 <= share <= 1 for share in scores[1].values())
    for task in FURTHER:
        assert learn(copy.deepcopy(network), task, BRIEF, 3) == validation[task]


def test_only_finalists_are_shown_test_digits(network: ProxyNetwork) -> None:
    held_out = digits.held_out_sources()
    seen: list[np.ndarray] = []
    compose = digits._compose
    with pytest.MonkeyPatch.context() as patch:

        def spy(sources: np.ndarray, *rest: object) -> object:
            seen.append(sources)
            return compose(sources, *rest)  # type: ignore[arg-type]

        patch.setattr(digits, "_compose", spy)
        learn_all(network, FURTHER, BRIEF, 17)
        assert seen
        assert not any(np.isin(sources, held_out).any() for sources in seen)
        learn_and_test(network, (ROUTING,), BRIEF, 17)
        assert np.isin(seen[-1], held_out).all()


def test_textures_of_the_test_are_none_of_validation() -> None:
    assert (held_out_textures(2, 1)[0] != textures(digits.Split.VALIDATION, 2, 1)[0]).any()
    assert (held_out_textures(2, 1)[0] == held_out_textures(2, 1)[0]).all()


# --- what is said of it -------------------------------------------------------------------------

ROW = {
    "space": "sepvit", "axis": "cue+routing", "variants": "41", "tau": "0.61", "low": "0.45",
    "high": "0.74", "fixed": "0.6", "fixed_low": "0.4", "fixed_high": "0.7", "ceiling": "0.58",
    "macs": "0.21",
}  # fmt: skip


def test_a_mean_states_what_was_measured_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mean_statement, "_rows", lambda: (ROW,))
    said = mean_statement.mean_statement("sepvit", (CUE, ROUTING))
    assert json.loads(json.dumps(said)) == said
    assert said["ranking"]["kendall_tau"] == 0.61
    assert said["ranking"]["variants"] == 41
    assert "is 0.61 (95 % interval 0.45 to 0.74, 41 variants)" in said["does_not_resolve"][0]
    assert "reaches 0.58" in said["does_not_resolve"][0]
    assert "Accuracy is the mean of the tasks' shares" in said["description"]
    assert "texture" not in said["description"]


@pytest.mark.parametrize("space", USUAL_IN)
def test_how_the_usual_axis_ranks_was_measured(space: str) -> None:
    ranking = mean_statement.mean_statement(space, AXES[USUAL])["ranking"]
    assert ranking["variants"] >= 16
    assert -1 <= ranking["low"] <= ranking["kendall_tau"] <= ranking["high"] <= 1


@pytest.mark.parametrize(("space", "tasks"), [("hybrid", (CUE, ROUTING)), ("sepvit", TASKS)])
def test_nothing_is_claimed_of_other_spaces_and_means(
    monkeypatch: pytest.MonkeyPatch, space: str, tasks: tuple[str, ...]
) -> None:
    monkeypatch.setattr(mean_statement, "_rows", lambda: (ROW,))
    said = mean_statement.mean_statement(space, tasks)
    assert said["ranking"] is None
    assert said["does_not_resolve"][0] == mean_statement.NOT_MEASURED
