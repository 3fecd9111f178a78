"""The proxy's second task: its data, its recipe, what it measures and how it fails."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from effvit.config import ConfigError
from effvit.designs.sepvit import SepViTConfig
from search.proxy import ProxyFailed, ProxyRecipe, routing
from search.proxy.digits import GRID, IGNORED
from search.proxy.network import ProxyNetwork
from search.proxy.routing import ROUTING, RoutingRecipe, evaluate_routing
from search.workers import TrainingFailure, TrainingTask, run_routing_task

SILENT = SepViTConfig(
    widths=(32, 64, 128, 256),
    depths=(1, 2, 1, 1),
    heads=(1, 2, 4, 8),
    window_representation="none",
    windows=((7,), (7,), (7,), (7,)),
)
"""Cannot relate distant cells, hence is trained on the first task once."""

BRIEF = RoutingRecipe(
    name="brief",
    cue=ProxyRecipe(name="brief", steps=2, batch=2, evaluation_canvases=4),
    steps=2,
    batch=4,
    kept=1,
    evaluation_canvases=4,
)


def test_the_same_seed_gives_the_same_result_bit_for_bit() -> None:
    first, again, other = (evaluate_routing(SILENT, BRIEF, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_it_goes_on_from_where_the_first_task_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a step on the second task, the relation is what it was."""
    monkeypatch.setattr(routing, "_train_on", lambda *_: None)
    found = evaluate_routing(SILENT, BRIEF, 3)
    assert found.relation == found.relation_before


def test_canvases_of_the_second_task_have_a_cue_in_each_half_and_kept_ones_have_one() -> None:
    part = routing._training(dataclasses.replace(BRIEF, steps=5), 0)
    assert len(part) == 5 * 4  # 3 of the halves task and 1 of the cue task a step
    cues = (part.targets == IGNORED).reshape(-1, GRID, GRID)
    in_halves = cues[:, :, : GRID // 2].sum((1, 2)), cues[:, :, GRID // 2 :].sum((1, 2))
    assert {tuple(pair) for pair in np.stack(in_halves, 1)[:15].tolist()} == {(4, 4)}
    assert {sum(pair) for pair in np.stack(in_halves, 1)[15:].tolist()} == {4}


def test_every_canvas_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def note(*arguments: object) -> None:
        chosen = arguments[4]
        assert isinstance(chosen, np.ndarray)
        seen.extend(chosen.tolist())

    monkeypatch.setattr(routing, "take_step", note)
    evaluate_routing(SILENT, dataclasses.replace(BRIEF, steps=5), 0)
    assert sorted(seen) == list(range(5 * 4))


def test_another_seed_sees_other_canvases() -> None:
    first, other = (routing._training(BRIEF, seed).images for seed in (0, 1))
    assert not np.array_equal(first, other)


def test_recipes_are_json() -> None:
    settings = json.loads(json.dumps(ROUTING.to_dict()))
    assert settings["cue"]["name"] == "search"
    assert settings["steps"] == ROUTING.steps


def test_learning_rate_rises_holds_and_falls_linearly_to_zero() -> None:
    recipe = RoutingRecipe(steps=100, warm_up=0.1, warm_down=0.5, learning_rate=1.0)
    # Rates are those of the middles of steps: 0.5 / 10, then 1, then 0.5 / 50.
    assert [recipe.rate(step) for step in (0, 20, 99)] == pytest.approx([0.05, 1.0, 0.01])


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"kept": 8}, r"kept must be between 0 and batch 8, got 8 \(nearest valid: 7\)"),
        ({"kept": 0}, "nearest valid: 1"),
    ],
)
def test_impossible_recipes_are_refused(changes: dict[str, int], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        dataclasses.replace(ROUTING, **changes)  # type: ignore[arg-type]  # by name


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose logits are no numbers once the first task is learned."""

    def broken(network: ProxyNetwork, recipe: RoutingRecipe, seed: int) -> None:
        with torch.no_grad():
            network.readings[0].get_parameter("weight").fill_(torch.nan)
        train_on(network, recipe, seed)

    train_on = routing._train_on
    monkeypatch.setattr(routing, "_train_on", broken)


@pytest.mark.usefixtures("diverging")
def test_a_loss_that_is_no_number_is_a_failure_with_its_step() -> None:
    with pytest.raises(ProxyFailed, match="loss is nan at step 0 of 2"):
        evaluate_routing(SILENT, BRIEF)
    outcome = run_routing_task(TrainingTask(SILENT, BRIEF, 0))
    assert outcome == TrainingFailure("loss is nan at step 0 of 2")


def test_workers_refuse_a_recipe_of_another_task() -> None:
    with pytest.raises(TypeError, match="brief is not of the second task"):
        run_routing_task(TrainingTask(SILENT, BRIEF.cue, 0))
