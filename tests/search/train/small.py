"""A training that takes a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from effvit import ModelConfig
from effvit.designs.sepvit import SepViTConfig
from search.datasets import DataSettings, ImageData, ImageSet, load_data
from search.train.processes import Group
from search.train.progress import TrainingProgress
from search.train.recipe import Recipe
from search.train.settings import TrainingSettings
from search.train.trainer import Trainer

ALONE = Group(0, 1, torch.device("cpu"))

MODEL: ModelConfig = SepViTConfig(
    widths=(8, 8, 16, 16),
    depths=(1, 1, 1, 1),
    heads=(1, 1, 2, 2),
    windows=((4,), (2,), (2,), (1,)),
    image_size=(32, 32),
    num_classes=10,
)

PLAIN = Recipe(
    name="plain",
    source="a test",
    epochs=2,
    batch=8,
    learning_rate=1e-3,
    rate_batch=8,
    clip=1.0,
    label_smoothing=0.0,
)
"""Nothing random but order and crops."""

FULL = dataclasses.replace(
    PLAIN,
    name="full",
    warm_up=1,
    label_smoothing=0.1,
    drop_path=0.3,
    drop=0.2,
    rand_augment="rand-m9-mstd0.5-inc1",
    random_erasing=0.5,
    mixup=0.8,
    cutmix=1.0,
    average=0.9,
)
"""Everything that is random in a paper's recipe."""


def settings(
    recipe: Recipe = PLAIN, micro_batch: int | None = None, seed: int = 0
) -> TrainingSettings:
    model = MODEL.replace(drop_path_rate=recipe.drop_path, drop_rate=recipe.drop)
    data = DataSettings(subset=30)
    return TrainingSettings(
        model=model, recipe=recipe, data=data, micro_batch=micro_batch, seed=seed
    )


def images() -> ImageData:
    """Thirty digits to train on, and twenty to validate."""
    data = load_data(DataSettings(subset=30))
    assert isinstance(data.validation, ImageSet)
    few = ImageSet(data.validation._images, data.validation.chosen[:20])
    return dataclasses.replace(data, validation=few)


def trainer(out: Path, wanted: TrainingSettings, save_seconds: float = 600.0) -> Trainer:
    out.mkdir(exist_ok=True)
    return Trainer(wanted, images(), ALONE, out, save_seconds=save_seconds)


def folder(of: Trainer) -> Path:
    """Where a training writes."""
    assert of.folder is not None
    return of.folder


def weights(of: Trainer) -> dict[str, Tensor]:
    """All numbers that a training leaves."""
    found = {f"model {name}": t for name, t in of.model.state_dict().items()}
    if of.average is not None:
        found |= {f"average {name}": t for name, t in of.average.module.state_dict().items()}
    return found


class Killed(BaseException):
    """What ends a training in the middle."""


class KillingProgress(TrainingProgress):
    """Ends a training after so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self, loss: float | None) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    def epoch(self, number: int, loss: float, top1: float | None) -> None:
        pass
