"""PiT: timm's network at every size, and its cost to the integer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import effvit
from effvit import ConfigError
from effvit.counters import compare, count_torch
from effvit.designs.pit import PiTConfig
from effvit.networks.layers import explicit_attention
from tests.effvit.live_memory import peak_bytes
from tests.effvit.peers import SIZES, assert_arrays_agree, randomised

VARIANTS = ("pit_ti", "pit_xs", "pit_s", "pit_b")
SMALL: PiTConfig = PiTConfig(
    head_widths=(4, 4, 8),
    heads=(2, 4, 4),
    depths=(1, 2, 1),
    mlp_ratio=2.0,
    image_size=(64, 96),
    num_classes=5,
)


@st.composite
def configs(draw: st.DrawFn) -> PiTConfig:
    """A small network with every option free."""
    heads = [draw(st.integers(1, 2))]
    for _ in range(2):
        heads.append(heads[-1] * draw(st.integers(1, 3)))
    stride = draw(st.integers(4, 9))
    return PiTConfig(
        head_widths=(draw(st.sampled_from((4, 6))),) * 3,
        heads=tuple(heads),
        depths=tuple(draw(st.integers(1, 2)) for _ in range(3)),
        mlp_ratio=draw(st.sampled_from((0.5, 2, 4))),
        patch=stride + draw(st.integers(0, 9)),
        stride=stride,
        image_size=draw(SIZES),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from((0, 5))),
    )


@torch.no_grad()
def test_logits_are_timms() -> None:
    """In float64: only the order of sums differs."""
    theirs = randomised(timm.create_model("pit_ti_224")).double()
    ours = effvit.create_model("pit_ti").eval().double()
    effvit.load_timm_state_dict(ours, theirs.state_dict())
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    expected = theirs(images)
    torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-9)
    with explicit_attention(ours):
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_names_and_shapes_are_timms(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = effvit.create_model(name), timm.create_model(f"{name}_224")
    shapes = [
        {n: tuple(tensor.shape) for n, tensor in model.state_dict().items()}
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_one_block_from_the_formula() -> None:
    """Stage 2 of PiT-S at 224 x 224: 27 x 27 patches, halved to 14 x 14, and the class token."""
    n, c = 14 * 14 + 1, 6 * 48
    expected = n * (4 * c**2 + 2 * c * 4 * c) + 2 * n**2 * c
    assert effvit.model_cost("pit_s").by_module(4)["transformers.1.blocks.3"][1] == expected


def test_pooling_multiplies_channels() -> None:
    """PiT-S from 144 to 288 channels on 14 x 14 pixels, and a wider class token."""
    macs = 14 * 14 * 288 * 9 + 144 * 288
    params = 288 * (9 + 1) + 288 * (144 + 1)
    assert effvit.model_cost("pit_s").by_module(3)["transformers.1.pool"][:2] == (params, macs)


@settings(max_examples=20, deadline=None)
@given(configs(), st.none() | SIZES)
def test_closed_form_is_the_built_network(
    config: PiTConfig, other_size: tuple[int, int] | None
) -> None:
    model = effvit.create_model(config).eval()
    cost = effvit.model_cost(config, other_size)
    images = torch.zeros(1, config.in_channels, *(other_size or config.image_size))
    with torch.no_grad(), explicit_attention(model):
        assert cost.macs == count_torch(model, images)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())
    assert effvit.as_config(json.loads(config.to_json())) == config


@settings(max_examples=10, deadline=None)
@given(st.lists(configs(), min_size=1, max_size=5), st.none() | SIZES)
def test_arrays_cost_what_scalars_cost(
    found: list[PiTConfig], other_size: tuple[int, int] | None
) -> None:
    """Of different depths, patches and strides."""
    shared = {name: getattr(found[0], name) for name in ("image_size", "in_channels")}
    assert_arrays_agree([c.replace(**shared, num_classes=7) for c in found], other_size)


def test_nothing_is_left_over_by_any_counter() -> None:
    cost = effvit.model_cost(SMALL, (75, 131))
    found = compare(effvit.create_model(SMALL), cost, (75, 131))
    assert not [result.counter for result in found if result.unexplained]


@pytest.mark.parametrize("size", [(224, 224), (75, 131)])
def test_peak_memory(size: tuple[int, int]) -> None:
    measured = peak_bytes(effvit.create_model("pit_ti").eval(), torch.zeros(1, 3, *size))
    assert effvit.model_cost("pit_ti", size).peak_bytes() == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("size", [(32, 32), (61, 131)])
def test_any_size_trains(size: tuple[int, int]) -> None:
    model = effvit.create_model(SMALL, drop_path_rate=0.1).train()
    model(torch.randn(2, 3, *size)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (1, 2)}, "depths needs one entry for each of 3 stages"),
        ({"heads": (2, 4, 0)}, "heads must be at least 1"),
        ({"heads": (2, 3, 4)}, r"got 12 after 8 \(nearest valid: 16\)"),
        ({"stride": 17}, "got stride 17 and patch 16"),
        ({"patch": 33}, "patch at most 32, got stride 8 and patch 33"),
        ({"mlp_ratio": 0.3}, "width times mlp_ratio must be an integer"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.replace(**change)
