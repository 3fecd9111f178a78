"""What trainings and measurements see: canvases in order, and as a network's input."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from search.proxy.digits import Canvases, Split, canvases
from search.proxy.recipe import ProxyRecipe

_VALIDATION_SEED: Final = 1
_PIXEL_MEAN, _PIXEL_SCALE = 30.0, 128.0  # about zero mean and unit deviation where there is ink


def validation_canvases(recipe: ProxyRecipe, share: float = 1.0) -> Canvases:
    """Compose the canvases measured on, or the first of them: the last few are kept in memory."""
    return _validation_canvases(max(1, round(recipe.evaluation_canvases * share)))


@functools.lru_cache(maxsize=2)
def _validation_canvases(count: int) -> Canvases:
    return canvases(Split.VALIDATION, count, _VALIDATION_SEED)


def training_canvases(recipe: ProxyRecipe, seed: int) -> tuple[Canvases, Canvases]:
    """Compose the canvases of the two parts of a training; the last few are kept in memory."""
    total = min(recipe.steps * recipe.batch, recipe.distinct_canvases)
    first = max(1, min(total - 1, round(total * recipe.first_share)))
    return _training_canvases(seed, first, total - first, recipe.first_cues, recipe.later_cues)


@functools.lru_cache(maxsize=2)
def _training_canvases(
    seed: int, first: int, later: int, first_cues: tuple[int, ...], later_cues: tuple[int, ...]
) -> tuple[Canvases, Canvases]:
    return (
        canvases(Split.TRAIN, first, 2 * seed, cue_sides=first_cues),
        canvases(Split.TRAIN, max(1, later), 2 * seed + 1, cue_sides=later_cues),
    )


def batches(recipe: ProxyRecipe, seed: int) -> Iterator[tuple[Canvases, np.ndarray[Any, Any]]]:
    """Canvases and which of them, step by step: each part in random order, again and again."""
    rng = np.random.default_rng((seed, 3))
    switch = round(recipe.steps * recipe.first_share)
    parts = zip(training_canvases(recipe, seed), (switch, recipe.steps - switch), strict=True)
    for part, steps in parts:
        needed = steps * recipe.batch
        rounds = max(1, math.ceil(needed / len(part)))
        order = np.concatenate([rng.permutation(len(part)) for _ in range(rounds)])
        for step in range(steps):
            yield part, order[step * recipe.batch : (step + 1) * recipe.batch]


def as_input(images: np.ndarray[Any, Any]) -> Tensor:
    """Turn images (B, 96, 96, 3) from 0 to 255 into (B, 3, 96, 96), stored channels last."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return pixels.sub_(_PIXEL_MEAN).div_(_PIXEL_SCALE)
