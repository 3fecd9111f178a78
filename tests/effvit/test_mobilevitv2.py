"""MobileViTv2: the authors' outputs, the published counts, the paper's formulas, any variant."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from fvcore.nn import ActivationCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st

import effvit
from effvit import ConfigError
from effvit.cost import Cost, Operator
from effvit.counters import COUNTERS, compare, count_torch
from effvit.designs.mobilevitv2 import MobileViTv2Config, scaled_attention_widths, scaled_widths
from effvit.networks.layers import explicit_attention
from effvit.networks.mobilevitv2 import (
    AttentionBlock,
    MobileViTv2,
    SeparableSelfAttention,
)
from tests.effvit.live_memory import peak_bytes
from tests.effvit.peers import (
    SIZES,
    assert_arrays_agree,
    assert_logits_are_the_authors,
    declared_params,
    golden,
    params_by_module,
    randomised,
)

GOLDEN = {"mobilevitv2_050": "mobilevitv2_0.5", "mobilevitv2_100": "mobilevitv2_1.0"}

# Parameters; MACs and fvcore's total at 256 x 256, of the authors' code.
PUBLISHED = {
    "mobilevitv2_050": (1_370_593, 464_594_944, 480_454_656),
    "mobilevitv2_075": (2_866_009, 1_027_980_288, 1_051_769_856),
    "mobilevitv2_100": (4_901_841, 1_812_090_880, 1_843_810_304),
    "mobilevitv2_125": (7_478_089, 2_816_926_720, 2_856_576_000),
    "mobilevitv2_150": (10_594_753, 4_042_487_808, 4_090_066_944),
    "mobilevitv2_175": (14_251_833, 5_488_774_144, 5_544_283_136),
    "mobilevitv2_200": (18_449_329, 7_155_785_728, 7_219_224_576),
}
# MACs and timm's fvcore total in M, at 224 and 384.
OTHER_SIZES = {
    "mobilevitv2_050": ((361.95, 374.26), (1045.02, 1080.74)),
    "mobilevitv2_075": ((801.02, 819.48), (2312.48, 2366.06)),
    "mobilevitv2_100": ((1412.16, 1436.77), (4076.56, 4148.01)),
    "mobilevitv2_125": ((2195.36, 2226.13), (6337.29, 6426.59)),
    "mobilevitv2_150": ((3150.63, 3187.55), (9094.64, 9201.80)),
    "mobilevitv2_175": ((4277.96, 4321.03), (12348.62, 12473.65)),
    "mobilevitv2_200": ((5577.35, 5626.58), (16099.24, 16242.12)),
}
SMALL = MobileViTv2Config(
    image_size=(64, 96),
    num_classes=5,
    widths=(8, 8, 16, 16, 24, 32),
    attention_widths=(8, 16, 16),
)


def fvcore_total(cost: Cost) -> int:
    return cost.macs + sum(term.macs for term in COUNTERS["fvcore"].terms(cost))


@st.composite
def configs(draw: st.DrawFn) -> MobileViTv2Config:
    """A MobileViTv2 with every option free."""

    def each(count: int, options: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw(options) for _ in range(count))

    return MobileViTv2Config(
        image_size=draw(SIZES),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from((0, 5))),
        widths=each(6, st.sampled_from((4, 8, 16))),
        attention_widths=each(3, st.sampled_from((4, 8, 12))),
        depths=each(5, st.integers(1, 2)),
        attention_depths=each(3, st.integers(1, 2)),
        patch_sizes=each(3, st.integers(1, 5)),
        expand_ratio=draw(st.sampled_from((0.5, 1.0, 2.0, 4.0))),
        ffn_ratio=draw(st.sampled_from((0.5, 1.0, 2.0, 4.0))),
    )


# --- outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_of_the_authors_code(name: str) -> None:
    assert_logits_are_the_authors(name, GOLDEN[name], {256: "", 224: "_r224"})


@torch.no_grad()
def test_separable_attention_is_the_papers_formula() -> None:
    """One image, one pixel position, its tokens as rows of a matrix."""
    channels, tokens = 6, 10
    attention = SeparableSelfAttention(channels)
    x = torch.randn(tokens, channels)
    weight, bias = attention.qkv.weight[:, :, 0, 0], attention.qkv.bias
    assert bias is not None
    projected = x @ weight.T + bias
    scores = projected[:, :1].softmax(0)
    context = (scores * projected[:, 1 : 1 + channels]).sum(0)
    gated = projected[:, 1 + channels :].clamp_min(0) * context
    assert attention.proj.bias is not None
    expected = gated @ attention.proj.weight[:, :, 0, 0].T + attention.proj.bias
    out = attention(x.T[None, :, None])
    torch.testing.assert_close(out[0, :, 0].T, expected)


@torch.no_grad()
def test_pixels_at_the_same_position_of_their_patches_are_a_group() -> None:
    """On a map of 4 x 6 patches of 3 x 3, what one group gets is what it gets alone."""
    attention = SeparableSelfAttention(5, patch=3)
    alone = SeparableSelfAttention(5)
    alone.load_state_dict(attention.state_dict())
    x = torch.randn(2, 5, 12, 18)
    out = attention(x)
    for row, column in itertools.product(range(3), repeat=2):
        group = x[:, :, row::3, column::3]
        torch.testing.assert_close(out[:, :, row::3, column::3], alone(group))


@torch.no_grad()
def test_pixel_positions_do_not_meet_in_attention() -> None:
    attention = SeparableSelfAttention(4, patch=2)
    x = torch.randn(1, 4, 6, 8)
    changed = x.clone()
    changed[:, :, 1::2, ::2] += 1
    same = (attention(x) == attention(changed)).all(dim=1)[0]
    expected = torch.ones(6, 8, dtype=torch.bool)
    expected[1::2, ::2] = False
    assert torch.equal(same, expected)


@pytest.mark.parametrize(
    ("size", "sides"),
    [((256, 256), (32, 16, 8)), ((224, 224), (28, 14, 8)), ((200, 200), (26, 14, 8))],
)
def test_maps_that_patches_do_not_divide_stay_enlarged(
    size: tuple[int, int], sides: tuple[int, ...]
) -> None:
    """At 200: 25 -> 26, then 13 -> 14, then 7 -> 8."""
    with torch.device("meta"):
        maps = MobileViTv2(MobileViTv2Config()).forward_stages(torch.zeros(1, 3, *size))
    assert tuple(y.shape[-1] for y in maps[2:]) == sides


@torch.no_grad()
def test_resizing_aligns_corners() -> None:
    block = AttentionBlock(SMALL, 0, [0.0])
    x = torch.randn(1, 16, 7, 5)
    resized = block.resize(x)
    assert resized.shape == (1, 16, 8, 6)
    torch.testing.assert_close(resized[:, :, ::7, ::5], x[:, :, ::6, ::4])
    assert block.resize(resized) is resized


@torch.no_grad()
def test_images_of_a_batch_do_not_meet() -> None:
    model = randomised(effvit.create_model(SMALL))
    images = torch.randn(3, 3, 64, 96)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-5)


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    cost = effvit.model_cost(name)
    assert (cost.params, cost.macs, fvcore_total(cost)) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_at_other_sizes(name: str) -> None:
    """timm pools the last map, 8 x 8 and 12 x 12, with an operator that fvcore counts."""
    channels = effvit.model_config(name).to_dict()["widths"][-1]
    for size, side, expected in zip((224, 384), (8, 12), OTHER_SIZES[name], strict=True):
        cost = effvit.model_cost(name, size)
        counts = (cost.macs, fvcore_total(cost) + side**2 * channels)
        assert tuple(round(count / 1e6, 2) for count in counts) == expected


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_of_each_part(name: str) -> None:
    parts = {place: params for place, (params, _, _) in effvit.model_cost(name).by_module().items()}
    stages = {f"layer_{stage + 1}": parts[f"stages.{stage}"] for stage in range(5)}
    expected = golden(GOLDEN[name])["params_by_part"]
    assert expected.pop("conv_1x1_exp") == 0
    stem = sum(params for place, params in parts.items() if place.startswith("stem"))
    assert {"conv_1": stem, **stages, "classifier": parts["head"]} == expected


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mobilevitv2_050", (0.007, 0.030, 0.125, 0.128, 0.123, 0.052)),
        ("mobilevitv2_100", (0.014, 0.110, 0.484, 0.508, 0.489, 0.206)),
        ("mobilevitv2_200", (0.028, 0.422, 1.907, 2.023, 1.951, 0.824)),
    ],
)
def test_macs_of_each_layer(name: str, layers: tuple[float, ...]) -> None:
    groups = effvit.model_cost(name).by_module(depth=2)
    macs = [groups["stem.conv"][1], *(groups[f"stages.{stage}"][1] for stage in range(5))]
    assert tuple(round(count / 1e9, 3) for count in macs) == layers


@pytest.mark.parametrize(
    ("name", "projections", "elementwise", "feed_forward"),
    [
        ("mobilevitv2_050", 63.2, 0.51, 83.9),
        ("mobilevitv2_100", 252.2, 1.02, 335.5),
        ("mobilevitv2_200", 1007.6, 2.03, 1342.2),
    ],
)
def test_attention_is_projections_and_little_else(
    name: str, projections: float, elementwise: float, feed_forward: float
) -> None:
    """In M at 256 x 256; the elementwise part is listed and not counted."""
    cost = effvit.model_cost(name)
    macs = {"attention": 0, "ffn": 0}
    for op in cost.operations:
        for part in macs:
            macs[part] += op.macs * (f".{part}." in op.module)
    assert round(macs["attention"] / 1e6, 1) == projections
    assert round(macs["ffn"] / 1e6, 1) == feed_forward
    assert round(cost.elements(Operator.PRODUCT) / 1e6, 2) == elementwise
    assert Operator.MATMUL not in cost.by_operator()


def test_one_unit_from_the_formulas() -> None:
    """Stage 4 of MobileViTv2-1.0 at 256 x 256: 16 x 16 tokens of 192 channels."""
    pixels, d = 16 * 16, 192
    cost = effvit.model_cost("mobilevitv2_100")
    macs = {op.module: op.macs for op in cost.operations}
    unit = "stages.3.blocks.1.units.2"
    assert macs[f"{unit}.attention.qkv"] == pixels * d * (1 + 2 * d)
    assert macs[f"{unit}.attention.proj"] == pixels * d**2
    assert macs[f"{unit}.ffn.expand"] == macs[f"{unit}.ffn.project"] == 2 * pixels * d**2


def test_attention_is_linear_in_pixels() -> None:
    def unit_macs(side: int) -> int:
        cost = effvit.model_cost("mobilevitv2_100", side)
        return sum(op.macs for op in cost.operations if ".units." in op.module)

    assert unit_macs(512) == 4 * unit_macs(256) == 16 * unit_macs(128)


@pytest.mark.parametrize("size", [(224, 224), (75, 139)])
def test_no_counter_has_an_unexplained_difference(size: tuple[int, int]) -> None:
    cost = effvit.model_cost("mobilevitv2_050", size)
    results = compare(effvit.create_model("mobilevitv2_050"), cost, size)
    assert [result.unexplained for result in results] == [0] * 4  # no kernel is fused


@given(configs(), st.none() | SIZES)
def test_closed_form_is_the_built_network(
    config: MobileViTv2Config, other_size: tuple[int, int] | None
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
    config: MobileViTv2Config, size: tuple[int, int]
) -> None:
    model = effvit.create_model(config).eval()
    with explicit_attention(model):
        analysis = ActivationCountAnalysis(model, torch.zeros(1, config.in_channels, *size))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert effvit.model_cost(config, size).activations == analysis.total()


@given(st.lists(configs(), min_size=1, max_size=6), st.none() | SIZES)
def test_arrays_cost_what_scalars_cost(
    several: list[MobileViTv2Config], other_size: tuple[int, int] | None
) -> None:
    shared = {name: getattr(several[0], name) for name in ("image_size", "in_channels")}
    alike = [config.replace(**shared, num_classes=7) for config in several]
    assert_arrays_agree([*alike], other_size)


# Each moves the worst moment elsewhere: a bottleneck, attention, the feed-forward part, the image.
NARROW: dict[str, Any] = {"expand_ratio": 0.5, "attention_widths": (128, 96, 128)}
CHANGES: dict[str, dict[str, Any]] = {
    "published": {},
    "wider": {"widths": scaled_widths(0.75), "attention_widths": scaled_attention_widths(0.75)},
    "attention": {**NARROW, "widths": (16, 16, 16, 64, 64, 64), "ffn_ratio": 1},
    "feed-forward": {**NARROW, "widths": (16, 16, 16, 64, 64, 64), "ffn_ratio": 8},
    "resized": {"widths": (16, 16, 16, 256, 64, 64), "patch_sizes": (3, 2, 5), "expand_ratio": 0.5},
    "many channels": {"in_channels": 16},
}


@pytest.mark.parametrize("size", [(256, 256), (150, 231)])
@pytest.mark.parametrize("change", CHANGES)
def test_peak_memory(size: tuple[int, int], change: str) -> None:
    config = effvit.model_config("mobilevitv2_050").replace(**CHANGES[change])
    model = effvit.create_model(config).eval()
    measured = peak_bytes(model, torch.zeros(1, config.in_channels, *size))
    # The estimate leaves out that a group's context is repeated along a row of the map.
    assert effvit.model_cost(config, size).peak_bytes() == pytest.approx(measured, rel=0.02)


# --- configurations -----------------------------------------------------------------------------


def test_width_multipliers_round_as_released() -> None:
    assert scaled_widths(1) == (32, 64, 128, 256, 384, 512)
    assert scaled_widths(0.25) == (16, 16, 32, 64, 96, 128)  # the stem has 16 at least
    assert scaled_widths(3)[0] == 64  # and 64 at most
    assert scaled_widths(0.6) == (24, 48, 80, 152, 232, 304)  # 19.2 -> 24: 16 is a tenth less
    assert scaled_widths((1, 2, 1, 1, 1, 0.5)) == (32, 128, 128, 256, 384, 256)
    assert scaled_attention_widths(0.5) == (64, 96, 128)
    assert scaled_attention_widths((1, 0.5, 2)) == (128, 96, 512)


@given(configs())
def test_json_round_trip(config: MobileViTv2Config) -> None:
    assert effvit.as_config(json.loads(config.to_json())) == config
    assert config.canonical().variant_id == config.variant_id


def test_whole_ratios_are_one_network() -> None:
    assert SMALL.replace(ffn_ratio=2) == SMALL.replace(ffn_ratio=2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (8, 8, 16)}, "widths needs one entry for the stem and each of 5 stages"),
        ({"attention_depths": (1, 2)}, "attention_depths needs one entry for each of 3"),
        ({"attention_depths": (1, 0, 1)}, "attention_depths must be at least 1"),
        ({"patch_sizes": (2, 0, 2)}, "patch_sizes must be at least 1"),
        ({"expand_ratio": 0}, "expand_ratio must be positive"),
        ({"ffn_ratio": float("nan")}, "ffn_ratio must be positive"),
        ({"ffn_ratio": 1.3}, r"got 8 x 1\.3 \(nearest valid ratio: 1\.25\)"),
        ({"expand_ratio": 0.3}, "width times expand_ratio must be an integer"),
        ({"patch_size": 2}, "unknown mobilevitv2 option 'patch_size'; did you mean 'patch_sizes'"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.replace(**change)
