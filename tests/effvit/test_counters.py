"""Counters of the field beside the closed form: every difference explained, for every network."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import effvit
from effvit.counters import COUNTERS, NOTHING, Observed, compare, observe
from tests.effvit.test_timm_peers import SMALL


@pytest.fixture(autouse=True)
def _garbage() -> Iterator[None]:
    """Counted networks are part of reference cycles: gigabytes of them wait to be collected."""
    yield
    gc.collect()


def unexplained(model: effvit.ModelConfig | str, size: tuple[int, int]) -> dict[str, int]:
    """What the terms leave over, by counter."""
    results = compare(effvit.create_model(model), effvit.model_cost(model, size), size)
    return {result.counter: result.unexplained for result in results if result.unexplained}


@pytest.mark.parametrize("family", SMALL)
def test_nothing_is_left_over_of_timms_networks(family: str) -> None:
    """At sides that nothing divides: padded windows, several across, and resampled maps."""
    assert unexplained(SMALL[family], (75, 131)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", effvit.list_models())
def test_nothing_is_left_over_of_a_published_model(name: str) -> None:
    """With two blocks a stage, which is one of each kind, at a size that pads and has windows."""
    config = effvit.model_config(name)
    depths = config.to_dict().get("depths")
    if depths:
        config = config.replace(depths=tuple(min(depth, 2) for depth in depths))
    assert unexplained(config, (64, 96)) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [("swin_tiny", 256), ("twins_svt_small", 224), ("pvt_v2_b2", 224), ("mobilevit_xxs", 224)],
)
def test_nothing_is_left_over_at_the_sizes_of_the_papers(name: str, side: int) -> None:
    """Of timm's networks, which ptflops sees by how they are written."""
    assert unexplained(name, (side, side)) == {}


def terms(name: str, counter: str, size: tuple[int, int]) -> dict[str, int]:
    model, cost = effvit.create_model(name), effvit.model_cost(name, size)
    observed = observe(model.eval(), torch.zeros(1, 3, *size))
    return {term.reason: term.macs for term in COUNTERS[counter].terms(cost, observed) if term.macs}


def test_biases_on_scattered_windows_are_not_seen() -> None:
    """Twins-SVT-S at 64 x 64: LSA has several windows across in stages 1 and 2, on 16 and 8 pixels.

    timm passes windows without a copy, so query, key and value are one product and an addition. Two
    local blocks in four have them, on maps padded to 21 and 14 pixels.
    """
    found = terms("twins_svt_small", "ptflops (aten)", (64, 64))
    scattered = 3 * 64 * 21**2 + 3 * 128 * 14**2
    assert found["biases of linear layers on scattered inputs, not seen"] == -scattered


def test_ptflops_has_a_rule_for_timms_attention_and_then_sees_none_of_its_parts() -> None:
    """MobileViT-XXS at 64 x 64: stages 3 to 5 have 8 x 8, 4 x 4 and 2 x 2 pixels."""
    found = terms("mobilevit_xxs", "ptflops (pytorch)", (64, 64))
    stages = ((2, 64, 64), (4, 16, 80), (3, 4, 96))  # layers, pixels, channels
    layer = sum(n * pixels * (4 * d**2 + 4 * d) for n, pixels, d in stages)
    assert found["linear layers in timm's Attention, not seen"] == -layer
    assert found["scaled queries in timm's Attention, 1 an element"] == sum(
        n * pixels * d for n, pixels, d in stages
    )
    heads, positions = 4, 4
    softmax = sum(n * heads * positions * (pixels // positions) ** 2 for n, pixels, _ in stages)
    assert found["softmax in timm's Attention, 1 an element"] == softmax
    assert "matrix products written @, not seen" not in found


def test_without_a_network_modules_are_taken_for_torchs_own() -> None:
    cost = effvit.model_cost("pvt_v2_b2", 64)
    assumed = COUNTERS["ptflops (pytorch)"].terms(cost)
    assert assumed == COUNTERS["ptflops (pytorch)"].terms(cost, NOTHING)
    assert {t.reason: t.macs for t in assumed}["norms of subclasses, not seen"] == 0


def test_looking_at_a_network_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    images = torch.zeros(2, 5, 3)
    observed = observe(model, images)
    assert observed.scattered == frozenset()
    assert set(observed.modules) == {"", "0", "1"}
    assert not any(module._forward_pre_hooks for module in model.modules())
    turned = observe(model, torch.zeros(2, 3, 5).transpose(1, 2))
    assert (
        dataclasses.replace(observed, scattered=frozenset({"0"}))
        == turned
        == Observed(observed.modules, frozenset({"0"}))
    )
