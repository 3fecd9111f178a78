"""A data set of the user's in the place of the embedded task: a short training of each variant.

Trials are trained on its training part and measured on its validation part. The test part is read
for finalists alone, by :func:`search.train.brief.evaluate_on_with_test`.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from effvit import ConfigError, ModelConfig
from effvit.config import Resolution, resolution_text
from search.datasets import BrokenImage, DataSettings, ImageSource, ImageStream, load_data
from search.datasets.layouts import find_layout
from search.datasets.settings import VALIDATION_SHARE
from search.datasets.streams import is_stream
from search.fidelities import FIDELITIES, Fidelities
from search.train.brief import as_trained, evaluate_on, evaluate_on_with_test
from search.train.feed import Plan, images_of_epoch, measuring_transform
from search.train.processes import Group
from search.train.recipe import Recipe
from search.train.settings import TrainingSettings
from search.workers import TrainingFailure, TrainingTask, TrialScores, as_outcome

RESOLUTION: Resolution = (64, 64)
"""Of the images unless another is asked for: a twelfth of the pixels of 224x224."""

SEARCH_IMAGES, FINAL_IMAGES = 6400, 12800
"""Images that a trial and a finalist see, in whole epochs, unless epochs are asked for."""

MOST_EPOCHS = 20
"""Of a trial, where a data set is small; a finalist has twice as many at most."""

PROBED_IMAGES = 8
"""Images of each part that are read at the start, to see whether the data set is broken."""

NOT_MEASURED = (
    "The order of variants: how well so short a training ranks them has not been measured on these "
    "images."
)
NO_CLAIM = "What a variant would reach with a full training: no such claim is made."


@dataclasses.dataclass(frozen=True)
class ImageWork:
    """What a worker process does with a task: train on a data set, and measure.

    Attributes:
        data: The data set.
        resolution: Of its images, in pixels, unless a task says otherwise.
    """

    data: DataSettings
    resolution: Resolution

    def __call__(self, task: TrainingTask) -> TrialScores | TrainingFailure:
        """Train; what goes wrong with the variant or with an image is an outcome.

        Raises:
            ConfigError: The data set as a whole is not what it was at the start.
        """
        try:
            return as_outcome(lambda: self._trained(task))
        except BrokenImage as error:
            return TrainingFailure(str(error))

    def _trained(self, task: TrainingTask) -> TrialScores:
        recipe = task.how
        assert isinstance(recipe, Recipe), "the embedded task is another worker's"
        start, test_accuracy = time.perf_counter(), None
        resolution = task.resolution or self.resolution
        if task.final:
            result, test = evaluate_on_with_test(
                task.config, self.data, recipe, resolution, task.seed
            )
            test_accuracy = test.top1
        else:
            result = evaluate_on(task.config, self.data, recipe, resolution, task.seed)
        return TrialScores(
            accuracy=result.accuracy,
            test_accuracy=test_accuracy,
            resolution=resolution,
            steps=result.steps,
            seed=task.seed,
            seconds=time.perf_counter() - start,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTraining:
    """How the variants of a search are trained on a data set that was found sound.

    Attributes:
        data: The data set.
        resolution: Of its images, in pixels.
        search_recipe, final_recipe: How trials and finalists are trained.
        classes: How many there are.
        images, held: How many are trained on, and how many are validated on.
        steps: Optimiser steps of a trial.
        smaller: Sizes of smaller images with which variants are trained first, to compare them.
    """

    data: DataSettings
    resolution: Resolution
    search_recipe: Recipe
    final_recipe: Recipe
    classes: int
    images: int
    held: int
    steps: int
    smaller: tuple[Resolution, ...] = ()

    @property
    def name(self) -> str:
        """Of the data set: the folder's, or the scheme's."""
        path = Path(self.data.source).expanduser()
        return path.resolve().name if path.exists() else self.data.source

    @property
    def side(self) -> str:
        """The images' size."""
        return resolution_text(self.resolution)

    @property
    def _first(self) -> str:
        """The smaller images' sizes."""
        return " and ".join(map(resolution_text, self.smaller))

    def describe(self) -> str:
        """Say what is trained how, in a line."""
        return (
            f"accuracy: {self.name} at {self.side}, {self.classes} classes: {self.images:,} images "
            f"to train on, {self.held:,} to validate; epochs of a trial: "
            f"{self.search_recipe.epochs}, of a finalist: {self.final_recipe.epochs}"
            + (f"; compared at {self._first} first" if self.smaller else "")
        )

    def statement(self) -> dict[str, Any]:
        """What every report must say; see :func:`search.proxy.statement.statement`."""
        epochs, longer = self.search_recipe.epochs, self.final_recipe.epochs
        finalists = "" if longer == epochs else f" (finalists: {longer})"
        unit = "epoch" if epochs == 1 else "epochs"
        return {
            "name": f"{self.name} at {self.side} pixels, trained for {epochs} {unit}{finalists}",
            "accuracy": f"accuracy on validation images of {self.name} after "
            f"{epochs} {unit}{finalists}",
            "description": (
                f"The variant as it is, built for images of {self.side} pixels, is trained from "
                f"scratch on {self.images:,} training images of {self.name} ({self.classes} "
                f"classes) with the recipe {self.search_recipe.name}, and measured on "
                f"{self.held:,} validation images. Finalists are trained again with several seeds, "
                "and measured on the test images as well, which nothing else reads. MACs and "
                "latency are those at the resolution of the search."
                + (
                    f" Variants are first built for images of {self._first} pixels, trained and "
                    "measured on these, and only the most promising go on; how well that ranks "
                    "them has not been measured either."
                    if self.smaller
                    else ""
                )
            ),
            "resolves": [],
            "does_not_resolve": [NOT_MEASURED, NO_CLAIM],
            "ranking": None,
            "data": {
                **self.data.to_dict(),
                "resolution": list(self.resolution),
                "class_count": self.classes,
                "training_images": self.images,
                "validation_images": self.held,
            },
        }


def image_training(
    data: DataSettings,
    config: ModelConfig,
    recipe: Recipe,
    resolution: Resolution = RESOLUTION,
    epochs: int | None = None,
    final_epochs: int | None = None,
    fidelities: Fidelities = FIDELITIES["full"],
) -> ImageTraining:
    """Open a data set, look whether it can be trained on, and settle for how long.

    Args:
        data: The data set. Its test part stays closed.
        config: Any variant of the space.
        recipe: How to train, apart from the epochs.
        resolution: Of the images, in pixels.
        epochs: Of a trial; by :data:`SEARCH_IMAGES` if None.
        final_epochs: Of a finalist; by :data:`FINAL_IMAGES` if None.
        fidelities: How many variants are trained how far.

    Raises:
        ConfigError: It is missing, broken, lacks a part, or is smaller than a batch; or the
            resolution does not fit.
    """
    smaller = fidelities.smaller(resolution)
    images = load_data(data)
    if images.validation is None:
        raise ConfigError(
            f"data {data.source} has no validation images to search with (nearest valid: "
            f"--validation {VALIDATION_SHARE})"
        )
    _check_test_part(data)
    alone = Group(0, 1, torch.device("cpu"))
    count = images_of_epoch(images.train, alone)
    short = recipe.shortened(epochs or _epochs(SEARCH_IMAGES, count, MOST_EPOCHS))
    long = recipe.shortened(final_epochs or _epochs(FINAL_IMAGES, count, 2 * MOST_EPOCHS))
    model = as_trained(config, short, resolution, len(images.classes))
    plan = Plan(TrainingSettings(model=model, recipe=short, data=data), count, alone)
    steps = plan.steps * short.epochs  # refuses fewer images than a batch
    for part in (images.train, images.validation):
        _probe(part, recipe, resolution)
    return ImageTraining(
        data=data,
        resolution=resolution,
        search_recipe=short,
        final_recipe=long,
        classes=len(images.classes),
        images=count,
        held=len(images.validation),
        steps=steps,
        smaller=smaller,
    )


def _check_test_part(data: DataSettings) -> None:
    """Refuse a data set that is known to have no test part, without opening one."""
    if not is_stream(data) and data.validation == 0 and find_layout(data).test is None:
        raise ConfigError(
            f"data {data.source} brings no test images, and --validation 0 cuts none for the "
            f"finalists (nearest valid: --validation {VALIDATION_SHARE})"
        )


def _epochs(seen: int, images: int, most: int) -> int:
    """Whole epochs in which about so many images are seen."""
    return max(1, min(most, round(seen / max(1, images))))


def _probe(part: ImageSource, recipe: Recipe, resolution: Resolution) -> None:
    """Read a few images, spread over a part.

    Raises:
        BrokenImage: One cannot be read.
    """
    images = part.transformed(measuring_transform(recipe, resolution))
    if isinstance(images, ImageStream):
        next(iter(images), None)
        return
    for number in np.linspace(0, len(images) - 1, PROBED_IMAGES, dtype=int):
        images[int(number)]
