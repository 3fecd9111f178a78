"""Where images come from: digits, files in folders, CIFAR's batches, data sets of timm.

Each source reads one part of a data set and knows nothing of parts.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_digits
from torchvision.datasets.folder import IMG_EXTENSIONS

from effvit.config import ConfigError

IntArray = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]


class BrokenImage(ConfigError):  # noqa: N818 - says what is broken; the base says it is an error
    """An image that cannot be read; the message names it."""


class Images(Protocol):
    """Images of one part of a data set, in a fixed order."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, by number."""

    @property
    def labels(self) -> IntArray | None:
        """Class of each image; None where that is known only by reading it."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Read an image, as RGB, and its class.

        Raises:
            BrokenImage: It cannot be read.
        """


class ArrayImages:
    """Images in memory.

    Args:
        pixels: (n, height, width, 3) or grey (n, height, width), from 0 to 255.
        labels: (n,).
        classes: Names of the classes.
    """

    def __init__(self, pixels: UInt8Array, labels: IntArray, classes: Sequence[str]) -> None:
        self._pixels = pixels
        self.labels: IntArray = labels
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Read an image and its class."""
        return Image.fromarray(self._pixels[index]).convert("RGB"), int(self.labels[index])


def digit_images(chosen: IntArray) -> ArrayImages:
    """Scanned digits (8 x 8 pixels) by their index in scikit-learn's data set."""
    data = load_digits()
    pixels = np.round(data.images[chosen] * (255 / 16)).astype(np.uint8)
    return ArrayImages(pixels, data.target[chosen].astype(np.int64), [str(n) for n in range(10)])


class FileImages:
    """Image files in one folder a class, below it at any depth.

    Args:
        folder: Holds the classes' folders.
        classes: Names of the classes, where another part settles them; all folders if None.

    Raises:
        ConfigError: There are no folders, a folder is no class, or a class or all is empty.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        found = class_folders(folder)
        if not found:
            raise ConfigError(f"{folder} holds no folders of classes with images in them")
        self.classes = tuple(classes or found)
        strange = sorted(set(found) - set(self.classes))
        if strange:
            raise ConfigError(f"{folder} has class {strange[0]!r}, which the training part has not")
        self._files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            files = _image_files(folder / name)
            if not files and classes is None:
                raise ConfigError(f"class {name!r} of {folder} has no images")
            self._files += files
            labels += [label] * len(files)
        if not self._files:
            raise ConfigError(f"{folder} holds no images")
        self.labels: IntArray = np.array(labels, np.int64)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Read an image and its class."""
        path = self._files[index]
        return open_image(path, str(path)), int(self.labels[index])


def class_folders(folder: Path) -> list[str]:
    """Names of a folder's folders, in order; hidden ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)


def open_image(file: Path | io.IOBase, name: str) -> Image.Image:
    """Open an image as RGB.

    Raises:
        BrokenImage: It is no image, or cut off.
    """
    try:
        with Image.open(file) as image:  # type: ignore[arg-type]  # any file object will do
            converted: Image.Image = image.convert("RGB")
            return converted
    except UnidentifiedImageError:
        raise BrokenImage(f"cannot read image {name}: it is no image") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged ones
        raise BrokenImage(f"cannot read image {name}: {error}") from error


# --- CIFAR ----------------------------------------------------------------------------------------

CIFAR10, CIFAR100 = "cifar-10-batches-py", "cifar-100-python"
"""Folders of the released archives."""

CIFAR_FILES = {
    (CIFAR10, "train"): tuple(f"data_batch_{number}" for number in range(1, 6)),
    (CIFAR10, "test"): ("test_batch",),
    (CIFAR100, "train"): ("train",),
    (CIFAR100, "test"): ("test",),
}
_CIFAR_NAMES = {CIFAR10: ("batches.meta", "label_names"), CIFAR100: ("meta", "fine_label_names")}
_CIFAR_LABELS = {CIFAR10: "labels", CIFAR100: "fine_labels"}


def cifar_images(folder: Path, part: str) -> ArrayImages:
    """Read CIFAR-10 or CIFAR-100 as released (``python version``), part ``train`` or ``test``.

    Raises:
        ConfigError: A file is missing or is not of CIFAR.
    """
    kind = folder.name
    meta, names = _CIFAR_NAMES[kind]
    classes = _unpickled(folder / meta, names)
    batches = [folder / name for name in CIFAR_FILES[kind, part]]
    pixels = np.concatenate([np.asarray(_unpickled(path, "data"), np.uint8) for path in batches])
    labels = [label for path in batches for label in _unpickled(path, _CIFAR_LABELS[kind])]
    if pixels.ndim != 2 or pixels.shape[1] != 3 * 32 * 32 or len(labels) != len(pixels):
        raise ConfigError(f"{folder} is not CIFAR: its {part} images have shape {pixels.shape}")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return ArrayImages(np.ascontiguousarray(images), np.array(labels, np.int64), classes)


class _ArraysOnly(pickle.Unpickler):
    """Reads lists, dictionaries and numpy arrays; a file that asks for more is refused."""

    ALLOWED = ("_reconstruct", "ndarray", "dtype", "scalar", "encode")

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - numpy's constructors
        if name not in self.ALLOWED or module.partition(".")[0] not in ("numpy", "_codecs"):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickled(path: Path, field: str) -> Any:  # noqa: ANN401 - lists and arrays
    try:
        with path.open("rb") as file:
            return _ArraysOnly(file, encoding="latin1").load()[field]
    except FileNotFoundError:
        raise ConfigError(f"CIFAR's {path.name} is missing in {path.parent}") from None
    except (OSError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not a file of CIFAR: {error}") from error
