"""EfficientViT: the authors' outputs, the published counts, the paper's formulas, any variant."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from fvcore.nn import ActivationCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import effvit
from effvit import ConfigError
from effvit.cost import Cost
from effvit.counters import COUNTERS, compare, count_torch
from effvit.designs.efficientvit import STAGE_KINDS, STEM_KINDS, EfficientViTConfig
from effvit.networks.efficientvit import MultiScaleLinearAttention
from effvit.networks.layers import explicit_attention
from tests.effvit.live_memory import peak_bytes
from tests.effvit.peers import (
    SIZES,
    assert_arrays_agree,
    assert_logits_are_the_authors,
    declared_params,
    params_by_module,
)

# Parameters; MACs and fvcore's total at 224 x 224, of the authors' code.
PUBLISHED = {
    "efficientvit_b0": (3_410_008, 100_233_216, 104_190_976),
    "efficientvit_b1": (9_102_024, 519_214_592, 528_153_920),
    "efficientvit_b2": (24_330_712, 1_584_937_984, 1_602_713_088),
    "efficientvit_b3": (48_646_056, 3_953_822_208, 3_985_332_992),
    "efficientvit_l1": (52_654_088, 5_258_479_616, 5_271_139_968),
    "efficientvit_l2": (63_707_016, 6_949_862_400, 6_965_934_720),
    "efficientvit_l3": (246_037_288, 27_586_525_184, 27_618_669_824),
}
# MACs and, where known, fvcore's total, in M.
OTHER_SIZES = [
    ("efficientvit_b0", 256, 130.12, None),
    ("efficientvit_b0", 288, 164.00, None),
    ("efficientvit_b0", 384, 289.54, None),
    ("efficientvit_b1", 256, 676.92, 688.59),
    ("efficientvit_b1", 288, 855.64, 870.42),
    ("efficientvit_b1", 384, 1517.99, None),
    ("efficientvit_b2", 256, 2067.53, 2090.75),
    ("efficientvit_b2", 288, 2614.48, 2643.85),
    ("efficientvit_b2", 384, 4641.38, None),
    ("efficientvit_b3", 256, 5161.59, 5202.74),
    ("efficientvit_b3", 288, 6530.39, 6582.47),
    ("efficientvit_b3", 384, 11603.00, None),
    ("efficientvit_l1", 256, 6864.23, None),
    ("efficientvit_l1", 288, 8684.08, None),
    ("efficientvit_l1", 384, 15428.23, None),
    ("efficientvit_l2", 256, 9073.38, 9094.37),
    ("efficientvit_l2", 288, 11480.04, 11506.60),
    ("efficientvit_l2", 384, 20398.82, 20446.02),
    ("efficientvit_l3", 256, 36017.38, 36059.36),
    ("efficientvit_l3", 288, 45572.36, 45625.47),
    ("efficientvit_l3", 384, 80981.96, 81076.36),
]
# Parameters of the stem and the four stages.
STAGE_PARAMS = {
    "efficientvit_b0": (400, 4128, 13888, 142208, 521984),
    "efficientvit_b1": (928, 13888, 86528, 756864, 3785728),
    "efficientvit_b2": (1584, 50304, 267072, 2200320, 12457728),
    "efficientvit_b3": (2368, 122752, 742656, 5650944, 32478720),
    "efficientvit_l1": (19488, 345856, 1379840, 4025856, 32266240),
    "efficientvit_l2": (19488, 510336, 2036480, 5097984, 41425920),
    "efficientvit_l3": (75840, 2036480, 8136192, 20157440, 163592192),
}
# MACs of the stem, the four stages and the head at 224, in M.
STAGE_MACS = {
    "efficientvit_b0": (4.42, 13.95, 12.59, 31.61, 28.65, 9.01),
    "efficientvit_b1": (10.44, 50.38, 75.16, 162.04, 197.87, 23.33),
    "efficientvit_b2": (18.06, 172.51, 226.24, 470.78, 645.54, 51.81),
    "efficientvit_b3": (27.30, 410.64, 610.74, 1181.95, 1656.94, 66.26),
    "efficientvit_l1": (242.05, 1078.98, 1078.98, 939.29, 1829.07, 90.10),
    "efficientvit_l2": (242.05, 1592.79, 1592.79, 1148.43, 2283.71, 90.10),
    "efficientvit_l3": (946.52, 6371.15, 6371.15, 4557.59, 8986.12, 354.00),
}
# MACs of stem and stages at 1024 x 2048, from the authors' segmentation networks.
STREET_MACS = {
    "efficientvit_b0": 3_812_622_336,
    "efficientvit_b1": 20_726_153_216,
    "efficientvit_b2": 64_078_479_360,
    "efficientvit_b3": 162_484_191_232,
    "efficientvit_l1": 216_017_141_760,
    "efficientvit_l2": 286_710_038_528,
}
SMALL = EfficientViTConfig(
    image_size=(64, 96),
    num_classes=5,
    widths=(4, 8, 8, 16, 24),
    depths=(1, 1, 1, 2, 1),
    head_dim=8,
    head_widths=(32, 40),
)


def fvcore_total(cost: Cost) -> int:
    return cost.macs + sum(term.macs for term in COUNTERS["fvcore"].terms(cost))


def by_part(cost: Cost, column: int) -> list[int]:
    """Params (0) or MACs (1) of stem, stages and head."""
    sums = dict.fromkeys(("stem", "stages.0", "stages.1", "stages.2", "stages.3", "head"), 0)
    for place, values in cost.by_module(2).items():
        first = place.split(".")[0]
        part = "head" if first == "neck" else place if first == "stages" else first
        sums[part] += values[column]
    return list(sums.values())


def attentions(model: nn.Module) -> list[MultiScaleLinearAttention]:
    """The attention of every block, stage by stage."""
    return [m for m in model.modules() if isinstance(m, MultiScaleLinearAttention)]


def attention_of(config: EfficientViTConfig) -> MultiScaleLinearAttention:
    """The attention of a stage with 16 channels."""
    return MultiScaleLinearAttention(
        16,
        config.head_dim,
        config.scales,
        attention_eps=config.attention_eps,
        norm_eps=config.norm_eps,
    )


@st.composite
def configs(draw: st.DrawFn) -> EfficientViTConfig:
    """An EfficientViT with every option free."""
    head_dim = draw(st.sampled_from((2, 4)))
    return EfficientViTConfig(
        image_size=draw(SIZES),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from((0, 5))),
        widths=tuple(head_dim * draw(st.integers(1, 4)) for _ in range(5)),
        depths=tuple(draw(st.integers(0, 2)) for _ in range(5)),
        kinds=tuple(draw(st.sampled_from(STAGE_KINDS)) for _ in range(4)),
        expand_ratios=tuple(draw(st.sampled_from((0.5, 1.0, 3.0))) for _ in range(4)),
        downsample_ratios=tuple(draw(st.sampled_from((0.5, 1.0, 6.0))) for _ in range(4)),
        head_dim=head_dim,
        scales=draw(st.sampled_from(((), (3,), (5,), (1, 7), (3, 5)))),
        stem=draw(st.sampled_from(STEM_KINDS)),
        activation=draw(st.sampled_from(("hardswish", "gelu"))),
        head_widths=(draw(st.integers(1, 64)), draw(st.integers(1, 64))),
    )


# --- outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("efficientvit_b0", {224: "", 128: "_r128"}),
        ("efficientvit_b1", {224: ""}),
        ("efficientvit_l1", {224: "", 128: "_r128"}),
    ],
)
def test_logits_of_the_authors_code(name: str, sizes: dict[int, str]) -> None:
    assert_logits_are_the_authors(name, name, sizes)


@torch.no_grad()
def test_linear_attention_is_the_quadratic_formula() -> None:
    """Each head on its own, weights of all pairs of pixels written out."""
    attention = attention_of(SMALL)
    d, pixels = 8, 30
    tokens = torch.randn(2, 4, 3 * d, pixels, dtype=torch.float64)
    query, key, value = tokens.split(d, dim=2)
    query, key = query.clamp_min(0), key.clamp_min(0)
    weights = query.transpose(-2, -1) @ key
    weights /= weights.sum(-1, keepdim=True) + 1e-15
    expected = (weights @ value.transpose(-2, -1)).transpose(-2, -1)
    torch.testing.assert_close(attention.attend(tokens), expected)


@torch.no_grad()
def test_aggregation_stays_within_a_heads_query_key_or_value() -> None:
    attention = attention_of(SMALL)
    qkv = torch.randn(1, 48, 9, 9)
    changed = qkv.clone()
    changed[:, 8:16] += 1  # the key of head 0
    maps = [attention.aggregate(attention.aggregations[0], x) for x in (qkv, changed)]
    difference = maps[0] != maps[1]
    touched = difference.any(dim=-1).any(dim=-1)[0]
    assert touched.nonzero().flatten().tolist() == list(range(8, 16))


@torch.no_grad()
def test_the_fused_form_is_the_released_one() -> None:
    attention = attention_of(SMALL).double()
    x = torch.randn(2, 16, 5, 6, dtype=torch.float64)
    expected = attention(x)
    with explicit_attention(attention):
        torch.testing.assert_close(attention(x), expected)


@torch.no_grad()
def test_dead_queries_give_zero_and_not_nan() -> None:
    attention = attention_of(SMALL)
    tokens = -torch.rand(1, 4, 24, 10)
    assert torch.count_nonzero(attention.attend(tokens)) == 0


@torch.no_grad()
def test_attention_is_precise_under_autocast() -> None:
    """Only its result is rounded to bfloat16; sums over pixels are not."""
    attention = attentions(effvit.create_model(SMALL))[0]
    found: list[Tensor] = []
    attention.proj.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    x = torch.randn(1, 16, 30, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = attention.project_tokens(x).unflatten(1, (-1, 24)).flatten(3)
        attention(x)
    expected = attention.attend(tokens.float()).to(torch.bfloat16)
    assert tokens.dtype == found[0].dtype == torch.bfloat16
    assert torch.equal(found[0].view_as(expected), expected)


@pytest.mark.parametrize("scales", [(), (5,), (3, 5)])
def test_every_form_of_the_paper_trains(scales: tuple[int, ...]) -> None:
    """With one scale for each head more: heads on raw tokens, then on each aggregation."""
    model = effvit.create_model(SMALL, scales=scales, drop_path_rate=0.2).train()
    logits = model(torch.randn(4, 3, 61, 90))
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    projection = attentions(model)[0].proj.conv
    assert projection.in_channels == (1 + len(scales)) * 16


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    cost = effvit.model_cost(name)
    assert (cost.params, cost.macs, fvcore_total(cost)) == PUBLISHED[name]


@pytest.mark.parametrize(("name", "size", "macs", "fvcore"), OTHER_SIZES)
def test_published_counts_at_other_sizes(
    name: str, size: int, macs: float, fvcore: float | None
) -> None:
    cost = effvit.model_cost(name, size)
    assert round(cost.macs / 1e6, 2) == macs
    assert fvcore in (None, round(fvcore_total(cost) / 1e6, 2))


@pytest.mark.parametrize("name", STAGE_PARAMS)
def test_stem_stages_and_head(name: str) -> None:
    cost = effvit.model_cost(name)
    assert tuple(by_part(cost, 0)[:-1]) == STAGE_PARAMS[name]
    assert tuple(round(macs / 1e6, 2) for macs in by_part(cost, 1)) == STAGE_MACS[name]


@pytest.mark.parametrize("name", STREET_MACS)
def test_backbone_at_the_size_of_street_scenes(name: str) -> None:
    assert sum(by_part(effvit.model_cost(name, (1024, 2048)), 1)[:-1]) == STREET_MACS[name]


@pytest.mark.parametrize(
    ("name", "scales", "params", "macs_m"),
    [
        ("efficientvit_b0", (), 3_321_816, 91.11),
        ("efficientvit_b1", (), 8_617_544, 477.04),
        ("efficientvit_b2", (), 22_773_208, 1450.25),
        ("efficientvit_b3", (), 44_842_920, 3636.28),
        ("efficientvit_b0", (3, 5), 3_479_768, 107.55),
        ("efficientvit_b1", (3, 5), 9_518_920, 555.37),
        ("efficientvit_b2", (3, 5), 25_740_760, 1706.98),
        ("efficientvit_b3", (3, 5), 52_154_280, 4246.07),
    ],
)
def test_other_forms_of_the_paper(
    name: str, scales: tuple[int, ...], params: int, macs_m: float
) -> None:
    """arXiv v2: one scale. The poster: two aggregations. Counted with the authors' code."""
    cost = effvit.model_cost(name, scales=scales)
    assert (cost.params, round(cost.macs / 1e6, 2)) == (params, macs_m)


@pytest.mark.parametrize(
    ("name", "params", "macs_m", "aggregation_params", "aggregation_m", "matmul_m"),
    [
        ("efficientvit_b0", 252_800, 23.24, 47_232, 4.63, 2.56),
        ("efficientvit_b1", 1_732_480, 136.35, 173_184, 15.43, 8.53),
        ("efficientvit_b2", 5_692_416, 441.08, 525_312, 45.05, 34.77),
        ("efficientvit_b3", 14_825_472, 1123.01, 1_050_624, 90.09, 69.54),
    ],
)
def test_share_of_attention(
    name: str,
    params: int,
    macs_m: float,
    aggregation_params: int,
    aggregation_m: float,
    matmul_m: float,
) -> None:
    operations = effvit.model_cost(name).operations
    attention = [op for op in operations if ".attention." in op.module]
    aggregation = [op for op in attention if ".aggregations." in op.module]
    products = sum(op.macs for op in attention if op.operator.value == "matmul")
    assert sum(op.params for op in attention) == params
    assert sum(op.params for op in aggregation) == aggregation_params
    assert round(sum(op.macs for op in attention) / 1e6, 2) == macs_m
    assert round(sum(op.macs for op in aggregation) / 1e6, 2) == aggregation_m
    assert round(products / 1e6, 2) == matmul_m


def test_one_attention_from_the_formulas() -> None:
    """Stage 3 of EfficientViT-B1 at 224 x 224: 14 x 14 pixels, 128 channels, heads of 16."""
    pixels, c, d, scales = 14 * 14, 128, 16, (5,)
    branches = 1 + len(scales)
    expected = (
        pixels * (3 * c**2 + branches * c**2)  # query, key, value; output
        + sum(3 * pixels * c * (s**2 + d) for s in scales)
        + 2 * branches * pixels * c * (d + 1)
    )
    operations = effvit.model_cost("efficientvit_b1").operations
    place = "stages.2.blocks.1.attention."
    assert sum(op.macs for op in operations if op.module.startswith(place)) == expected


def test_attention_is_linear_in_pixels() -> None:
    def attention_macs(side: int) -> int:
        cost = effvit.model_cost("efficientvit_b1", side)
        return sum(op.macs for op in cost.operations if ".attention." in op.module)

    assert attention_macs(512) == 4 * attention_macs(256) == 16 * attention_macs(128)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("efficientvit_b0", (224, 224)),
        ("efficientvit_b0", (75, 139)),
        ("efficientvit_l1", (33, 32)),
    ],
)
def test_no_counter_has_an_unexplained_difference(name: str, size: tuple[int, int]) -> None:
    results = compare(effvit.create_model(name), effvit.model_cost(name, size), size)
    assert [result.unexplained for result in results] == [0] * 4  # no kernel is fused


@given(configs(), st.none() | SIZES)
def test_closed_form_is_the_built_network(
    config: EfficientViTConfig, other_size: tuple[int, int] | None
) -> None:
    model = effvit.create_model(config).eval()
    cost = effvit.model_cost(config, other_size)
    images = torch.zeros(1, config.in_channels, *(other_size or config.image_size))
    with torch.no_grad(), explicit_attention(model):
        assert cost.macs == count_torch(model, images)
    assert declared_params(cost) == params_by_module(model)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=5)
@given(configs(), SIZES)
def test_activations_are_what_fvcore_counts(
    config: EfficientViTConfig, size: tuple[int, int]
) -> None:
    model = effvit.create_model(config).eval()
    with explicit_attention(model):
        analysis = ActivationCountAnalysis(model, torch.zeros(1, config.in_channels, *size))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert effvit.model_cost(config, size).activations == analysis.total()


@given(st.lists(configs(), min_size=1, max_size=6), st.none() | SIZES)
def test_arrays_cost_what_scalars_cost(
    several: list[EfficientViTConfig], other_size: tuple[int, int] | None
) -> None:
    shared = {name: getattr(several[0], name) for name in ("image_size", "in_channels")}
    alike = [config.replace(**shared, num_classes=7) for config in several]
    assert_arrays_agree([*alike], other_size)


# Each moves the worst moment elsewhere.
ATTENTION: dict[str, Any] = {
    "kinds": ("attention",) * 4,
    "head_dim": 8,
    "expand_ratios": (1,) * 4,
    "downsample_ratios": (1,) * 4,
}
PEAKS: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {
    "b0": ("efficientvit_b0", (224, 224), {}),
    "b0, odd sides": ("efficientvit_b0", (150, 231), {}),
    "b1": ("efficientvit_b1", (224, 224), {}),
    "l1": ("efficientvit_l1", (96, 96), {}),
    "one scale": ("efficientvit_b0", (150, 231), {**ATTENTION, "scales": ()}),
    "two scales": ("efficientvit_b0", (150, 231), ATTENTION),
    "three scales": ("efficientvit_b0", (150, 231), {**ATTENTION, "scales": (3, 5)}),
    "fused": ("efficientvit_b0", (150, 231), {"kinds": ("fused",) * 4}),
    "in place": ("efficientvit_b0", (150, 231), {"kinds": ("mbconv_few_norms",) * 4}),
    "copied": (
        "efficientvit_b0",
        (150, 231),
        {"kinds": ("mbconv_few_norms",) * 4, "activation": "gelu"},
    ),
    "head": ("efficientvit_b0", (150, 231), {"head_widths": (8192, 64)}),
}


@pytest.mark.parametrize("case", PEAKS)
def test_peak_memory(case: str) -> None:
    name, size, changes = PEAKS[case]
    config = effvit.model_config(name).replace(**changes)
    measured = peak_bytes(effvit.create_model(config).eval(), torch.zeros(1, 3, *size))
    assert effvit.model_cost(config, size).peak_bytes() == pytest.approx(measured, rel=0.01)


# --- configurations -----------------------------------------------------------------------------


@settings(max_examples=15)
@given(configs())
def test_the_canonical_form_builds_the_same_network(config: EfficientViTConfig) -> None:
    canonical = config.canonical()
    assert canonical.canonical() == canonical
    assert canonical.variant_id == config.variant_id
    torch.manual_seed(0)
    written = effvit.create_model(config).eval()
    simple = effvit.create_model(canonical).eval()
    simple.load_state_dict(written.state_dict())
    images = torch.randn(1, config.in_channels, 64, 40)
    with torch.no_grad():
        assert torch.equal(written(images), simple(images))
    assert effvit.model_cost(canonical, (64, 40)) == effvit.model_cost(config, (64, 40))


def test_choices_that_nothing_reads_do_not_make_a_network() -> None:
    convolutions = SMALL.replace(kinds=("mbconv",) * 4)
    assert convolutions.replace(scales=(), head_dim=3).variant_id == convolutions.variant_id
    assert SMALL.replace(scales=()).variant_id != SMALL.variant_id
    shallow = SMALL.replace(depths=(0, 0, 1, 0, 1))
    other = shallow.replace(stem="dense", expand_ratios=(2, 4, 8, 4))
    assert other.variant_id == shallow.variant_id
    assert other.replace(
        kinds=("mbconv", "mbconv", "mbconv_few_norms", "attention")
    ).variant_id == (shallow.variant_id)


@given(configs())
def test_json_round_trip(config: EfficientViTConfig) -> None:
    assert effvit.as_config(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (4, 8, 8, 16)}, "widths needs one entry for the stem and each of 4 stages"),
        ({"depths": (1, 1, 1, -1, 1)}, "depths must be at least 0"),
        ({"kinds": ("mbconv", "mbconv", "attn", "attention")}, "unknown stage kind 'attn'"),
        ({"stem": "deptwise"}, "did you mean 'depthwise'"),
        ({"activation": "relu"}, "unknown activation 'relu'"),
        ({"head_dim": 0}, "head_dim must be at least 1"),
        ({"head_dim": 12}, r"divisible by head_dim, got 16 and 12 \(nearest valid width: 12\)"),
        ({"scales": (5, 3)}, "scales must be odd and ascending"),
        ({"scales": (4,)}, "scales must be odd and ascending"),
        ({"kinds": ("mbconv",) * 3}, "kinds needs one entry for each of 4 stages"),
        ({"expand_ratios": (4,) * 5}, "expand_ratios needs one entry for each of 4 stages"),
        ({"expand_ratios": (4, 4, 0, 4)}, "expand_ratios must be positive, got 0"),
        ({"expand_ratios": (4, float("nan"), 4, 4)}, "expand_ratios must be positive, got nan"),
        ({"expand_ratios": (4, float("inf"), 4, 4)}, "expand_ratios must be positive, got inf"),
        ({"downsample_ratios": (1.3, 4, 4, 4)}, r"got 4 x 1\.3 \(nearest valid ratio: 1\.25\)"),
        ({"head_widths": (0, 8)}, "head_widths must be at least 1"),
        ({"attention_eps": 0}, "attention_eps must be positive"),
        ({"scale": (5,)}, "unknown efficientvit option 'scale'; did you mean 'scales'"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.replace(**change)
