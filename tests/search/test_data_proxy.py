"""Work on a data set: what is an outcome, how long trainings are, and which spaces it opens."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from effvit.config import ConfigError
from search import data_proxy
from search.axis import AxisOptions, choose_axis
from search.data_proxy import MOST_EPOCHS, ImageWork, image_training
from search.datasets import DataSettings
from search.datasets.images import CIFAR10
from search.proxy import ProxyRecipe
from search.train import final
from search.train.recipe import SMALL, Recipe
from search.workers import TrainingFailure, TrainingTask, TrialScores
from spaces import get_space
from tests.search.datasets.folders import COLOURS, write_cifar, write_images, write_parts
from tests.search.train.small import MODEL, PLAIN

SIDES = (32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    few = dict.fromkeys(COLOURS, 4)
    return write_parts(tmp_path_factory.mktemp("data") / "colours", train=few, val=few, test=few)


def done(
    folder: Path, recipe: Recipe = PLAIN, *, final: bool = False
) -> TrialScores | TrainingFailure:
    work = ImageWork(DataSettings(source=str(folder)), SIDES)
    return work(TrainingTask(MODEL, recipe, seed=3, final=final))


def test_a_trial_is_scored_on_the_validation_part(folder: Path) -> None:
    scores = done(folder)
    assert isinstance(scores, TrialScores)
    assert (scores.steps, scores.seed) == (PLAIN.epochs * (12 // PLAIN.batch), 3)
    assert scores.accuracy * 12 == pytest.approx(round(scores.accuracy * 12))
    assert (scores.test_accuracy, scores.relation, scores.relation_found) == (None, None, None)
    assert done(folder) == scores


def test_a_task_may_be_with_smaller_images(folder: Path) -> None:
    """It is then the same as in a search with such images."""
    work = ImageWork(DataSettings(source=str(folder)), (48, 40))
    task = TrainingTask(MODEL, PLAIN, seed=3)
    scores = work(dataclasses.replace(task, resolution=SIDES))
    assert isinstance(scores, TrialScores)
    assert scores.resolution == SIDES
    assert scores == done(folder)
    whole = work(task)
    assert isinstance(whole, TrialScores)
    assert whole.resolution == (48, 40)


def test_a_finalist_is_scored_on_the_test_part_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finalist = done(folder, final=True)
    assert isinstance(finalist, TrialScores)
    assert finalist.test_accuracy is not None
    assert dataclasses.replace(finalist, test_accuracy=None) == done(folder)

    def closed(*_: object) -> None:
        raise AssertionError("the test part was opened")

    monkeypatch.setattr(final, "held_out_images", closed)
    assert isinstance(done(folder), TrialScores)
    with pytest.raises(AssertionError, match="was opened"):
        done(folder, final=True)


def test_what_goes_wrong_with_a_variant_or_an_image_is_an_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "images", dict.fromkeys(COLOURS, 10))
    diverging = dataclasses.replace(PLAIN, learning_rate=1e30, clip=None)
    failed = done(folder, diverging)
    assert isinstance(failed, TrainingFailure)
    assert "no finite number" in failed.reason
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    failed = done(folder)
    assert isinstance(failed, TrainingFailure)
    assert failed.reason.startswith(f"cannot read image {folder}")
    for error, reason in ((MemoryError(), "out of memory"), (RuntimeError("a\n b"), "a b")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(data_proxy, "evaluate_on", fail)
        assert done(folder) == TrainingFailure(reason)


def test_a_data_set_that_is_gone_is_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nor is there such a folder"):
        done(tmp_path / "gone")


def test_a_task_of_images_is_not_taken_for_one_of_the_embedded_task() -> None:
    assert TrainingTask(MODEL, ProxyRecipe(name="brief", steps=1), 0).recipe.steps == 1
    with pytest.raises(TypeError, match="recipe plain is not of the embedded task"):
        _ = TrainingTask(MODEL, PLAIN, 0).recipe


@pytest.mark.parametrize(
    ("images", "epochs"),
    [
        (2 * 12, (2, 6)),  # as many images as are to be seen, in whole epochs
        (1, (1, 1)),
        (1000 * 12, (MOST_EPOCHS, 2 * MOST_EPOCHS)),
    ],
)
def test_trainings_are_as_long_as_their_data_is_small(
    folder: Path, monkeypatch: pytest.MonkeyPatch, images: int, epochs: tuple[int, int]
) -> None:
    monkeypatch.setattr(data_proxy, "SEARCH_IMAGES", images)
    monkeypatch.setattr(data_proxy, "FINAL_IMAGES", 3 * images)
    data, recipe = DataSettings(source=str(folder)), dataclasses.replace(SMALL, batch=6)
    training = image_training(data, MODEL, recipe, SIDES)
    assert (training.search_recipe.epochs, training.final_recipe.epochs) == epochs
    assert training.steps == epochs[0] * (12 // 6)
    asked = image_training(data, MODEL, recipe, SIDES, 4, 5)
    assert (asked.search_recipe, asked.final_recipe) == (recipe.shortened(4), recipe.shortened(5))


def cifar(folder: Path) -> DataSettings:
    return DataSettings(source=str(write_cifar(folder, CIFAR10).parent), classes=4, subset=20)


def imagenet(folder: Path) -> DataSettings:
    few = dict.fromkeys(COLOURS, 10)
    write_parts(folder / "ILSVRC" / "Data" / "CLS-LOC", train=few, val=few)
    return DataSettings(source=str(folder))


def tar_file(folder: Path) -> DataSettings:
    write_images(folder / "images", dict.fromkeys(COLOURS, 10))
    with tarfile.open(folder / "images.tar", "w") as archive:
        archive.add(folder / "images", arcname=".")
    return DataSettings(source=str(folder / "images.tar"))


def scheme(folder: Path) -> DataSettings:
    few = dict.fromkeys(COLOURS, 10)
    root = write_parts(folder, train=few, validation=few)
    return DataSettings(source="torch/image_folder", root=str(root))


@pytest.mark.parametrize(
    ("make", "name", "classes", "images", "held"),
    [
        (cifar, "data", 4, 20, 4 * 1),  # of 40 images of four classes, one of each is held
        (imagenet, "data", 3, 3 * 9, 3 * 1),
        (tar_file, "images.tar", 3, 3 * 8, 3 * 1),
        (scheme, "torch/image_folder", 3, 3 * 9, 3 * 1),
    ],
)
def test_every_kind_of_data_set_can_be_searched_on(
    make: Callable[[Path], DataSettings],
    name: str,
    classes: int,
    images: int,
    held: int,
    tmp_path: Path,
) -> None:
    data = make(tmp_path / "data")
    training = image_training(data, MODEL, dataclasses.replace(SMALL, batch=6), SIDES, 1)
    assert (training.name, training.classes) == (name, classes)
    assert (training.images, training.held) == (images, held)
    task = TrainingTask(MODEL, training.search_recipe, seed=0)
    assert isinstance(ImageWork(data, SIDES)(task), TrialScores)


def test_spaces_that_the_embedded_task_has_no_rule_for_can_be_searched(folder: Path) -> None:
    space = get_space("pit")
    options = AxisOptions(data=DataSettings(source=str(folder)), changes=["batch=6"], epochs=1)
    axis = choose_axis(space, options)
    assert isinstance(axis.search_recipe, Recipe)
    assert axis.resolution == data_proxy.RESOLUTION
    # Two steps of 6 images of 64 x 64 pixels; a step of the embedded task has 4 of 96 x 96.
    assert axis.steps == round(2 * 6 * 64 * 64 / (4 * 96 * 96))
    with pytest.raises(ConfigError, match="the proxy scales families"):
        choose_axis(space, AxisOptions(data=DataSettings()))
