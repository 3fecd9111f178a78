"""A short training of a variant on real images, as an accuracy for a search.

The embedded proxy (:mod:`search.proxy`) needs no files; this is the same question asked of a data
set of the user's. Training and validation images are read; test images by
:func:`evaluate_on_with_test` alone, which is for finalists.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch

from effvit import ModelConfig
from effvit.config import ConfigError, Resolution
from search.datasets import DataSettings, ImageData, load_data
from search.datasets.streams import is_stream
from search.train.final import measure_held_out
from search.train.measure import Measured
from search.train.processes import Group
from search.train.recipe import Recipe
from search.train.settings import TrainingSettings
from search.train.trainer import Trainer, TrainingFailed


@dataclasses.dataclass(frozen=True)
class BriefResult:
    """What a short training reached on the validation images.

    Attributes:
        accuracy: Share of images whose class is found, of the network or its moving average,
            whichever the recipe ends with.
        loss: Mean cross entropy of the same.
        train_loss: Mean loss of the last epoch's steps, as trained: smoothed and augmented.
        steps: Optimiser steps.
    """

    accuracy: float
    loss: float
    train_loss: float
    steps: int


def evaluate_on(
    config: ModelConfig,
    data: DataSettings,
    recipe: Recipe,
    resolution: Resolution,
    seed: int = 0,
    device: str = "cpu",
) -> BriefResult:
    """Train a variant on a data set and measure it on the validation part.

    The same arguments give the same result, bit for bit, on one machine's CPU and with the same
    number of threads.

    Args:
        config: The variant; it is built for this resolution and the data set's classes.
        data: The data set.
        recipe: How to train, such as :data:`search.train.recipe.SMALL` with fewer epochs.
        resolution: Of the images, in pixels.
        seed: Of everything random.
        device: Where to train.

    Raises:
        ConfigError: The data set is missing, broken, or has no validation images.
        BrokenImage: An image cannot be read.
        TrainingFailed: The loss is no finite number.
    """
    return _result(_trained(config, data, recipe, resolution, seed, device))


def evaluate_on_with_test(
    config: ModelConfig,
    data: DataSettings,
    recipe: Recipe,
    resolution: Resolution,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[BriefResult, Measured]:
    """As :func:`evaluate_on`, and on the test part as well. For a final report only.

    Returns:
        What it reached on the validation images, and on the test images.

    Raises:
        ConfigError: As there, or there are no test images.
    """
    trainer = _trained(config, data, recipe, resolution, seed, device)
    group = _alone(device)
    return _result(trainer), measure_held_out(trainer.final, trainer.settings, group)


def _trained(
    config: ModelConfig,
    data: DataSettings,
    recipe: Recipe,
    resolution: Resolution,
    seed: int,
    device: str,
) -> Trainer:
    """Train a variant to the end."""
    images = load_data(data) if is_stream(data) else _indexed(data)
    if images.validation is None:
        raise ConfigError(f"data {data.source} has no validation images to search with")
    settings = TrainingSettings(
        model=as_trained(config, recipe, resolution, len(images.classes)),
        recipe=recipe,
        data=data,
        seed=seed,
    )
    trainer = Trainer(settings, images, _alone(device), None, validate="end")
    trainer.run()
    if not math.isfinite(_result(trainer).loss):
        raise TrainingFailed("the loss on the validation images is no finite number")
    return trainer


def _alone(device: str) -> Group:
    return Group(0, 1, torch.device(device))


@functools.lru_cache(maxsize=1)  # a process trains many variants on one data set
def _indexed(data: DataSettings) -> ImageData:
    return load_data(data)


def _result(trainer: Trainer) -> BriefResult:
    row: dict[str, Any] = trainer.position.rows[-1]
    kind = "validation" if trainer.average is None else "average"
    return BriefResult(
        accuracy=row[f"{kind}_top1"],
        loss=row[f"{kind}_loss"],
        train_loss=row["train_loss"],
        steps=trainer.updates,
    )


def as_trained(
    config: ModelConfig, recipe: Recipe, resolution: Resolution, classes: int
) -> ModelConfig:
    """Return a variant for a resolution and classes, with the recipe's dropout."""
    return config.replace(
        image_size=resolution,
        num_classes=classes,
        drop_rate=recipe.drop,
        drop_path_rate=recipe.drop_path,
    )
