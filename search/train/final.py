"""What a training reached in the end, and the one look at the test images."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from torch import nn

from effvit import ConfigError, create_model
from search.datasets import held_out_images
from search.export import load_weights
from search.records import write_json
from search.train.feed import measuring_batches, measuring_transform
from search.train.measure import Measured, measure
from search.train.processes import Group
from search.train.settings import TrainingSettings
from search.train.trainer import WEIGHTS

RESULT = "result.json"
"""Validation and test results of a finished training."""


def read_result(folder: Path) -> dict[str, Any]:
    """Read what a folder's training reached; empty if it has not ended.

    Raises:
        ConfigError: It is unreadable.
    """
    path = folder / RESULT
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is unreadable: delete it") from error


def final_test(
    settings: TrainingSettings, folder: Path, group: Group, workers: int
) -> dict[str, Any]:
    """Measure a training's weights on the test images: once. Later calls read what was found.

    All processes call it, after the weights are written.

    Returns:
        ``loss``, ``top1``, ``top5`` and the number of ``images``.
    """
    known = read_result(folder)
    if "test" in known:
        return dict(known["test"])
    network = create_model(settings.model)
    load_weights(network, folder / WEIGHTS)
    found = measure_held_out(network.to(group.device), settings, group, workers)
    test = dataclasses.asdict(found)
    if group.leads:
        write_json(folder / RESULT, {**known, "test": test})
    return test


def measure_held_out(
    network: nn.Module, settings: TrainingSettings, group: Group, workers: int = 0
) -> Measured:
    """Measure a trained network on the test images. For a final report only.

    Args:
        network: Where the group computes.
        settings: Of its training.
        group: The processes, all of which call it.
        workers: Processes that load images, for each of them.

    Raises:
        ConfigError: There are no test images, or one cannot be read.
    """
    transform = measuring_transform(settings.recipe, settings.model.image_size)
    images = held_out_images(settings.data).transformed(transform)
    return measure(network, measuring_batches(images, group, workers), group, settings.precision)
