"""The recipe of the golden outputs: weights from names, image from a seed (tests/golden)."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = Path(__file__).parent.parent / "golden"
SHARP = ("DSA_qkv.weight", "PSA_qk.weight")
"""Twice as large, so that attention is far from uniform."""


def golden(name: str) -> dict[str, Any]:
    """Content of a JSON file of golden outputs."""
    values: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return values


def golden_logits(name: str, key: str) -> NDArray[np.floating[Any]]:
    """Logits (2, 1000) of the released code, ``logits`` or ``logits64``."""
    with np.load(GOLDEN / f"{name}_strong.npz") as arrays:
        logits: NDArray[np.floating[Any]] = arrays[key]
    return logits


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released code's ``state_dict``."""
    return {entry: tuple(shape) for entry, shape in golden(name)["state_dict"]}


def official_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight of the recipe: each name seeds its own generator."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    value = torch.randn(shape, generator=generator)
    last = name.rpartition(".")[2]
    if last == "win_tokens":
        return value
    if last == "bias":
        return value * 0.1
    if len(shape) == 1:
        return value * 0.1 + 1
    scale = 1 / math.sqrt(value[0].numel())
    return value * (2 * scale if name.endswith(SHARP) else scale)


def official_weights(name: str) -> dict[str, Tensor]:
    """A whole ``state_dict`` under the released code's names."""
    return {entry: official_weight(entry, shape) for entry, shape in official_shapes(name).items()}


def golden_image() -> Tensor:
    """Two images (2, 3, 224, 224)."""
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
