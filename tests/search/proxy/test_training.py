"""The proxy: scaling, head, initialisation, training, failures. Claims are in the audit's CSV."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

import effvit
from effvit.config import ConfigError
from effvit.designs.sepvit import SepViTConfig
from search.proxy import (
    FULL,
    RECIPES,
    SEARCH,
    ProxyFailed,
    ProxyRecipe,
    ProxyResult,
    digits,
    evaluate,
    evaluation,
    feed,
    training,
)
from search.proxy.digits import CELLS, CLASSES, GRID
from search.proxy.evaluation import evaluate_test
from search.proxy.feed import as_input, training_canvases
from search.proxy.network import ProxyNetwork, initialise
from search.proxy.scaling import proxy_config
from search.proxy.scores import Scores, measure

TINY = SepViTConfig(widths=(32, 64, 128, 256), depths=(1, 2, 1, 1), heads=(1, 2, 4, 8))
SILENT = TINY.replace(window_representation="none", windows=((7,), (7,), (7,), (7,)))
"""Cannot relate distant cells, hence is trained once."""

BRIEF = ProxyRecipe(name="brief", steps=3, batch=2, evaluation_canvases=4)
PUBLISHED = [name for name in effvit.list_models() if name.startswith("sepvit")]


def published(name: str) -> SepViTConfig:
    config = effvit.model_config(name)
    assert isinstance(config, SepViTConfig)
    return config


# --- head and initial values --------------------------------------------------------------------


def test_logits_are_a_sum_of_one_linear_reading_of_each_stage() -> None:
    """Nothing nonlinear follows the sum: doubling all readings doubles the logits."""
    network = ProxyNetwork(proxy_config(TINY))
    initialise(network, 0)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    once = network(images)
    with torch.no_grad():
        for reading in network.readings:
            for parameter in reading.parameters():
                parameter.mul_(2)
    torch.testing.assert_close(network(images), 2 * once)


def test_the_last_stage_says_the_same_to_all_cells_of_a_position() -> None:
    network = ProxyNetwork(proxy_config(TINY))
    initialise(network, 0)
    with torch.no_grad():
        for reading in list(network.readings)[:3]:
            for parameter in reading.parameters():
                parameter.zero_()
        logits = network(torch.randn(1, 3, 96, 96)).view(GRID, GRID, CLASSES)
    blocks = logits.unflatten(0, (3, 2)).unflatten(2, (3, 2))
    torch.testing.assert_close(blocks, blocks[:, :1, :, :1].expand_as(blocks))


def test_variants_share_initial_values_of_the_tensors_they_share() -> None:
    small, deep = ProxyNetwork(proxy_config(TINY)), ProxyNetwork(
        proxy_config(TINY.replace(depths=(2, 2, 3, 1)))
    )  # fmt: skip
    for network in (small, deep):
        initialise(network, 5)
    other = dict(deep.named_parameters())
    shared = [name for name, value in small.named_parameters() if value.shape == other[name].shape]
    assert len(shared) > 50
    for name in shared:
        torch.testing.assert_close(small.get_parameter(name), other[name], rtol=0, atol=0)


def test_another_seed_initialises_otherwise() -> None:
    networks = [ProxyNetwork(proxy_config(TINY)) for _ in range(2)]
    for seed, network in enumerate(networks):
        initialise(network, seed)
    name = "body.stages.0.embed.conv.weight"
    assert not torch.equal(networks[0].get_parameter(name), networks[1].get_parameter(name))


# --- recipes ------------------------------------------------------------------------------------


def test_recipes_are_json_and_named() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert json.loads(json.dumps(recipe.to_dict()))["steps"] == recipe.steps
    assert FULL.steps > SEARCH.steps


def test_learning_rate_rises_holds_and_falls_linearly_to_zero() -> None:
    recipe = dataclasses.replace(SEARCH, steps=100, warm_up=0.1, warm_down=0.5, learning_rate=1.0)
    # Rates are those of the middles of steps: 0.5 / 10, 9.5 / 10, then 1, then 49.5 / 50, ...
    assert recipe.rate(0) == pytest.approx(0.05)
    assert recipe.rate(9) == pytest.approx(0.95)
    assert [recipe.rate(step) for step in (10, 49)] == [1.0, 1.0]
    assert recipe.rate(50) == pytest.approx(0.99)
    assert recipe.rate(99) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("batch", -1), ("learning_rate", 0.0), ("first_share", 1.0)]
)
def test_impossible_recipes_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        ProxyRecipe(**{**SEARCH.to_dict(), name: value})


def test_cues_are_large_first_and_of_evaluation_size_later() -> None:
    recipe = dataclasses.replace(BRIEF, steps=10, first_cues=(4,), later_cues=(2,), first_share=0.4)
    first, later = training_canvases(recipe, 0)
    assert (len(first), len(later)) == (8, 12)  # 10 steps of 2 canvases, 40 % first
    assert {int((row == digits.IGNORED).sum()) for row in first.targets} == {16}
    assert {int((row == digits.IGNORED).sum()) for row in later.targets} == {4}


# --- training and measuring ---------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_bit_for_bit() -> None:
    first, again, other = (evaluate(SILENT, BRIEF, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.slow  # a process starts
def test_a_fresh_process_gives_the_same_result() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there = pool.submit(evaluate, SILENT, BRIEF, 3).result()
    assert there == evaluate(SILENT, BRIEF, 3)


def test_results_and_failures_travel_between_processes() -> None:
    result = evaluate(SILENT, BRIEF, 0)
    assert pickle.loads(pickle.dumps(result)) == result
    assert str(pickle.loads(pickle.dumps(ProxyFailed("out of memory")))) == "out of memory"
    assert json.loads(json.dumps(result.to_dict()))["seed"] == 0


def test_training_lowers_the_loss() -> None:
    recipe = dataclasses.replace(BRIEF, steps=12, batch=4)
    scaled = proxy_config(TINY)
    part, _ = training_canvases(recipe, 0)
    chosen = np.arange(8)

    def loss(network: ProxyNetwork) -> float:
        with torch.no_grad():
            logits = network(as_input(part.images[chosen])).flatten(0, 1)
            relation, recognition = training.losses(logits, part, chosen, 0.0)
            return (relation + recognition).item()

    untrained = ProxyNetwork(scaled)
    initialise(untrained, 0)
    assert loss(training.train(scaled, recipe, 0)) < loss(untrained) - 0.2


def _fake_network(canvases: digits.Canvases, relation: bool, recognition: bool) -> torch.nn.Module:
    """A "network" that knows the relation, the digits, both or neither of these canvases."""
    targets = torch.from_numpy(canvases.targets)
    logits = torch.zeros(len(canvases), CELLS, CLASSES)
    background = (targets == digits.BACKGROUND) if relation else torch.zeros_like(targets).bool()
    logits[..., digits.BACKGROUND] = torch.where(background, 50.0, -50.0)
    if recognition:
        classes = torch.from_numpy(canvases.classes).clamp_min(0)
        logits.scatter_(2, classes[..., None], 10.0)

    class Known(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return logits[: len(images)]

    return Known()


@pytest.mark.parametrize("relation", [True, False])
@pytest.mark.parametrize("recognition", [True, False])
def test_scores_are_shares_of_right_cells(relation: bool, recognition: bool) -> None:
    made = digits.canvases(digits.Split.VALIDATION, 40, 0)
    network = _fake_network(made, relation, recognition)
    scores = measure(network, made)  # type: ignore[arg-type]
    scored = made.targets[made.targets != digits.IGNORED]
    matching = scored != digits.BACKGROUND
    zeros = (scored == 0).sum() / matching.sum()  # without knowledge every digit is called 0
    expected_recognition = 1.0 if recognition else zeros
    expected_relation = 1.0 if relation else matching.mean()
    background = (~matching).mean() if relation else 0.0
    assert scores.recognition == pytest.approx(expected_recognition)
    assert scores.relation == pytest.approx(expected_relation)
    assert scores.accuracy == pytest.approx(background + matching.mean() * expected_recognition)


def test_relation_is_measured_apart_near_the_cue_and_far_from_it() -> None:
    made = digits.canvases(digits.Split.VALIDATION, 40, 0)
    distance = digits.cue_distance(made.targets)
    logits = torch.zeros(len(made), digits.CELLS, digits.CLASSES)
    right = 20.0 * torch.from_numpy(made.targets == digits.BACKGROUND).float() - 10.0
    known = torch.from_numpy(distance <= 2)  # of the others the opposite is said
    logits[..., digits.BACKGROUND] = torch.where(known, right, -right)

    class Short(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return logits[: len(images)]

    scores = measure(Short(), made)  # type: ignore[arg-type]
    assert (scores.relation_near, scores.relation_far) == (1.0, 0.0)
    assert scores.relation == pytest.approx((distance[distance > 0] <= 2).mean())


def test_distance_is_to_the_nearest_cell_of_the_cue() -> None:
    targets = np.zeros((1, digits.CELLS), np.int64)
    targets[0, [0, 1, 6, 7]] = digits.IGNORED  # rows and columns 0 and 1
    distance = digits.cue_distance(targets).reshape(digits.GRID, digits.GRID)
    assert distance[0].tolist() == [0, 0, 1, 2, 3, 4]
    assert distance[5].tolist() == [4, 4, 4, 4, 4, 4]


def test_evaluate_never_touches_test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[digits.IntArray] = []
    compose = digits._compose

    def spy(sources, *rest):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
        seen.append(sources)
        return compose(sources, *rest)

    monkeypatch.setattr(digits, "_compose", spy)
    feed._training_canvases.cache_clear()
    feed._validation_canvases.cache_clear()
    evaluate(SILENT, BRIEF, 11)
    assert len(seen) == 3  # two parts of the training, one validation
    assert not np.isin(np.concatenate(seen), digits.held_out_sources()).any()
    evaluate_test(SILENT, BRIEF, 11)
    assert np.isin(seen[-1], digits.held_out_sources()).all()  # the spy does see them


def test_the_final_report_measures_one_network_on_both_splits() -> None:
    validation, test, _ = evaluate_test(SILENT, BRIEF, 11)
    assert validation == evaluate(SILENT, BRIEF, 11)
    assert (test.seed, test.attempts) == (validation.seed, validation.attempts)
    assert test != validation


def test_training_is_repeated_while_the_relation_is_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "train", lambda *_: None)
    relations = iter([0.5, 0.51, 0.9, 0.5])
    monkeypatch.setattr(
        evaluation, "measure", lambda *_: Scores((r := next(relations)), r, 0.3, r, r)
    )
    result = evaluate(TINY, BRIEF, 0)
    assert (result.attempts, result.relation, result.relation_found) == (3, 0.9, True)


def test_the_best_of_three_attempts_is_reported_as_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "train", lambda *_: None)
    relations = iter([0.5, 0.52, 0.51])
    monkeypatch.setattr(
        evaluation, "measure", lambda *_: Scores((r := next(relations)), r, 0.3, r, r)
    )
    result = evaluate(TINY, BRIEF, 0)
    assert (result.attempts, result.relation, result.relation_found) == (3, 0.52, False)


def test_a_variant_that_cannot_relate_is_trained_once() -> None:
    result = evaluate(SILENT, BRIEF, 0)
    assert (result.attempts, result.relation_found) == (1, False)


def test_a_loss_that_is_no_number_fails_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(training, "losses", lambda *_: (nan, nan))
    with pytest.raises(ProxyFailed, match="loss is nan at step 0 of 3"):
        evaluate(TINY, BRIEF, 0)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")],
)
def test_running_out_of_memory_is_a_failure_of_the_variant(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*_: object) -> None:
        raise error

    monkeypatch.setattr(evaluation, "train", exhausted)
    with pytest.raises(ProxyFailed, match="out of memory"):
        evaluate(TINY, BRIEF, 0)


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(evaluation, "train", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        evaluate(TINY, BRIEF, 0)


def test_the_number_of_threads_is_as_asked_and_then_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, during = torch.get_num_threads(), []

    def fail(*_: object) -> None:
        during.append(torch.get_num_threads())
        raise ProxyFailed("enough seen")

    monkeypatch.setattr(evaluation, "train", fail)
    with pytest.raises(ProxyFailed):
        evaluate(SILENT, BRIEF, 0, threads=before + 1)
    assert during == [before + 1]
    assert torch.get_num_threads() == before


def test_fields_of_a_result_that_reports_read() -> None:
    names = {field.name for field in dataclasses.fields(ProxyResult)}
    assert {"accuracy", "relation", "recognition", "relation_found", "attempts", "seed"} <= names
