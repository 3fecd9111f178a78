"""Training: it learns, stops, goes on exactly, and says what is wrong."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import effvit
from effvit.config import ConfigError
from search.datasets import DataSettings
from search.train.brief import evaluate_on
from search.train.measure import measure
from search.train.settings import Precision, TrainingSettings, check_same_training
from search.train.trainer import CHECKPOINT, LOG, WEIGHTS, Trainer, TrainingFailed
from tests.search.datasets.folders import COLOURS, write_images
from tests.search.train.small import (
    ALONE,
    FULL,
    MODEL,
    PLAIN,
    Killed,
    KillingProgress,
    folder,
    images,
    settings,
    trainer,
    weights,
)


def equal(one: Trainer, other: Trainer) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A training of two epochs of three steps that ran through, with all that is random."""
    done = trainer(tmp_path_factory.mktemp("whole"), settings(FULL))
    done.run()
    return done


@pytest.mark.parametrize("kills", [[4], pytest.param([1, 1, 2, 1], marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_to_the_same_bits(
    tmp_path: Path, whole: Trainer, kills: list[int]
) -> None:
    """Killed after so many steps, in an epoch or between two; a checkpoint after each step."""
    for steps in kills:
        with pytest.raises(Killed):
            trainer(tmp_path, settings(FULL), save_seconds=0).run(KillingProgress(steps))
        random.seed(steps)  # whatever happens between
        np.random.seed(steps)  # noqa: NPY002
        torch.manual_seed(steps)
    resumed = trainer(tmp_path, settings(FULL), save_seconds=0)
    assert 0 < resumed.updates < 6 or kills == [1, 1, 2, 1]
    resumed.run()
    assert equal(resumed, whole)
    assert (tmp_path / LOG).read_text() == (folder(whole) / LOG).read_text()
    assert (tmp_path / WEIGHTS).read_bytes() == (folder(whole) / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_another_seed_ends_elsewhere(tmp_path: Path, whole: Trainer) -> None:
    other = trainer(tmp_path, settings(FULL, seed=1))
    other.run()
    assert not equal(other, whole)


def test_weights_are_those_of_the_average_with_their_configuration(whole: Trainer) -> None:
    path = folder(whole) / WEIGHTS
    found = load_file(path)
    assert whole.average is not None
    for name, tensor in whole.average.module.state_dict().items():
        assert torch.equal(found[name], tensor)
    with safe_open(path, "pt") as file:
        config = effvit.as_config(json.loads(file.metadata()["config"]))
    assert config == whole.settings.model
    effvit.create_model(config).load_state_dict(found)


def test_the_log_has_a_row_an_epoch(whole: Trainer) -> None:
    with (folder(whole) / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["updates"]) for row in rows] == [("1", "3"), ("2", "6")]
    for row in rows:
        assert 0 <= float(row["validation_top1"]) <= float(row["validation_top5"]) <= 1
        assert float(row["average_loss"]) > 0
        assert float(row["train_loss"]) > 0


def test_a_finished_training_does_not_train_again(whole: Trainer) -> None:
    again = Trainer(whole.settings, images(), ALONE, folder(whole))
    before = (folder(whole) / CHECKPOINT).stat().st_mtime_ns
    again.run(KillingProgress(1))  # would be killed by the first step
    assert (folder(whole) / CHECKPOINT).stat().st_mtime_ns == before


@pytest.mark.slow
def test_pieces_of_a_batch_add_up_to_it(tmp_path: Path) -> None:
    """Without mixing and batch norms, a step in pieces is the step, up to rounding."""
    once = trainer(tmp_path / "once", settings(PLAIN))
    pieces = trainer(tmp_path / "pieces", settings(PLAIN, micro_batch=2))
    for each in (once, pieces):
        each.run()
    b = weights(pieces)
    for name, tensor in weights(once).items():
        torch.testing.assert_close(tensor, b[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_training_learns(tmp_path: Path) -> None:
    recipe = dataclasses.replace(PLAIN, epochs=6, learning_rate=4e-3, crop_scale=(0.9, 1.0), flip=0)
    learner = trainer(tmp_path, settings(recipe))
    learner.run()
    losses = [row["train_loss"] for row in learner.position.rows]
    assert losses[-1] < losses[0] - 0.1


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    recipe = dataclasses.replace(PLAIN, learning_rate=1e30, clip=None)
    with pytest.raises(TrainingFailed, match="no finite number in step 3 of epoch 1"):
        trainer(tmp_path, settings(recipe)).run()


def test_an_unreadable_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"half of one")
    with pytest.raises(ConfigError, match=r"checkpoint\.pt is unreadable"):
        trainer(tmp_path, settings())


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, settings()).run()
    other = dataclasses.replace(settings(), model=MODEL.replace(depths=(1, 1, 2, 1)))
    with pytest.raises(ConfigError, match=r"checkpoint\.pt is unreadable"):
        trainer(tmp_path, other)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    wanted = settings()
    assert not check_same_training(tmp_path, wanted)
    (tmp_path / "settings.json").write_text(json.dumps({"identity": wanted.identity()}))
    assert check_same_training(tmp_path, wanted)
    changed = dataclasses.replace(wanted, recipe=dataclasses.replace(PLAIN, mixup=0.5))
    with pytest.raises(ConfigError, match=r"its recipe's mixup is 0\.0, not 0\.5"):
        check_same_training(tmp_path, changed)
    with pytest.raises(ConfigError, match="its seed is 0, not 1"):
        check_same_training(tmp_path, dataclasses.replace(wanted, seed=1))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'float16'"):
        TrainingSettings(
            model=MODEL,
            recipe=PLAIN,
            data=settings().data,
            precision="float61",  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("precision", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_lower_precision_trains_about_as_well(tmp_path: Path, precision: Precision) -> None:
    """float16 with its scaled losses as well; weights stay float32."""
    wanted = settings(PLAIN.shortened(1))
    lower = trainer(tmp_path / "lower", dataclasses.replace(wanted, precision=precision))
    full = trainer(tmp_path / "full", wanted)
    for each in (lower, full):
        each.run()
    a, b = lower.position.rows[0], full.position.rows[0]
    assert a["train_loss"] == pytest.approx(b["train_loss"], rel=0.01)
    assert a["train_loss"] != b["train_loss"]
    assert {tensor.dtype for tensor in lower.model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_a_short_training_is_an_accuracy_for_a_search() -> None:
    data = DataSettings(subset=30)
    recipe = FULL.shortened(1)
    found, again, other = (evaluate_on(MODEL, data, recipe, (32, 32), seed) for seed in (0, 0, 1))
    assert found == again != other
    assert 0 <= found.accuracy <= 1
    assert found.steps == 30 // FULL.batch


def test_a_short_training_needs_validation_images(tmp_path: Path) -> None:
    source = str(write_images(tmp_path, dict.fromkeys(COLOURS, 3)))
    with pytest.raises(ConfigError, match="no validation images"):
        evaluate_on(MODEL, DataSettings(source=source, validation=0), PLAIN, (32, 32))


class Constant(torch.nn.Module):
    """Finds class 1 most likely, then 0, 2, 3, 4 and 5."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([4.0, 5.0, 3.0, 2.0, 1.0, 0.0]).expand(len(images), 6)


def test_top_1_and_top_5_are_shares_of_all_images() -> None:
    batches = [
        (torch.zeros(3, 3, 4, 4), torch.tensor([1, 0, 5])),
        (torch.zeros(1, 3, 4, 4), torch.tensor([1])),
    ]
    found = measure(Constant(), batches, ALONE)
    assert (found.top1, found.top5, found.images) == (2 / 4, 3 / 4, 4)
    logits = torch.tensor([[4.0, 5.0, 3.0, 2.0, 1.0, 0.0]]).expand(4, 6)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 0, 5, 1]))
    assert found.loss == pytest.approx(expected.item())
