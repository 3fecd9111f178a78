"""The hybrid family: SepViT where it is one, exact costs, one name for one network."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fvcore.nn import ActivationCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import effvit
from effvit import ConfigError
from effvit.counters import compare, count_torch
from effvit.designs.attention.types import ATTENTION_TYPES
from effvit.designs.hybrid import STAGE_SETTINGS, HybridConfig
from effvit.designs.sepvit import VARIANTS, SepViTConfig
from effvit.networks.attention.block import build_block
from effvit.networks.hybrid import Hybrid
from effvit.networks.layers import explicit_attention
from tests.effvit.hybrids import NAMES, hybrid_configs
from tests.effvit.live_memory import peak_bytes
from tests.effvit.peers import assert_arrays_agree, randomised
from tests.effvit.strategies import SIZES, sepvit_configs

Size = tuple[int, int]

SMALL = HybridConfig(
    image_size=(64, 96),
    num_classes=5,
    widths=(8, 16, 24, 32),
    depths=(1, 2, 2, 1),
    heads=(2, 2, 4, 4),
    windows=(4, 4, 2, 2),
    stripes=(1, 2, 3, 1),
    sub_sampling=(4, 2, 2, 1),
    linformer_lengths=(16, 8, 5, 5),
    scales=(3, 5),
)


def small(*attention: str, **changes: Any) -> HybridConfig:  # noqa: ANN401 - fields
    """A hybrid with one type a stage."""
    return SMALL.replace(attention=tuple((name,) for name in attention), **changes)


MIXED = (
    small("dssa", "gsa", "window", "shifted_window"),
    small("cross_window", "twins", "linformer", "full"),
    small("convolution", "relu_linear", "multi_scale_relu_linear", "separable"),
)
"""Every type once."""


def as_hybrid(config: SepViTConfig) -> HybridConfig:
    """The same network as a hybrid; windows of two sides a stage, one a multiple of the other."""
    values = {name: getattr(config, name) for name in config.field_names() if name != "windows"}
    sides = [min(pattern) for pattern in config.windows]
    return HybridConfig(
        windows=tuple(sides),
        groups=tuple(
            max(pattern) // side for pattern, side in zip(config.windows, sides, strict=True)
        ),
        attention=tuple(
            tuple("dssa" if side == least else "gsa" for side in pattern)
            for pattern, least in zip(config.windows, sides, strict=True)
        ),
        **values,
    )


@st.composite
def separable_configs(draw: st.DrawFn) -> SepViTConfig:
    """A SepViT whose stages have windows of at most two sides, one a multiple of the other."""
    config = draw(sepvit_configs())
    windows = []
    for _ in range(4):
        side, group = draw(st.integers(1, 8)), draw(st.integers(1, 3))
        picks = draw(st.lists(st.sampled_from((side, side * group)), min_size=1, max_size=3))
        windows.append(tuple(picks))
    return config.replace(windows=tuple(windows))


# --- SepViT -------------------------------------------------------------------------------------


def test_the_default_is_sepvit_tiny() -> None:
    tiny = as_hybrid(VARIANTS["sepvit_tiny"])
    assert HybridConfig(drop_path_rate=tiny.drop_path_rate).canonical() == tiny.canonical()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [None, (97, 131), (512, 2048)])
def test_published_sepvits_cost_the_same(name: str, size: Size | None) -> None:
    """Every operation, under the same name."""
    config = VARIANTS[name]
    assert effvit.model_cost(as_hybrid(config), size) == effvit.model_cost(config, size)


@pytest.mark.parametrize("size", [(224, 224), (97, 131)])
@torch.no_grad()
def test_a_published_sepvit_is_the_same_function(size: Size) -> None:
    theirs = randomised(effvit.create_model("sepvit_lite"))
    ours = effvit.create_model(as_hybrid(VARIANTS["sepvit_lite"])).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, *size)
    assert torch.equal(ours(image), theirs(image))


@settings(max_examples=8)
@given(separable_configs(), st.none() | SIZES)
def test_any_sepvit_is_the_same_function_at_the_same_cost(
    config: SepViTConfig, other_size: Size | None
) -> None:
    hybrid = as_hybrid(config)
    assert effvit.model_cost(hybrid, other_size) == effvit.model_cost(config, other_size)
    theirs = randomised(effvit.create_model(config))
    ours = effvit.create_model(hybrid).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, config.in_channels, *(other_size or config.image_size))
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-4)


# --- cost ---------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(hybrid_configs(), st.none() | SIZES)
def test_closed_form_is_the_built_network(config: HybridConfig, other_size: Size | None) -> None:
    cost = effvit.model_cost(config, other_size)
    model = effvit.create_model(config).eval()
    images = torch.zeros(1, config.in_channels, *(other_size or config.image_size))
    with torch.no_grad(), explicit_attention(model):
        assert cost.macs == count_torch(model, images)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=2)
@given(hybrid_configs(), SIZES)
def test_activations_are_what_fvcore_counts(config: HybridConfig, size: Size) -> None:
    model = effvit.create_model(config).eval()
    with torch.no_grad(), explicit_attention(model):
        analysis = ActivationCountAnalysis(model, torch.zeros(1, config.in_channels, *size))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert effvit.model_cost(config, size).activations == analysis.total()


@settings(max_examples=15)
@given(st.lists(hybrid_configs(), min_size=1, max_size=6), st.none() | SIZES)
def test_arrays_cost_what_scalars_cost(
    several: list[HybridConfig], other_size: Size | None
) -> None:
    shared = {name: getattr(several[0], name) for name in ("image_size", "in_channels")}
    alike = [config.replace(**shared, num_classes=7) for config in several]
    assert_arrays_agree([*alike], other_size)


@pytest.mark.parametrize("config", MIXED)
def test_no_counter_has_an_unexplained_difference(config: HybridConfig) -> None:
    size = (75, 139)
    results = compare(Hybrid(config), effvit.model_cost(config, size), size)
    assert {result.unexplained for result in results} == {0}


# Each moves the worst moment elsewhere: many pixels, many channels.
CHANGES: dict[str, dict[str, Any]] = {
    "narrow": {"windows": (7, 7, 7, 7), "widths": (32, 64, 128, 256)},
    "growing": {"windows": (4, 4, 2, 2), "widths": (8, 32, 128, 512)},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", NAMES)
def test_peak_memory(name: str, change: str) -> None:
    config = small(name, name, name, name, image_size=(224, 224), mlp_ratio=0.5)
    config = config.replace(depths=(1, 2, 1, 1), linformer_lengths=(64,) * 4, **CHANGES[change])
    measured = peak_bytes(Hybrid(config).eval(), torch.zeros(1, 3, 75, 131))
    assert effvit.model_cost(config, (75, 131)).peak_bytes() == pytest.approx(measured, rel=0.03)


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", MIXED)
def test_every_parameter_gets_a_gradient(config: HybridConfig) -> None:
    model = Hybrid(config.replace(drop_path_rate=0.1)).train()
    model(torch.randn(4, 3, 75, 131)).square().sum().backward()
    lacking = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert not lacking


@pytest.mark.parametrize("config", MIXED)
@torch.no_grad()
def test_maps(config: HybridConfig) -> None:
    model = Hybrid(config).eval()
    image = torch.randn(2, 3, 75, 131)
    maps = model.forward_stages(image)
    assert [tuple(y.shape) for y in maps] == [
        (2, -(-75 // stride), -(-131 // stride), width)
        for stride, width in zip((4, 8, 16, 32), config.widths, strict=True)
    ]
    assert model(image).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("config", [MIXED[0], MIXED[2]])
@torch.no_grad()
def test_torch_compile_sees_one_graph_for_all_batch_sizes(config: HybridConfig) -> None:
    model = Hybrid(config).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for batch in (2, 3):
        x = torch.randn(batch, 3, 61, 90)
        torch._dynamo.mark_dynamic(x, 0)
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-5)


# --- configurations -----------------------------------------------------------------------------


def names(config: HybridConfig) -> list[list[str]]:
    """Canonical names of each stage's blocks."""
    return [list(stage) for stage in config.canonical().attention]


def test_patterns_repeat_and_twins_take_turns() -> None:
    config = SMALL.replace(
        depths=(4, 5, 1, 1),
        attention=(("twins",), ("full", "twins"), ("twins",), ("dssa",)),
    )
    local, everywhere = "window", "sub_sampled"
    assert names(config)[:3] == [
        [local, everywhere, local, everywhere],
        ["full", local, "full", everywhere, "full"],
        [local],
    ]


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        # Of stage 1, whose map is 16 x 24, with windows of 4 and groups of 2 if nothing is said.
        ({"attention": "gsa", "groups": 1}, {"attention": "dssa", "windows": 4, "groups": 1}),
        ({"attention": "gsa"}, {"attention": "dssa", "windows": 8, "groups": 1}),
        ({"attention": "gsa", "windows": 9, "groups": 9}, {"attention": "dssa", "windows": 24}),
        ({"attention": "dssa gsa", "windows": 9, "groups": 9}, {"windows": 9, "groups": 3}),
        ({"attention": "dssa", "windows": 99}, {"attention": "dssa", "windows": 24}),
        ({"attention": "window", "windows": 23}, {"attention": "window", "windows": 23}),
        ({"attention": "window", "windows": 24}, {"attention": "full", "windows": 1}),
        ({"attention": "shifted_window", "windows": 24}, {"attention": "full", "windows": 1}),
        ({"attention": "shifted_window", "windows": 1}, {"attention": "window", "windows": 1}),
        ({"attention": "sub_sampled", "sub_sampling": 1}, {"attention": "full"}),
        ({"attention": "sub_sampled", "sub_sampling": 99}, {"sub_sampling": 24}),
        ({"attention": "cross_window", "stripes": 99}, {"stripes": 24}),
        ({"attention": "linformer", "linformer_lengths": 999}, {"linformer_lengths": 16 * 24}),
        (
            {"attention": "multi_scale_relu_linear", "scales": ()},
            {"attention": "relu_linear"},
        ),
        (
            {"attention": "gsa", "inner_shortcuts": False, "pointwise_attention": "off"},
            {"attention": "window", "windows": 8},
        ),
        (
            {"attention": "dssa", "inner_shortcuts": False, "window_representation": "none"},
            {"attention": "window", "windows": 4},
        ),
        (
            {"attention": "dssa", "windows": 24, "inner_shortcuts": False},
            {"attention": "dssa", "windows": 24},  # a window at larger sizes, where full has none
        ),
        ({"attention": "dssa", "pointwise_attention": "off"}, {"attention": "dssa"}),
    ],
)
def test_names_of_one_network(written: dict[str, Any], canonical: dict[str, Any]) -> None:
    values = dict(written)
    pattern = tuple(values.pop("attention").split())
    first = {
        name: (values.pop(name), *getattr(SMALL, name)[1:])
        for name in STAGE_SETTINGS
        if name in values
    }
    config = SMALL.replace(
        depths=(len(pattern), 1, 1, 1), attention=(pattern, *(("full",),) * 3), **first, **values
    )
    found = config.canonical()
    expected = dict(canonical)
    if "attention" in canonical:
        expected["attention"] = tuple(canonical["attention"].split())
    assert {name: getattr(found, name)[0] for name in canonical} == expected
    assert found.canonical() == found
    assert found.variant_id == config.variant_id


def test_what_nothing_reads_does_not_matter() -> None:
    config = small("full", "separable", "convolution", "linformer")
    other = config.replace(
        windows=(1, 2, 3, 4),
        groups=(1, 1, 1, 9),
        stripes=(5, 5, 5, 5),
        sub_sampling=(1, 2, 3, 4),
        linformer_lengths=(9, 9, 9, SMALL.linformer_lengths[3]),
        heads=(2, 16, 3, 4),
        scales=(7,),
        window_representation="average",
        pointwise_attention="always",
        inner_shortcuts=False,
        drop_path_rate=0.5,
    )
    assert other.variant_id == config.variant_id
    assert other.replace(heads=(4, 16, 3, 4)).variant_id != config.variant_id


def with_named_weights(model: nn.Module) -> nn.Module:
    """The model in float64, with weights that depend on their names and shapes only."""
    with torch.no_grad():
        for name, parameter in model.double().eval().named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            fan_in = max(1, parameter[0].numel())
            weight = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(weight / math.sqrt(fan_in))
    return model


@torch.no_grad()
def logits(model: nn.Module, config: HybridConfig, size: Size) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (2, config.in_channels, *size)
    out: Tensor = model(torch.randn(shape, generator=generator, dtype=torch.float64))
    return out


@given(hybrid_configs())
def test_the_canonical_form_builds_the_same_network(config: HybridConfig) -> None:
    canonical = config.canonical()
    assert canonical.canonical() == canonical
    assert canonical.variant_id == config.variant_id
    assert canonical.plan() == config.plan()
    for size in (config.image_size, (61, 90)):
        assert effvit.model_cost(canonical, size) == effvit.model_cost(config, size)


@settings(max_examples=6)
@given(hybrid_configs())
def test_the_canonical_form_is_the_same_function(config: HybridConfig) -> None:
    canonical = config.canonical()
    written, simple = with_named_weights(Hybrid(config)), with_named_weights(Hybrid(canonical))
    for size in (config.image_size, (61, 90)):
        assert torch.equal(logits(written, config, size), logits(simple, canonical, size))


MIXING = (
    ("learned", "multi_window"),
    ("learned", "always"),
    ("learned", "off"),
    ("average", "multi_window"),
    ("none", "always"),
)


def reduced_space() -> Iterator[HybridConfig]:
    """What can stand in stage 1, whose map is 12 x 16 at 48 x 64 pixels."""
    base = SMALL.replace(
        image_size=(48, 64), depths=(2, 1, 1, 1), attention=(("full",),) * 4, mlp_ratio=0.5
    )
    patterns = (*((name,) for name in NAMES), ("dssa", "gsa"), ("window", "gsa"))
    for pattern, side, number in itertools.product(patterns, (4, 16), (1, 2)):
        config = base.replace(
            attention=(pattern, *base.attention[1:]),
            windows=(side, 2, 2, 2),
            groups=(number, 2, 2, 2),
            stripes=(16 * number - 15, 1, 1, 1),
            sub_sampling=(number, 1, 1, 1),
            linformer_lengths=(number, 1, 1, 1),
            scales=(3,) * (number - 1),
        )
        for (representation, pointwise), shortcuts in itertools.product(MIXING, (True, False)):
            yield config.replace(
                window_representation=representation,
                pointwise_attention=pointwise,
                inner_shortcuts=shortcuts,
            )
            if not set(pattern) & {"dssa", "gsa"}:
                break


def first_stage(config: HybridConfig) -> nn.Module:
    """The blocks of stage 1."""
    blocks = config.plan()[0].blocks
    hidden = config.hidden_widths[0]
    return with_named_weights(nn.Sequential(*(build_block(design, hidden) for design in blocks)))


@torch.no_grad()
def test_names_are_equal_exactly_where_networks_are() -> None:
    """Over a whole reduced space: a name has one function, and a function has one name.

    A function is one of maps of any size; here of the design's and a larger one.
    """
    maps = [torch.randn(1, *shape, 8, dtype=torch.float64) for shape in ((12, 16), (13, 17))]
    names_of: dict[tuple[object, ...], set[str]] = defaultdict(set)
    functions_of: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    configs = list(reduced_space())
    for config in configs:
        model = first_stage(config)
        shapes = tuple((name, tuple(t.shape)) for name, t in model.state_dict().items())
        outputs = tuple(tuple((model(x).flatten() * 1e8).round().tolist()) for x in maps)
        names_of[shapes, outputs].add(config.variant_id)
        functions_of[config.variant_id].add((shapes, outputs))
    assert all(len(found) == 1 for found in names_of.values())
    assert all(len(found) == 1 for found in functions_of.values())
    assert len(names_of) < len(configs) / 2  # many choices are dead here


@given(hybrid_configs())
def test_json_round_trip(config: HybridConfig) -> None:
    assert effvit.as_config(json.loads(config.to_json())) == config


def test_there_are_no_published_hybrids() -> None:
    assert not [name for name in effvit.list_models() if "hybrid" in name]
    assert isinstance(effvit.create_model({"family": "hybrid", "num_classes": 2}), Hybrid)
    assert set(NAMES) == set(ATTENTION_TYPES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": (("dsa",),) * 4}, "unknown attention type 'dsa'; did you mean 'dssa'"),
        ({"attention": (("dssa",),) * 3}, "attention needs one entry for each of 4 stages"),
        ({"attention": ((),) * 4}, "attention must be patterns of types"),
        ({"attention": ("dssa",) * 4}, "attention must be patterns of types"),
        (
            {"attention": (("cross_window",),) * 4, "heads": (2, 2, 3, 4)},
            r"heads must be even .* got 3 \(nearest valid: 4\) in stage 3",
        ),
        ({"windows": (4, 4, 0, 2)}, "windows must be at least 1"),
        ({"groups": (2, 2, 2)}, "groups needs one entry for each of 4 stages"),
        ({"heads": (3, 2, 4, 4)}, r"got 8 and 3 \(nearest valid width: 9\)"),
        ({"scales": (5, 3)}, "scales must be odd and ascending"),
        ({"scales": (4,)}, "scales must be odd and ascending"),
        ({"mlp_ratio": 0.3}, "width times mlp_ratio must be an integer"),
        ({"window_representation": "learnt"}, "did you mean 'learned'"),
        ({"window": (4, 4, 4, 4)}, "unknown hybrid option 'window'; did you mean 'windows'"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.replace(**change)
