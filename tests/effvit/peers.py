"""The recipe of the peers' golden outputs: weights and images from names and seeds."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import effvit
from effvit.config import Resolution
from effvit.cost import Cost
from tests.effvit.official import GOLDEN

SIZES = st.tuples(st.integers(32, 100), st.integers(32, 100))
"""Height and width, odd ones and not square ones among them."""


def golden(name: str) -> dict[str, Any]:
    """Content of a JSON file of golden outputs."""
    values: dict[str, Any] = json.loads((GOLDEN / "peers" / f"{name}.json").read_text())
    return values


def golden_logits(name: str, key: str) -> NDArray[np.floating[Any]]:
    """Logits (2, 1000) of the authors' code, such as ``logits64_r224``."""
    with np.load(GOLDEN / "peers" / f"{name}.npz") as arrays:
        logits: NDArray[np.floating[Any]] = arrays[key]
    return logits


def authors_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight of the recipe: each name seeds its own generator."""
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    value = torch.randn(shape, generator=generator)
    if last in ("running_mean", "bias"):
        return value * 0.1
    if last == "running_var":
        return 1 + 0.2 * value.abs()
    if value.ndim == 1:
        return 1 + 0.1 * value
    return value / math.sqrt(value[0].numel())


def authors_weights(name: str) -> dict[str, Tensor]:
    """A whole ``state_dict`` under the authors' names."""
    return {
        entry: authors_weight(entry, tuple(shape)) for entry, shape in golden(name)["state_dict"]
    }


def golden_images(size: int) -> Tensor:
    """Two images (2, 3, size, size)."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def assert_logits_are_the_authors(ours: str, authors: str, sizes: dict[int, str]) -> None:
    """At each size, whose outputs have the given suffix, in float32 and in float64."""
    model = effvit.create_model(ours).eval()
    effvit.load_official_state_dict(model, authors_weights(authors))
    for prefix, dtype, atol in (("logits", torch.float32, 1e-4), ("logits64", torch.float64, 1e-9)):
        model = model.to(dtype)
        for size, suffix in sizes.items():
            logits = model(golden_images(size).to(dtype)).numpy()
            expected = golden_logits(authors, f"{prefix}{suffix}")
            np.testing.assert_allclose(logits, expected, rtol=0, atol=atol)


def randomised(model: nn.Module) -> nn.Module:
    """The model in evaluation, with weights and statistics of which none is special."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor), alpha=0.1)
    return model.eval()


def params_by_module(model: nn.Module) -> list[tuple[str, int]]:
    """Parameters of every module that has some, in order."""
    sums: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        module = name.rpartition(".")[0]
        sums[module] = sums.get(module, 0) + parameter.numel()
    return list(sums.items())


def declared_params(cost: Cost) -> list[tuple[str, int]]:
    """The same from the closed form."""
    return [(op.module, op.params) for op in cost.operations if op.params]


def assert_arrays_agree(configs: list[effvit.ModelConfig], size: Resolution | None) -> None:
    """Each entry of the array form is what the scalar form says."""
    arrays = effvit.model_costs(configs, size)
    for row, config in enumerate(configs):
        cost = effvit.model_cost(config, size)
        for name in ("params", "macs", "activations", "peak_elements"):
            assert int(getattr(arrays, name)[row]) == getattr(cost, name), name
