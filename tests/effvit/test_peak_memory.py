"""The estimate of peak activation memory against storages followed through a forward pass."""

from __future__ import annotations

import pytest
import torch

import effvit
from tests.effvit.live_memory import peak_bytes
from tests.effvit.models import sepvit

# Each moves the worst moment elsewhere: MLP, fused attention, pointwise weights, the image.
CHANGES: dict[str, dict[str, object]] = {
    "published": {},
    "narrow MLP": {"mlp_ratio": 1},
    "window attention only": {"mlp_ratio": 1, "window_representation": "none"},
    "average": {"mlp_ratio": 1, "window_representation": "average"},
    "depthwise": {"mlp_ratio": 1, "window_representation": "depthwise"},
    "many windows": {"mlp_ratio": 1, "windows": ((2,), (2,), (2,), (2,))},
    "many windows, many heads": {"windows": ((2,), (2,), (2,), (2,)), "heads": (4, 4, 4, 8)},
    "padded windows": {"mlp_ratio": 1, "windows": ((9,), (9,), (9,), (9,))},
    "one window": {"windows": ((56,), (28,), (14,), (7,)), "mlp_ratio": 1},
    "no overlap": {"overlapping_patch_embedding": False},
    "growing width": {"widths": (16, 64, 256, 1024), "heads": (1, 2, 4, 8)},
    "many channels": {"in_channels": 16},
}


@pytest.mark.parametrize("size", [(224, 224), (150, 231)])
@pytest.mark.parametrize("change", CHANGES)
def test_estimate_is_close(change: str, size: tuple[int, int]) -> None:
    model = sepvit(**CHANGES[change])
    measured = peak_bytes(model, torch.zeros(1, model.config.in_channels, *size))
    estimate = effvit.model_cost(model.config, size).peak_bytes()
    # A single window is a view of the map, which the estimate takes for a copy: 11 % too much.
    assert estimate == pytest.approx(measured, rel=0.12 if change == "one window" else 0.03)


def test_it_is_the_mlp_of_stage_1_in_the_published_variants() -> None:
    """Image, its channels-last copy, tokens, three maps of C, two of 4 C."""
    pixels, windows, c = 56 * 56, 8 * 8, 96
    expected = 2 * 3 * 224 * 224 + windows * c + 3 * pixels * c + 2 * pixels * 4 * c
    assert effvit.model_cost("sepvit_tiny").peak_elements == expected
    assert effvit.model_cost("sepvit_tiny").peak_bytes(2) == 2 * expected
