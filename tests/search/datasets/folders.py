"""Small data sets on disk."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from search.datasets.images import CIFAR10, CIFAR100, CIFAR_FILES

Counts = Mapping[str, int]
"""Images of each class."""

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
"""Classes that a network can tell apart at once."""


def write_images(folder: Path, counts: Counts, side: int = 12, seed: int = 0) -> Path:
    """Write images in a folder a class: noise, on the class's colour if it is one."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 55, (side, side, 3)) + np.array(COLOURS.get(name, (0, 0, 0)))
            path = folder / name / f"{number:03}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def write_parts(root: Path, **parts: Counts) -> Path:
    """Write a data set in parts, such as ``train`` and ``test``."""
    for seed, (part, counts) in enumerate(parts.items()):
        write_images(root / part, counts, seed=seed)
    return root


def write_cifar(root: Path, kind: str, images: int = 20) -> Path:
    """Write CIFAR's files, of few images; pixel k of image n of a file is (n + k) % 256."""
    folder = root / kind
    folder.mkdir(parents=True)
    classes = 10 if kind == CIFAR10 else 100
    pixels = (np.arange(images)[:, None] + np.arange(3072)) % 256
    labels = [number % classes for number in range(images)]
    key = "labels" if kind == CIFAR10 else "fine_labels"
    for part in ("train", "test"):
        for name in CIFAR_FILES[kind, part]:
            write_pickle(folder / name, {"data": pixels.astype(np.uint8), key: labels})
    names = [f"class {number}" for number in range(classes)]
    meta = {CIFAR10: ("batches.meta", "label_names"), CIFAR100: ("meta", "fine_label_names")}[kind]
    write_pickle(folder / meta[0], {meta[1]: names})
    return folder


def write_pickle(path: Path, value: object) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))  # as released
