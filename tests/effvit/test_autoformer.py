"""AutoFormer: the paper's formulas, relative positions pair by pair, cost to the integer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import group_parameters

import effvit
from effvit import ConfigError
from effvit.counters import compare, count_torch
from effvit.designs.autoformer import AutoFormerConfig
from effvit.networks.autoformer import AutoFormer, RelativeAttention
from effvit.networks.layers import explicit_attention
from tests.effvit.live_memory import peak_bytes
from tests.effvit.peers import SIZES, assert_arrays_agree, randomised

SMALL: AutoFormerConfig = AutoFormerConfig(
    width=24,
    heads=(1, 3, 2),
    mlp_ratios=(1, 2, 0.5),
    head_width=8,
    relative_reach=2,
    image_size=(64, 96),
    num_classes=5,
)
SPLIT = SMALL.replace(head_width=None, relative_reach=0)


@st.composite
def configs(draw: st.DrawFn) -> AutoFormerConfig:
    """A small network with every option free."""
    depth = draw(st.integers(1, 3))
    return AutoFormerConfig(
        width=draw(st.sampled_from((12, 24))),
        heads=tuple(draw(st.integers(1, 4)) for _ in range(depth)),
        mlp_ratios=tuple(draw(st.sampled_from((0.5, 1, 3.5))) for _ in range(depth)),
        head_width=draw(st.sampled_from((None, 4, 7))),
        relative_reach=draw(st.sampled_from((0, 1, 9))),
        image_size=draw(SIZES),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from((0, 5))),
    )


def built(config: AutoFormerConfig = SMALL) -> AutoFormer:
    model = effvit.create_model(config)
    assert isinstance(model, AutoFormer)
    return model


# --- the paper ----------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(2, 3), (1, 4)])
@torch.no_grad()
def test_relative_positions_are_those_of_every_pair(grid: tuple[int, int]) -> None:
    """score = q_i (k_j + r_ij) / sqrt(d), out = sum a_ij (v_j + r_ij), written out pair by pair."""
    heads, width, reach = 2, 3, 1
    attention = RelativeAttention(6, heads, width, reach).double()
    randomised(attention)
    tokens = 1 + grid[0] * grid[1]
    x = torch.randn(1, tokens, 6, dtype=torch.float64)
    places = [(n // grid[1], n % grid[1]) for n in range(tokens - 1)]

    def relative(table: torch.Tensor | None, i: int, j: int) -> torch.Tensor:
        assert table is not None
        rows = 2 * reach + 2
        if 0 in (i, j):  # the class token
            return table[0] + table[rows]
        steps = [
            max(-reach, min(reach, b - a))
            for a, b in zip(places[i - 1], places[j - 1], strict=True)
        ]
        return table[1 + reach + steps[0]] + table[rows + 1 + reach + steps[1]]

    query, key, value = attention.qkv(x)[0].unflatten(1, (3, heads, width)).permute(1, 2, 0, 3)
    outputs = torch.zeros(tokens, heads, width, dtype=torch.float64)
    for head in range(heads):
        for i in range(tokens):
            scores = torch.stack(
                [
                    query[head, i] @ (key[head, j] + relative(attention.relative_keys, i, j))
                    for j in range(tokens)
                ]
            )
            for j, weight in enumerate((scores / width**0.5).softmax(0)):
                outputs[i, head] += weight * (
                    value[head, j] + relative(attention.relative_values, i, j)
                )
    expected = attention.proj(outputs.flatten(1))
    torch.testing.assert_close(attention(x, grid)[0], expected, rtol=0, atol=1e-12)


def test_one_layer_from_the_formula() -> None:
    """Layer 11 of AutoFormer-T at 224 x 224: 4 heads of 64 channels, an MLP ratio of 3.5."""
    n, c, a, hidden, rows = 14 * 14 + 1, 192, 4 * 64, 672, 2 * 14 + 2
    expected = n * (4 * c * a + 2 * c * hidden) + 2 * n**2 * a + 4 * n * rows * a
    cost = effvit.model_cost("autoformer_tiny")
    assert cost.by_module(4)["stages.0.blocks.10"][1] == expected


def test_heads_cost_nothing_where_they_split_the_width() -> None:
    """As ViT-Bench-101 builds them."""
    split = AutoFormerConfig(head_width=None, relative_reach=0)
    other = split.replace(heads=tuple(7 - heads for heads in split.heads))
    one, two = effvit.model_cost(split), effvit.model_cost(other)
    assert (one.params, one.macs) == (two.params, two.macs)
    assert split.variant_id != other.variant_id


def test_splitting_into_heads_of_one_width_is_naming_that_width() -> None:
    alike = SMALL.replace(heads=(3, 3, 3))
    assert alike.replace(head_width=None).variant_id == alike.variant_id
    assert SMALL.replace(head_width=None).variant_id != SMALL.variant_id


# --- cost ---------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(configs(), st.none() | SIZES)
def test_closed_form_is_the_built_network(
    config: AutoFormerConfig, other_size: tuple[int, int] | None
) -> None:
    model = built(config).eval()
    cost = effvit.model_cost(config, other_size)
    with torch.no_grad(), explicit_attention(model):
        images = torch.zeros(1, config.in_channels, *(other_size or config.image_size))
        assert cost.macs == count_torch(model, images)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())
    assert effvit.as_config(json.loads(config.to_json())) == config


@settings(max_examples=10, deadline=None)
@given(st.lists(configs(), min_size=1, max_size=5), st.none() | SIZES)
def test_arrays_cost_what_scalars_cost(
    found: list[AutoFormerConfig], other_size: tuple[int, int] | None
) -> None:
    """Of different depths, with relative positions and without."""
    shared = {name: getattr(found[0], name) for name in ("image_size", "in_channels")}
    assert_arrays_agree([c.replace(**shared, num_classes=7) for c in found], other_size)


@pytest.mark.parametrize("config", [SMALL, SPLIT])
def test_nothing_is_left_over_by_any_counter(config: AutoFormerConfig) -> None:
    found = compare(built(config), effvit.model_cost(config, (75, 131)), (75, 131))
    assert not [result.counter for result in found if result.unexplained]


@pytest.mark.parametrize("size", [(224, 224), (75, 131)])
@pytest.mark.parametrize("change", [{}, {"head_width": None, "relative_reach": 0}])
def test_peak_memory(size: tuple[int, int], change: dict[str, Any]) -> None:
    config = effvit.model_config("autoformer_tiny").replace(**change)
    measured = peak_bytes(effvit.create_model(config).eval(), torch.zeros(1, 3, *size))
    assert effvit.model_cost(config, size).peak_bytes() == pytest.approx(measured, rel=0.03)


# --- the network --------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, SPLIT])
@pytest.mark.parametrize("size", [(32, 32), (61, 131), (64, 96)])
def test_any_size_trains(config: AutoFormerConfig, size: tuple[int, int]) -> None:
    model = built(config.replace(drop_path_rate=0.1)).train()
    model(torch.randn(2, 3, *size)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_fused_and_explicit_attention_agree() -> None:
    model, images = built(SPLIT).eval(), torch.randn(2, 3, 64, 96)
    fused = model(images)
    with explicit_attention(model):
        torch.testing.assert_close(model(images), fused, rtol=0, atol=1e-5)


def test_checkpointing_does_not_change_gradients() -> None:
    model, images = built().train(), torch.randn(2, 3, 64, 96)
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model(images).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_tokens_and_tables_are_free_of_decay_and_in_their_layers() -> None:
    model = built()
    exempt = model.no_weight_decay()
    assert {name.rpartition(".")[2] for name in exempt} == {
        "class_token", "position", "relative_keys", "relative_values",
    }  # fmt: skip
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert layers["stem.proj.weight"] == layers["stages.0.position"] == 0
    assert [layers[f"stages.0.blocks.{n}.norm1.weight"] for n in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": ()}, "heads needs one entry for at least one layer"),
        ({"heads": (1, 0, 1)}, "heads must be at least 1"),
        ({"mlp_ratios": (1, 2)}, "mlp_ratios needs one entry for each layer, as heads has"),
        ({"mlp_ratios": (1, 2, 0.3)}, "width times mlp_ratios must be an integer"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"width": 25, "mlp_ratios": (1, 2, 1), "head_width": None}, r"nearest valid width: 24"),
        ({"head_width": 0}, "head_width must be at least 1 or None, got 0"),
        ({"relative_reach": -1}, "relative_reach must be at least 0, got -1"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.replace(**change)
