"""Training, validation and test images of a data set."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from effvit.config import ConfigError
from search.datasets.images import BrokenImage, Images, IntArray, digit_images
from search.datasets.layouts import Layout, find_layout
from search.datasets.settings import EMBEDDED, TEST_SPLIT, DataSettings
from search.datasets.streams import ImageStream, is_stream, open_stream
from search.datasets.transforms import Transform
from search.proxy.digits import Split, held_out_sources, split_sources
from search.randomness import seeded

__all__ = [
    "BrokenImage",
    "ImageData",
    "ImageSet",
    "ImageSource",
    "ImageStream",
    "held_out_images",
    "load_data",
]

Key: TypeAlias = int | tuple[int, int]
"""Number of an image; or its number, and the seed of its transform."""

_SPLIT_SEED = 20220329  # one split for everybody, as of the digits


class ImageSet(Dataset[tuple[Tensor, int]]):
    """Images of one part, transformed when they are read.

    Args:
        images: Where they come from.
        chosen: Numbers of those that count, in order.
        transform: From an RGB image to the tensor that a network reads.
    """

    def __init__(
        self, images: Images, chosen: IntArray, transform: Transform | None = None
    ) -> None:
        self._images = images
        self.chosen = chosen
        self._transform = transform

    def transformed(self, transform: Transform) -> ImageSet:
        """Return the same images under a transform."""
        return ImageSet(self._images, self.chosen, transform)

    @property
    def labels(self) -> IntArray | None:
        """Class of each image, where that is known without reading it."""
        labels = self._images.labels
        return None if labels is None else labels[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        """Read and transform an image.

        Args:
            key: Its number; with a seed, the transform draws its random numbers from that.

        Raises:
            BrokenImage: It cannot be read.
            ConfigError: There is no transform.
        """
        if self._transform is None:
            raise ConfigError("images need a transform: use ImageSet.transformed")
        number, seed = key if isinstance(key, tuple) else (key, None)
        image, label = self._images.read(int(self.chosen[number]))
        if seed is None:
            return self._transform(image), label
        with seeded(seed):
            return self._transform(image), label


ImageSource: TypeAlias = ImageSet | ImageStream
"""Images of one part, by index or one after the other."""


@dataclasses.dataclass(frozen=True)
class ImageData:
    """What training and search may see of a data set.

    Attributes:
        classes: Names of the classes.
        train: Training images.
        validation: Validation images; None if there are none.
    """

    classes: tuple[str, ...]
    train: ImageSource
    validation: ImageSource | None


def load_data(settings: DataSettings) -> ImageData:
    """Open the training and validation parts of a data set; the test part stays closed.

    Raises:
        ConfigError: There is no such data set, or it is broken; the message says what.
    """
    if settings.source == EMBEDDED:
        train, validation = (digit_images(split_sources(split)) for split in Split)
        kept = _in_classes(train, settings.classes)
        return ImageData(
            _class_names(train, settings.classes),
            ImageSet(train, _subset(train, kept, settings.subset)),
            ImageSet(validation, _in_classes(validation, settings.classes)),
        )
    if is_stream(settings):
        return _streams(settings)
    layout = find_layout(settings)
    images = layout.train()
    parts = _cut(images, settings, layout)
    own = layout.validation(images.classes) if layout.validation else None
    if own is not None:
        validation_set = ImageSet(own, _in_classes(own, settings.classes))
    else:
        validation_set = ImageSet(images, parts.validation)
    return ImageData(
        _class_names(images, settings.classes),
        ImageSet(images, _subset(images, parts.train, settings.subset)),
        validation_set if len(validation_set) else None,
    )


def _streams(settings: DataSettings) -> ImageData:
    """Parts of a data set that is a stream: nothing can be cut from it."""
    part = settings.validation_part
    if part is not None and part == (settings.test_part or TEST_SPLIT):
        raise ConfigError(f"part {part!r} cannot be validation and test; name both")
    return ImageData(
        tuple(str(number) for number in range(settings.classes or 0)),
        open_stream(settings, settings.train_part or "train", shuffled=True),
        None if part is None else open_stream(settings, part),
    )


def held_out_images(settings: DataSettings) -> ImageSource:
    """Open the test part of a data set. For a final report only.

    Raises:
        ConfigError: There is no such data set, it is broken, or too small for a test part.
    """
    if settings.source == EMBEDDED:
        digits = digit_images(held_out_sources())
        return ImageSet(digits, _in_classes(digits, settings.classes))
    if is_stream(settings):
        return open_stream(settings, settings.test_part or TEST_SPLIT)
    layout = find_layout(settings)
    images = layout.train()
    if layout.test is None:
        chosen = _cut(images, settings, layout).test
    else:
        images = layout.test(images.classes)
        chosen = _in_classes(images, settings.classes)
    if not len(chosen):
        raise ConfigError(f"data {settings.source} has no test images")
    return ImageSet(images, chosen)


# --- which images count ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Numbers of images of a training part that are for each purpose."""

    train: IntArray
    validation: IntArray
    test: IntArray


def _cut(images: Images, settings: DataSettings, layout: Layout) -> _Parts:
    """Cut from the training part what the data set does not bring, the same share of each class.

    The cut depends on the data set alone, not on which classes or how many images are asked for.
    """
    shares = [
        0.0 if layout.validation else settings.validation,
        0.0 if layout.test else settings.validation,
    ]
    train: list[IntArray] = []
    cut: tuple[list[IntArray], list[IntArray]] = ([], [])
    for members in _groups(images, _in_classes(images, settings.classes)):
        rest = members
        for share, taken in zip(shares, cut, strict=True):
            count = min(len(rest) - 1, max(1, round(share * len(members)))) if share else 0
            taken.append(rest[:count])
            rest = rest[count:]
        train.append(rest)
    return _Parts(_joined(train), _joined(cut[0]), _joined(cut[1]))


def _groups(images: Images, chosen: IntArray) -> list[IntArray]:
    """Chosen images class by class, all in one where classes are unknown, in random order."""
    if images.labels is None:
        return [np.random.default_rng(_SPLIT_SEED).permutation(chosen)]
    labels = images.labels[chosen]
    return [
        np.random.default_rng((_SPLIT_SEED, int(label))).permutation(chosen[labels == label])
        for label in np.unique(labels)
    ]


def _subset(images: Images, chosen: IntArray, subset: float) -> IntArray:
    """Part of the training images, the same share of each class, at least one of each."""
    share = subset if subset <= 1 else subset / len(chosen)
    if share > 1:
        raise ConfigError(
            f"subset must be at most the {len(chosen)} training images, got {subset:.0f}"
        )
    if share == 1:
        return chosen
    groups = _groups(images, chosen)
    return _joined([group[: max(1, round(share * len(group)))] for group in groups])


def _in_classes(images: Images, classes: int | None) -> IntArray:
    """Numbers of the images of the first so many classes."""
    everything = np.arange(len(images))
    if classes is None:
        return everything
    if images.classes and classes > len(images.classes):
        raise ConfigError(f"classes must be 2 to {len(images.classes)} here, got {classes}")
    if images.labels is None:
        return everything
    return everything[images.labels < classes]


def _class_names(images: Images, classes: int | None) -> tuple[str, ...]:
    names = images.classes[:classes]
    if names:
        return names
    if classes is None:
        raise ConfigError("the data set does not tell its classes: say how many there are")
    return tuple(str(number) for number in range(classes))


def _joined(parts: list[IntArray]) -> IntArray:
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
