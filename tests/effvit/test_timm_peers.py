"""Swin, Twins-SVT, PVTv2 and MobileViT: timm's networks, and their cost to the integer."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import effvit
from effvit import ConfigError, ModelConfig
from effvit.cost import Cost, Operator
from effvit.counters import COUNTERS, count_fvcore, count_torch
from effvit.designs.mobilevit import MobileViTConfig
from effvit.designs.pvtv2 import PVTv2Config
from effvit.designs.swin import PositionEncoding, SwinConfig
from effvit.designs.twins import TwinsSVTConfig
from effvit.networks.layers import explicit_attention
from effvit.networks.timm_peers import TimmPeer
from tests.effvit.live_memory import peak_bytes
from tests.effvit.peers import (
    SIZES,
    assert_arrays_agree,
    declared_params,
    params_by_module,
    randomised,
)

TIMM_NAMES = {
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_small": "swin_small_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
    **{f"twins_svt_{size}": f"twins_svt_{size}" for size in ("small", "base", "large")},
    "pvt_v2_b2": "pvt_v2_b2",
    **{f"mobilevit_{size}": f"mobilevit_{size}" for size in ("xxs", "xs", "s")},
}
# Parameters in M and MACs in G at 224 x 224, as the papers print them but where a note says so.
PRINTED = {
    "swin_tiny": (28.3, 4.5),
    "swin_tiny_cpvt": (28.3, 4.5),  # printed 28 and 4.4: 4.496 cut off
    "swin_small": (49.6, 8.7),
    "swin_base": (87.8, 15.4),  # the paper prints 88
    "twins_svt_small": (24.1, 2.9),  # the paper prints 24.0: 24.06 cut off
    "twins_svt_base": (56.1, 8.6),  # the paper prints 56
    "twins_svt_large": (99.3, 15.1),  # the paper prints 99.2: 99.27 cut off
    "pvt_v2_b2": (25.4, 4.0),
}
# timm 1.0.31, attention not fused, 224 x 224: convolutions, linear layers, products, layer norms.
BY_OPERATOR = {
    "swin_tiny": (28_288_354, 14_450_688, 4_335_974_400, 140_141_568, 18_627_840),
    "twins_svt_small": (24_060_776, 180_006_400, 2_629_332_992, 118_013_952, 14_409_920),
}
# timm, attention not fused: parameters; MACs in M at 256, fvcore's at 256, MACs at 224 and 384.
MOBILEVIT = {
    "mobilevit_xxs": (1_272_024, 407.36, 418.20, 301.50, 1136.06),
    "mobilevit_xs": (2_317_848, 1025.91, 1052.19, 772.34, 2637.66),
    "mobilevit_s": (5_578_632, 2000.83, 2033.42, 1521.51, 5000.67),
}
SHARED: dict[str, Any] = {"image_size": (64, 96), "num_classes": 5}
SMALL: dict[str, ModelConfig] = {
    "swin": SwinConfig(width=8, depths=(1, 2, 2, 1), heads=(1, 2, 2, 4), window=3, **SHARED),
    "swin_cpvt": SwinConfig(
        width=8,
        depths=(1, 2, 2, 1),
        heads=(1, 2, 2, 4),
        window=3,
        position_encoding="conditional",
        **SHARED,
    ),
    "twins_svt": TwinsSVTConfig(
        widths=(8, 8, 16, 16), depths=(2, 2, 1, 2), heads=(1, 2, 2, 4), **SHARED
    ),
    "pvt_v2": PVTv2Config(widths=(8, 8, 16, 16), depths=(1, 2, 1, 2), heads=(1, 2, 2, 4), **SHARED),
    "mobilevit": MobileViTConfig(
        widths=(8, 8, 8, 16, 16, 16),
        attention_widths=(8, 16, 16),
        attention_depths=(1, 2, 1),
        expand_ratio=2.0,
        head_width=24,
        **SHARED,
    ),
}


FAMILIES = ("mobilevit", "pvt_v2", "swin", "twins_svt")


def fvcore_total(cost: Cost) -> int:
    return cost.macs + sum(term.macs for term in COUNTERS["fvcore"].terms(cost))


def each(draw: st.DrawFn, count: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(count))


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """A small network of any of the families with every option free."""
    shared: dict[str, Any] = {
        "image_size": draw(SIZES),
        "in_channels": draw(st.integers(1, 4)),
        "num_classes": draw(st.sampled_from((0, 5))),
    }
    family = draw(st.sampled_from(FAMILIES))
    depths = each(draw, 4, 1, 2)
    heads = each(draw, 4, 1, 3)
    if family == "swin":
        doubled = tuple(1 << draw(st.integers(0, 2)) for _ in range(4))
        window = draw(st.integers(1, 9))
        position = draw(st.sampled_from(get_args(PositionEncoding)))
        return SwinConfig(
            width=8,
            depths=depths,
            heads=doubled,
            window=window,
            position_encoding=position,
            **shared,
        )
    if family == "mobilevit":
        return MobileViTConfig(
            widths=tuple(8 * draw(st.integers(1, 2)) for _ in range(6)),
            attention_widths=tuple(4 * draw(st.integers(1, 3)) for _ in range(3)),
            attention_depths=each(draw, 3, 1, 2),
            expand_ratio=draw(st.sampled_from((1, 2, 4))),
            head_width=draw(st.integers(1, 40)),
            **shared,
        )
    widths = tuple(4 * count for count in heads)
    strides = tuple(draw(st.integers(1, most)) for most in (8, 4, 2, 1))
    if family == "twins_svt":
        windows = each(draw, 4, 2, 9)
        return TwinsSVTConfig(
            widths=widths,
            depths=depths,
            heads=heads,
            windows=windows,
            sub_sampling=strides,
            **shared,
        )
    ratios = each(draw, 4, 1, 4)
    return PVTv2Config(
        widths=widths, depths=depths, heads=heads, reductions=strides, mlp_ratios=ratios, **shared
    )


# --- outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["swin_tiny", "twins_svt_small", "pvt_v2_b2", "mobilevit_xxs"])
@torch.no_grad()
def test_logits_are_timms(name: str) -> None:
    """In float64: only the order of sums differs."""
    size = (96, 128)
    options = {"img_size": size} if name == "swin_tiny" else {}  # timm's Swin takes one size
    theirs = randomised(timm.create_model(TIMM_NAMES[name], **options)).double()
    ours = effvit.create_model(name, image_size=size).eval().double()
    effvit.load_timm_state_dict(ours, theirs.state_dict())
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    expected = theirs(images)
    torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-9)
    with explicit_attention(ours):
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(64, 64), (75, 131)])
@torch.no_grad()
def test_swin_without_biases_and_encodings_is_timms(size: tuple[int, int]) -> None:
    """With CPVT's convolutions at zero, and timm's biases at zero: in float64, masks included."""
    theirs = randomised(effvit.create_model(SMALL["swin"])).double()
    ours = effvit.create_model(SMALL["swin_cpvt"]).eval().double()
    weights = {
        name: tensor.zero_() if "relative_position_bias_table" in name else tensor
        for name, tensor in theirs.state_dict().items()
    }
    shared = {name: weights.get(name, torch.zeros_like(t)) for name, t in ours.state_dict().items()}
    assert all("blocks.position" in name for name in shared.keys() - weights.keys())
    ours.load_state_dict(shared)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-12)
    with explicit_attention(ours):
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-12)


@torch.no_grad()
def test_swin_encodes_positions_after_the_first_block_of_each_stage() -> None:
    model = randomised(effvit.create_model(SMALL["swin_cpvt"]))
    for stage in model.get_submodule("layers").children():
        blocks = stage.get_submodule("blocks")
        names = [name for name, _ in blocks.named_children()]
        assert names[:2] == ["0", "position"]
        position = blocks.get_submodule("position")
        convolution = position.get_submodule("proj.0")
        assert isinstance(convolution, nn.Conv2d)
        x = torch.randn(2, 5, 6, convolution.out_channels)
        expected = x + convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(position(x), expected)


def test_swin_recomputes_its_encoded_stages() -> None:
    model: Any = effvit.create_model(SMALL["swin_cpvt"])  # timm's methods have no types
    images = torch.randn(2, 3, 64, 96)
    expected = model(images)
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_names_and_shapes_are_timms(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = effvit.create_model(name), timm.create_model(TIMM_NAMES[name])
    shapes = [
        {n: tuple(tensor.shape) for n, tensor in model.state_dict().items()}
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_weights_that_do_not_fit_are_refused() -> None:
    model = effvit.create_model(SMALL["swin"])
    with pytest.raises(ConfigError, match=r"timm checkpoint does not fit .*'head\.fc\.bias'\]"):
        effvit.load_timm_state_dict(model, {})


@pytest.mark.parametrize("family", SMALL)
def test_explicit_attention_ends_with_its_block(family: str) -> None:
    model = effvit.create_model(SMALL[family])

    def switches() -> set[object]:
        return {m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")}

    assert switches() == {True}
    with explicit_attention(model):
        assert switches() == {False}
    assert switches() == {True}


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRINTED)
def test_printed_counts(name: str) -> None:
    cost = effvit.model_cost(name)
    assert (round(cost.params / 1e6, 1), round(cost.macs / 1e9, 1)) == PRINTED[name]


@pytest.mark.parametrize("name", BY_OPERATOR)
def test_counts_by_operator(name: str) -> None:
    params, convolutions, linear, products, norms = BY_OPERATOR[name]
    cost = effvit.model_cost(name)
    sums = cost.by_operator()
    assert cost.params == params
    assert sums[Operator.CONVOLUTION][1] == convolutions
    assert sums[Operator.LINEAR][1] == linear
    assert sums[Operator.MATMUL][1] == products
    assert 5 * sums[Operator.LAYER_NORM][2] == norms
    assert fvcore_total(cost) == convolutions + linear + products + norms


@pytest.mark.parametrize("name", MOBILEVIT)
def test_mobilevit_counts(name: str) -> None:
    params, at_256, fvcore_at_256, at_224, at_384 = MOBILEVIT[name]
    costs = [effvit.model_cost(name, size) for size in (256, 224, 384)]
    assert costs[0].params == params
    assert [round(cost.macs / 1e6, 2) for cost in costs] == [at_256, at_224, at_384]
    assert round(fvcore_total(costs[0]) / 1e6, 2) == fvcore_at_256


def test_one_swin_block_from_the_papers_formula() -> None:
    """Equation 2, and the MLP, in stage 2 of Swin-T at 224 x 224."""
    pixels, c = 28 * 28, 192
    expected = 4 * pixels * c**2 + 2 * 7**2 * pixels * c + 8 * pixels * c**2
    assert effvit.model_cost("swin_tiny").by_module(4)["layers.1.blocks.1"][1] == expected


def test_one_pair_of_twins_blocks_from_the_formulas() -> None:
    """LSA, then GSA with stride 4, and two MLPs, in stage 2 of Twins-SVT-S at 224 x 224."""
    pixels, c = 28 * 28, 128
    local = 4 * pixels * c**2 + 2 * 7**2 * pixels * c
    sampled = 3 * pixels * c**2 + 2 * pixels * c**2 // 16 + 2 * pixels**2 * c // 16
    blocks = effvit.model_cost("twins_svt_small").by_module(2)["blocks.1"][1]
    assert blocks == local + sampled + 2 * 8 * pixels * c**2


def test_one_pvtv2_block_from_the_formulas() -> None:
    """Stage 2 of PVTv2-B2 at 224 x 224: R = 4, r = 8."""
    pixels, c, ratio = 28 * 28, 128, 8
    attention = 3 * pixels * c**2 + 2 * pixels * c**2 // 16 + 2 * pixels**2 * c // 16
    mlp = 2 * ratio * pixels * c**2 + 9 * ratio * pixels * c
    assert effvit.model_cost("pvt_v2_b2").by_module(4)["stages.1.blocks.3"][1] == attention + mlp


def test_one_mobilevit_layer_from_the_formula() -> None:
    """Stage 4 of MobileViT-S at 256 x 256: 16 x 16 tokens of 192 channels."""
    pixels, d = 16 * 16, 192
    expected = 4 * pixels * d**2 + 2 * pixels * (pixels // 4) * d + 4 * pixels * d**2
    place = "stages.3.1.transformer.2."
    operations = effvit.model_cost("mobilevit_s").operations
    found = sum(op.macs for op in operations if op.module.startswith(place))
    assert found == expected


def test_conditional_encoding_adds_convolutions_and_drops_biases() -> None:
    """Swin-T at 224 x 224: a bias for 13 x 13 offsets a head, or a 3x3 convolution a stage."""
    relative, conditional = effvit.model_cost("swin_tiny"), effvit.model_cost("swin_tiny_cpvt")
    tables = 13**2 * (2 * 3 + 2 * 6 + 6 * 12 + 2 * 24)
    stages = ((56, 96), (28, 192), (14, 384), (7, 768))
    assert conditional.params == relative.params - tables + sum((9 + 1) * c for _, c in stages)
    assert conditional.macs == relative.macs + sum(9 * side**2 * c for side, c in stages)


@settings(max_examples=25)
@given(configs(), st.none() | SIZES)
def test_closed_form_is_the_built_network(
    config: ModelConfig, other_size: tuple[int, int] | None
) -> None:
    model = effvit.create_model(config).eval()
    cost = effvit.model_cost(config, other_size)
    images = torch.zeros(1, config.in_channels, *(other_size or config.image_size))
    with torch.no_grad(), explicit_attention(model):
        assert cost.macs == count_torch(model, images)
    assert dict(declared_params(cost)) == dict(params_by_module(model))
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", SMALL)
@torch.no_grad()
def test_fvcore_has_no_unexplained_difference(family: str) -> None:
    model = effvit.create_model(SMALL[family]).eval()
    cost = effvit.model_cost(SMALL[family], (75, 131))
    with explicit_attention(model):
        assert count_fvcore(model, torch.zeros(1, 3, 75, 131)) == fvcore_total(cost)


@pytest.mark.parametrize("family", SMALL)
def test_arrays_cost_what_scalars_cost(family: str) -> None:
    first = SMALL[family]
    assert_arrays_agree([first, first.replace(drop_rate=0.1), first], (75, 131))
    with pytest.raises(ConfigError, match="must share image_size"):
        effvit.model_costs([first, first.replace(num_classes=7)])


@pytest.mark.parametrize("size", [(128, 128), (75, 131)])
@pytest.mark.parametrize(
    "name", ["swin_tiny", "swin_tiny_cpvt", "twins_svt_small", "pvt_v2_b2", "mobilevit_s"]
)
def test_peak_memory(size: tuple[int, int], name: str) -> None:
    model = effvit.create_model(name).eval()
    measured = peak_bytes(model, torch.zeros(1, 3, *size))
    assert effvit.model_cost(name, size).peak_bytes() == pytest.approx(measured, rel=0.06)


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("size", [(32, 32), (61, 131)])
def test_any_size_trains(family: str, size: tuple[int, int]) -> None:
    model = effvit.create_model(SMALL[family], drop_path_rate=0.1).train()
    model(torch.randn(2, 3, *size)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("family", SMALL)
@torch.no_grad()
def test_classifier(family: str) -> None:
    model = effvit.create_model(SMALL[family]).eval()
    assert isinstance(model, TimmPeer)
    model.reset_classifier(7)
    assert model(torch.randn(2, 3, 64, 96)).shape == (2, 7)
    assert model.config == SMALL[family].replace(num_classes=7)


# --- configurations -----------------------------------------------------------------------------


@settings(max_examples=25)
@given(configs())
def test_json_round_trip(config: ModelConfig) -> None:
    assert effvit.as_config(json.loads(config.to_json())) == config
    assert config.canonical().canonical() == config.canonical()
    assert config.canonical().variant_id == config.variant_id


def test_windows_larger_than_the_map_are_one_network() -> None:
    large, larger = SwinConfig(window=56), SwinConfig(window=99)
    assert large.variant_id == larger.variant_id != SwinConfig(window=55).variant_id
    assert effvit.model_cost(large) == effvit.model_cost(larger)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("swin", {"depths": (1, 2)}, "depths needs one entry for each of 4 stages"),
        ("swin", {"window": 0}, "window must be at least 1, got 0"),
        ("swin", {"heads": (3, 2, 2, 4)}, "heads must divide the width 8, got 3"),
        ("swin", {"position_encoding": "conditionel"}, "did you mean 'conditional'"),
        ("twins_svt", {"windows": (7, 7, 7, 1)}, "windows must be at least 2"),
        ("twins_svt", {"heads": (3, 2, 2, 4)}, "heads must divide the width 8, got 3"),
        ("twins_svt", {"sub_sampling": (8, 4, 4, 1)}, "at most 8, 4, 2, 1, got 4"),
        ("pvt_v2", {"mlp_ratios": (8, 8, 4)}, "mlp_ratios needs one entry for each of 4 stages"),
        ("pvt_v2", {"heads": (1, 3, 2, 4)}, "heads must divide the width 8, got 3"),
        ("pvt_v2", {"reductions": (8, 4, 2, 2)}, "at most 8, 4, 2, 1, got 2"),
        ("mobilevit", {"widths": (8, 8)}, "one entry for the stem and each of 5 stages"),
        ("mobilevit", {"attention_widths": (8, 16, 18)}, r"got 18 \(nearest valid: 16\)"),
        ("mobilevit", {"expand_ratio": 1.5}, "must be a multiple of 8, got 8 x 1.5"),
        ("mobilevit", {"expand_ratio": 0}, "expand_ratio must be positive"),
        ("mobilevit", {"head_width": 0}, "head_width must be at least 1"),
    ],
)
def test_a_broken_rule_is_named(family: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL[family].replace(**change)
