"""How data sets lie on disk: which parts they bring, found without opening any of them.

Where two parts come with the data, the second one is the test part, whatever its name: ImageNet's
``val`` and CIFAR's ``test`` are what papers report on. Validation is then cut from the training
part; see :mod:`search.datasets.sets`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from effvit.config import ConfigError, unknown_name
from search.datasets.images import (
    CIFAR10,
    CIFAR100,
    FileImages,
    Images,
    cifar_images,
    class_folders,
)
from search.datasets.schemes import SCHEMES, TimmImages
from search.datasets.settings import EMBEDDED, TEST_SPLIT, DataSettings

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "eval")
TEST = ("test", "testing")
"""Usual names of folders of parts."""

IMAGENET_FOLDERS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
"""Where the parts are below the folder of a data set; the latter two are ImageNet's archive."""

Opener = Callable[[], Images]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Parts that a data set brings, none of them opened.

    Attributes:
        train: Opens the training part.
        validation: Opens the validation part, None if there is none.
        test: Opens the test part, given the names of the classes; None if there is none.
    """

    train: Opener
    validation: Callable[[tuple[str, ...]], Images] | None = None
    test: Callable[[tuple[str, ...]], Images] | None = None


def find_layout(settings: DataSettings) -> Layout:
    """Find the parts of a data set.

    Raises:
        ConfigError: There is no such data set.
    """
    scheme, slash, _ = settings.source.partition("/")
    if slash and scheme.lower() in SCHEMES:
        return _of_timm(settings, settings.source, settings.root)
    path = Path(settings.source).expanduser()
    if path.is_file() and path.suffix == ".tar":
        return Layout(functools.partial(TimmImages, "", str(path), "train"))
    if not path.is_dir():
        if path.exists():
            raise ConfigError(f"data {settings.source} is neither a folder nor a tar file")
        known = (EMBEDDED, *(f"{name}/NAME" for name in SCHEMES))
        error = unknown_name("data", settings.source, known)
        raise ConfigError(f"{error}; nor is there such a folder")
    return _of_cifar(path) or _of_folders(path, settings)


def _of_timm(settings: DataSettings, name: str, root: str | None) -> Layout:
    def opener(part: str) -> Callable[[tuple[str, ...]], Images]:
        return lambda _classes: TimmImages(name, root, part)

    validation, test = settings.validation_part, settings.test_part or TEST_SPLIT
    if validation == test:
        raise ConfigError(f"part {test!r} cannot be validation and test; name both")
    return Layout(
        functools.partial(TimmImages, name, root, settings.train_part or "train"),
        opener(validation) if validation else None,
        opener(test),
    )


def _of_cifar(path: Path) -> Layout | None:
    for folder in (path, path / CIFAR10, path / CIFAR100):
        if folder.name in (CIFAR10, CIFAR100) and folder.is_dir():
            return Layout(
                functools.partial(cifar_images, folder, "train"),
                test=functools.partial(_cifar_test, folder),
            )
    return None


def _cifar_test(folder: Path, _classes: tuple[str, ...]) -> Images:
    return cifar_images(folder, "test")


def _of_folders(path: Path, settings: DataSettings) -> Layout:
    for below in IMAGENET_FOLDERS:
        root = path / below
        train = _part(root, settings.train_part, TRAIN)
        if train is not None:
            break
    else:
        return Layout(functools.partial(FileImages, path))
    validation = _part(root, settings.validation_part, VALIDATION)
    test = _part(root, settings.test_part, TEST)
    if test is None and settings.validation_part is None:
        validation, test = None, validation
    return Layout(
        functools.partial(FileImages, train),
        functools.partial(FileImages, validation) if validation else None,
        functools.partial(FileImages, test) if test else None,
    )


def _part(root: Path, named: str | None, usual: tuple[str, ...]) -> Path | None:
    """Folder of a part, if it has folders of classes: ImageNet's ``test`` has no labels."""
    if named is not None:
        if not (root / named).is_dir():
            raise ConfigError(f"there is no part {named!r} in {root}")
        return root / named
    present = (root / name for name in usual if (root / name).is_dir())
    return next((folder for folder in present if class_folders(folder)), None)
