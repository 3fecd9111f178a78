"""Data sets that timm opens: by index where they allow it, else as a stream."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from timm.data import ImageDataset, create_dataset
from timm.data.dataset import IterableImageDataset

from effvit.config import ConfigError
from search.datasets.images import BrokenImage, IntArray, open_image

SCHEMES = ("torch", "hfds", "hfids", "tfds", "wds")
"""What ``timm.data.create_dataset`` knows, as in ``hfds/uoft-cs/cifar10``."""

STREAMS = ("hfids", "tfds", "wds")
"""Those of them that can only be read from the start to the end."""


class TimmImages:
    """A data set of timm that can be read by index.

    Args:
        name: As timm has it, such as ``torch/cifar10``; empty for a tar file.
        root: Where its files are.
        part: Name of its split.

    Raises:
        ConfigError: timm cannot open it, or it does not tell its classes.
    """

    def __init__(self, name: str, root: str | None, part: str) -> None:
        self._name = f"{name or root}, {part}"
        self._data = _opened(name, root, part)
        labels = _labels(self._data)
        self.labels: IntArray | None = labels
        self.classes = _class_names(self._data, labels)

    def __len__(self) -> int:
        return len(self._data)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Read an image and its class; timm's own way goes past broken ones without a word."""
        name = f"{index} of {self._name}"
        if isinstance(self._data, ImageDataset):
            file, label = self._data.reader[index]
            return open_image(file, name), int(label)
        try:
            image, label = self._data[index]
        except (OSError, SyntaxError) as error:
            raise BrokenImage(f"cannot read image {name}: {error}") from error
        return image.convert("RGB"), int(label)


class TimmStream:
    """A data set of timm that is read from the start to the end, epoch by epoch.

    Args:
        name, root, part: As for :class:`TimmImages`.
        shuffled: Whether epochs come in an order of their own, settled by ``seed``.
        seed: Of the order.

    Raises:
        ConfigError: timm cannot open it.
    """

    def __init__(
        self, name: str, root: str | None, part: str, *, shuffled: bool = False, seed: int = 0
    ) -> None:
        self._data = _opened(name, root, part, is_training=shuffled, seed=seed)

    def __len__(self) -> int:
        return len(self._data)

    def expect_workers(self, count: int) -> None:
        """Say how many processes will read, on which its length may depend."""
        self._data.set_loader_cfg(num_workers=count)

    def epoch(self, number: int) -> Iterator[tuple[Image.Image, int]]:
        """Images and classes of an epoch."""
        self._data.set_epoch(number)
        for image, label in self._data:
            yield image.convert("RGB"), int(label)


def _opened(name: str, root: str | None, part: str, **options: Any) -> Any:  # noqa: ANN401 - timm's
    """Open a data set with timm, and say in one line what is wrong with it."""
    shown = name or root
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what to install
            data = create_dataset(name, root=root, split=part, **options)
    except ImportError as error:
        raise ConfigError(f"data {shown!r} needs a package: {error}") from error
    except (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ConfigError(f"timm cannot open data {shown!r}, part {part!r}: {reason}") from error
    if isinstance(data, IterableImageDataset) != (name.partition("/")[0].lower() in STREAMS):
        raise ConfigError(f"data {shown!r} is not what its scheme says")
    return data


def _labels(data: Any) -> IntArray | None:  # noqa: ANN401 - timm's and torchvision's
    """Class of each image, where the data set tells it without reading images."""
    labels = getattr(data, "targets", None)
    reader: Any = getattr(data, "reader", None)
    if labels is None and hasattr(reader, "targets"):
        labels = reader.targets
    elif labels is None and hasattr(reader, "samples"):
        labels = [sample[1] for sample in reader.samples]
    elif labels is None and hasattr(reader, "iter_targets"):
        labels = list(reader.iter_targets())
    if labels is None:
        return None
    found = np.asarray(labels, np.int64)
    return found if found.shape == (len(data),) else None


def _class_names(data: Any, labels: IntArray | None) -> tuple[str, ...]:  # noqa: ANN401 - as above
    names = getattr(data, "classes", None)
    reader = getattr(data, "reader", None)
    by_name = getattr(reader, "class_to_idx", getattr(reader, "class_name_to_idx", None))
    if names is None and by_name:
        names = sorted(by_name, key=lambda name: by_name[name])
    if names is not None:
        return tuple(map(str, names))
    if labels is None or not len(labels):
        return ()
    return tuple(str(number) for number in range(int(labels.max()) + 1))
