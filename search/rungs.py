"""Training a variant as far as a rung, and on from there, in another process if need be.

What a paused training needs is kept in a file of its own, outside of the study. It only saves time:
without it, the same training is done again from its beginning.
"""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import torch

from effvit import ModelConfig
from search.proxy import Paused, ProxyRecipe, ProxyResult, evaluate_rung

UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError)
"""What a file that was cut off, or is none of ours, raises."""


def train_to_rung(
    config: ModelConfig, recipe: ProxyRecipe, seed: int, rung: int, memory: Path
) -> ProxyResult:
    """Train a variant up to a rung, from where its file left off.

    Args:
        config: The variant at its design resolution.
        recipe: How; its steps are those of the whole training.
        seed: Of initial values and of canvases.
        rung: Steps after which to pause and write the file.
        memory: The file of this training.

    Returns:
        What :func:`search.proxy.evaluate_rung` measures.

    Raises:
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    result, paused = evaluate_rung(config, recipe, seed, rung, read_paused(memory, rung))
    _write(memory, paused)
    return result


def read_paused(memory: Path, steps: int) -> Paused | None:
    """What the file of a training holds, to go on to so many steps; None without one that helps."""
    if not memory.exists():
        return None
    try:
        paused: Paused = torch.load(memory, weights_only=True)
        return paused if paused["step"] <= steps else None
    except UNREADABLE:
        return None


def _write(memory: Path, paused: Paused) -> None:
    """Keep it, replacing the file in one step; without room on the disk, do without it."""
    partial = memory.with_name(f".{memory.name}.partial")
    try:
        memory.parent.mkdir(exist_ok=True)
        torch.save(paused, partial)
        partial.replace(memory)
    except (OSError, RuntimeError):  # torch's writer raises the latter
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
