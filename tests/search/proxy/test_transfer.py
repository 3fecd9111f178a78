"""The proxy's further tasks: what they ask, what they measure, and how they fail."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effvit.config import ConfigError
from search.proxy import ProxyFailed, ProxyRecipe, transfer
from search.proxy.digits import CELLS, GRID, IGNORED, Split, canvases
from search.proxy.network import ProxyNetwork
from search.proxy.routing import RoutingRecipe
from search.proxy.scaling import proxy_config
from search.proxy.tasks import TASKS
from search.proxy.textures import CLASSES, DIRECTIONS, textures
from search.proxy.transfer import (
    Examples,
    TransferRecipe,
    TransferTask,
    evaluate_transfer,
    examples,
    replace_readings,
)
from search.workers import TrainingFailure, TrainingTask, run_transfer_task
from tests.search.proxy.test_routing import SILENT

CUE = ProxyRecipe(name="brief", steps=2, batch=2, evaluation_canvases=4)
BRIEF = TransferRecipe(
    name="brief",
    routing=RoutingRecipe(name="brief", cue=CUE, steps=1, batch=2, kept=1, evaluation_canvases=4),
    steps=2,
    batch=2,
    evaluation_canvases=4,
)


def test_the_same_seed_gives_the_same_result_bit_for_bit() -> None:
    first, again, other = (evaluate_transfer(SILENT, BRIEF, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_each_task_starts_where_the_cue_task_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task sees what another one has trained."""
    seen: list[dict[str, Tensor]] = []

    def note(network: ProxyNetwork, *_: object) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        return 0.5

    monkeypatch.setattr(transfer, "transfer", note)
    evaluate_transfer(SILENT, BRIEF, 3)
    first, second = seen
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_localisation_asks_for_the_rows_and_columns_between_cell_and_cue() -> None:
    part = examples(TransferTask.LOCALISATION, Split.TRAIN, 20, 1)
    cues = (canvases(Split.TRAIN, 20, 1).targets == IGNORED).reshape(-1, GRID, GRID)
    for answers, cue in zip(part.answers.reshape(-1, GRID, GRID, 2), cues, strict=True):
        rows, columns = np.nonzero(cue)
        for row in range(GRID):
            for column in range(GRID):
                if cue[row, column]:
                    assert (answers[row, column] == IGNORED).all()
                else:
                    away = rows.min() - row, columns.min() - column
                    assert tuple(answers[row, column] - (GRID - 1)) == away
    asked = part.answers[part.answers != IGNORED]
    assert 0 <= asked.min() <= asked.max() < part.choices


def test_every_texture_occurs_and_its_direction_can_be_read_off_the_pixels() -> None:
    """The strongest wave of a cell has its class's direction, in nearly all cells."""
    images, classes = textures(Split.TRAIN, 12, 0)
    assert images.shape == (12, 96, 96, 3)
    assert set(classes.ravel().tolist()) == set(range(CLASSES))
    cells = images.astype(float).sum(-1).reshape(12, GRID, 16, GRID, 16).transpose(0, 1, 3, 2, 4)
    cells = cells.reshape(-1, 16, 16)
    power = abs(np.fft.fft2(cells - cells.mean((1, 2), keepdims=True), s=(64, 64))) ** 2
    down, across = np.divmod(power[:, :, :32].reshape(len(cells), -1).argmax(1), 32)
    down = np.where(down >= 32, down - 64, down)
    angle = np.arctan2(down, across) % np.pi
    found = np.rint(angle / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    assert (found == classes.ravel() % DIRECTIONS).mean() > 0.7


def test_training_and_validation_textures_differ_and_a_seed_repeats_them() -> None:
    train, again = (textures(Split.TRAIN, 2, 5)[0] for _ in range(2))
    assert (train == again).all()
    assert (train != textures(Split.VALIDATION, 2, 5)[0]).any()
    assert (train != textures(Split.TRAIN, 2, 6)[0]).any()


def test_fresh_readings_have_the_wanted_outputs_and_follow_from_the_seed() -> None:
    networks = [ProxyNetwork(proxy_config(SILENT)) for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        replace_readings(network, 22, seed)
    weights = [network.readings[0].get_parameter("weight") for network in networks]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    logits = networks[0](torch.zeros(2, 3, 96, 96))
    assert logits.shape == (2, CELLS, 22)


@pytest.mark.parametrize(("right", "share"), [(2, 1.0), (1, 0.0)])
def test_a_cell_is_right_only_if_all_its_answers_are(right: int, share: float) -> None:
    """A network that answers 0 to the first questions and 1 to the others."""
    answers = np.zeros((3, CELLS, 2), np.int64)
    answers[:, :, right:] = 2
    answers[:, :5] = IGNORED
    of = Examples(np.zeros((3, 96, 96, 3), np.uint8), answers, 3)
    network = ProxyNetwork(proxy_config(SILENT))
    replace_readings(network, 6, 0)
    with torch.no_grad():
        for parameter in network.readings.parameters():
            parameter.zero_()
        network.readings[0].get_parameter("bias")[[0, 3]] = 1.0
    assert transfer.share_right(network, of) == share


@pytest.mark.parametrize("field", ["steps", "batch", "evaluation_canvases"])
def test_a_recipe_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be at least 1, got 0"):
        TransferRecipe(**cast("dict[str, Any]", {field: 0}))


def test_a_recipe_can_be_written_down() -> None:
    kept = json.loads(json.dumps(BRIEF.to_dict()))
    assert kept["routing"]["cue"]["steps"] == 2
    assert kept["steps"] == 2


def test_a_training_that_diverges_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: ProxyNetwork, outputs: int, seed: int) -> None:
        replace_readings(network, outputs, seed)
        with torch.no_grad():
            nn.init.constant_(network.readings[0].get_parameter("weight"), torch.nan)

    monkeypatch.setattr(transfer, "replace_readings", broken)
    with pytest.raises(ProxyFailed, match="loss is nan at step 0 of 2"):
        evaluate_transfer(SILENT, BRIEF)
    outcome = run_transfer_task(TrainingTask(SILENT, BRIEF, 0, tasks=TASKS))
    assert outcome == TrainingFailure("loss is nan at step 0 of 2")


def test_another_recipe_is_refused() -> None:
    with pytest.raises(TypeError, match="recipe brief is not of the further tasks"):
        run_transfer_task(TrainingTask(SILENT, CUE, 0))
