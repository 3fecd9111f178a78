"""Every resolved setting of a training, and what a resumed one must share with its start."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from effvit import ConfigError, ModelConfig
from effvit.config import unknown_name
from search.datasets import DataSettings
from search.settings import SETTINGS
from search.train.recipe import Recipe

Precision = Literal["float32", "bfloat16", "float16"]
"""Type that autocast computes in; weights are float32."""

DTYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What the result of a training depends on.

    Attributes:
        model: The network as it is trained: resolution, classes, dropout.
        recipe: How it is trained.
        data: On what.
        seed: Of initial weights, order, augmentation, dropout.
        precision: See :data:`Precision`.
        micro_batch: Images that a process computes at once, at most; gradients of several such
            pieces are added up to the recipe's batch. All at once if None.
    """

    model: ModelConfig
    recipe: Recipe
    data: DataSettings
    seed: int = 0
    precision: Precision = "float32"
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise unknown_name("precision", self.precision, get_args(Precision))

    def identity(self) -> dict[str, Any]:
        """All of it as JSON values."""
        fields = {
            "model": self.model.to_dict(),
            "recipe": self.recipe.to_dict(),
            "data": self.data.to_dict(),
            "seed": self.seed,
            "precision": self.precision,
            "micro_batch": self.micro_batch,
        }
        return json.loads(json.dumps(fields))  # type: ignore[no-any-return]

    def pieces(self, processes: int) -> tuple[int, int]:
        """Images of a piece, and pieces of a step in each process.

        Raises:
            ConfigError: The batch does not divide.
        """
        batch = self.recipe.batch
        if batch % processes:
            raise ConfigError(f"batch must divide among {processes} processes, got {batch}")
        local = batch // processes
        size = min(self.micro_batch or local, local)
        if local % size:
            raise ConfigError(f"micro-batch must divide {local} images of a process, got {size}")
        if self.recipe.mixes and size % 2:
            raise ConfigError(f"images are mixed in pairs: a process has {size} at once")
        return size, local // size


def check_same_training(folder: Path, settings: TrainingSettings) -> bool:
    """Whether a folder holds the start of this training.

    Raises:
        ConfigError: It holds another one, or something unreadable; the message names a difference.
    """
    path = folder / SETTINGS
    if not path.exists():
        return False
    try:
        saved = dict(json.loads(path.read_text(encoding="utf-8"))["identity"])
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is unreadable: restore it, or choose another --out") from error
    for part, ours in settings.identity().items():
        theirs = saved.get(part)
        if theirs == ours:
            continue
        raise ConfigError(
            f"{folder} holds another training: its {_difference(part, theirs, ours)}; "
            "choose another --out, or the settings it was started with"
        )
    return True


def _difference(name: str, theirs: object, ours: object) -> str:
    """Say in what two values differ; of dictionaries, in which field first."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for field, value in ours.items():
            if field not in theirs or theirs[field] != value:
                return f"{name}'s {field} is {theirs.get(field)!r}, not {value!r}"
    return f"{name} is {theirs!r}, not {ours!r}"
