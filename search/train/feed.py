"""Batches for training and for measuring.

The order of an epoch and the augmentation of each image are functions of the seed, the epoch and
the place in it. So a training that goes on in the middle of an epoch sees what it would have seen,
whatever the number of processes or of loading workers.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from effvit.config import ConfigError, Resolution
from search.datasets import BrokenImage, ImageSource, ImageStream
from search.datasets.transforms import Transform
from search.randomness import derived_seed
from search.train.processes import Group
from search.train.recipe import Recipe
from search.train.settings import TrainingSettings

Batch = tuple[Tensor, Tensor]
"""Images (B, 3, H, W) and classes (B,)."""

_ORDER, _IMAGE = 1, 2  # what a seed is for
MEASURED_BATCH = 128


def training_transform(recipe: Recipe, resolution: Resolution) -> Transform:
    """Random crop, flip, colours and erasing, as the recipe has them, and ImageNet's scaling."""
    transform: Transform = create_transform(
        (3, *resolution),
        is_training=True,
        scale=recipe.crop_scale,
        hflip=recipe.flip,
        color_jitter=recipe.colour_jitter,
        auto_augment=recipe.rand_augment,
        interpolation=recipe.interpolation,
        re_prob=recipe.random_erasing,
        re_mode="pixel",
    )
    _take_no_bits(transform)
    return transform


def _take_no_bits(transform: Transform) -> None:
    """Let timm's posterising go down to no bits, which recent Pillow refuses: a black image.

    RandAugment of the papers' strength asks for it in one of some hundred images.
    """
    for part in getattr(transform, "transforms", ()):
        for operation in getattr(part, "ops", ()):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterized


def _posterized(image: Image.Image, bits: int, **_options: object) -> Image.Image:
    if not bits:
        return Image.new(image.mode, image.size)
    reduced: Image.Image = posterize(image, bits)
    return reduced


def measuring_transform(recipe: Recipe, resolution: Resolution) -> Transform:
    """Resize and central crop; nothing random."""
    transform: Transform = create_transform(
        (3, *resolution),
        is_training=False,
        crop_pct=recipe.test_crop,
        interpolation=recipe.interpolation,
    )
    return transform


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which images a process sees when, from some step on: a batch sampler for torch.

    Attributes:
        settings: Of the training.
        images: How many training images there are, for all processes.
        group: The processes.
        epoch, step: Where to begin.
    """

    settings: TrainingSettings
    images: int
    group: Group
    epoch: int = 0
    step: int = 0

    @property
    def steps(self) -> int:
        """Steps of an epoch; images over are left out, others in each epoch.

        Raises:
            ConfigError: There are fewer images than a batch has.
        """
        batch = self.settings.recipe.batch
        if self.images < batch:
            raise ConfigError(
                f"the recipe's batch must be at most the {self.images} training images, "
                f"got {batch} (nearest valid: {self.images - self.images % 2})"
            )
        return self.images // batch

    def __len__(self) -> int:
        """Pieces that are left, in this process."""
        _, pieces = self.settings.pieces(self.group.size)
        done = self.epoch * self.steps + self.step
        return pieces * (self.settings.recipe.epochs * self.steps - done)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Pieces of steps: numbers of images, each with the seed of its augmentation."""
        size, pieces = self.settings.pieces(self.group.size)
        batch, seed = self.settings.recipe.batch, self.settings.seed
        first = self.step
        for epoch in range(self.epoch, self.settings.recipe.epochs):
            order = np.random.default_rng((seed, _ORDER, epoch)).permutation(self.images)
            for step in range(first, self.steps):
                start = step * batch + self.group.rank * size * pieces
                for piece in range(start, start + size * pieces, size):
                    yield [
                        (int(order[place]), derived_seed(seed, _IMAGE, epoch, place))
                        for place in range(piece, piece + size)
                    ]
            first = 0


def images_of_epoch(images: ImageSource, group: Group) -> int:
    """Training images of all processes; streams come divided among them."""
    return len(images) * (group.size if isinstance(images, ImageStream) else 1)


def training_batches(images: ImageSource, plan: Plan, workers: int) -> Iterator[Batch]:
    """Batches of a plan, loaded in so many processes; in this one if 0.

    A stream that is gone on with in the middle of an epoch is read again up to there.

    Args:
        images: Training images with their transform.
        plan: What to load.
        workers: Processes that load.
    """
    if isinstance(images, ImageStream):
        return _streamed_batches(images, plan, workers)
    loader = DataLoader(
        images,
        batch_sampler=plan,
        num_workers=workers,
        pin_memory=plan.group.device.type == "cuda",
    )
    return _named_errors(loader)


def _streamed_batches(images: ImageStream, plan: Plan, workers: int) -> Iterator[Batch]:
    settings = plan.settings
    size, pieces = settings.pieces(plan.group.size)
    first = plan.step * pieces
    for epoch in range(plan.epoch, settings.recipe.epochs):
        loader = DataLoader(
            images.of_epoch(epoch, settings.seed, workers),
            size,
            num_workers=workers,
            drop_last=True,
            pin_memory=plan.group.device.type == "cuda",
        )
        given = 0
        for batch in itertools.islice(_named_errors(loader), plan.steps * pieces):
            given += 1
            if given > first:
                yield batch
        if given < plan.steps * pieces:
            raise ConfigError(
                f"an epoch needs {plan.steps * pieces * size} images, the stream ended after "
                f"{given * size}"
            )
        first = 0


def measuring_batches(images: ImageSource, group: Group, workers: int) -> Iterator[Batch]:
    """Each image once over all processes, in order, with its transform."""
    mine = (
        images
        if isinstance(images, ImageStream)  # divided by timm
        else Subset(images, range(group.rank, len(images), group.size))
    )
    loader = DataLoader(
        mine, MEASURED_BATCH, num_workers=workers, pin_memory=group.device.type == "cuda"
    )
    return _named_errors(loader)


def _named_errors(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[Batch]:
    """Yield batches; what a worker says of a broken image comes without the worker's traceback."""
    try:
        for images, targets in loader:
            yield images, torch.as_tensor(targets, dtype=torch.int64)
    except BrokenImage as error:
        raise BrokenImage(str(error).rpartition("BrokenImage: ")[2].strip()) from None
