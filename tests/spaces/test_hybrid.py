"""The space of hybrids against plain enumeration that shares no code with it."""

import functools
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import effvit
from effvit import ConfigError
from effvit.designs.hybrid import HybridConfig
from effvit.designs.sepvit import SepViTConfig
from spaces import InvalidVariant, Space, get_space
from spaces.axes import Value
from spaces.hybrid import HybridSpace
from spaces.hybrid_blocks import as_hybrid
from tests.spaces.enumeration import (
    Values,
    assert_counted_once,
    assert_walked,
    enumerate_networks,
    reduced,
)

STAGES = (1, 2, 3, 4)

# One value for each axis, valid together at every resolution used here.
SINGLE: dict[str, tuple[Value, ...]] = {
    "width_1": (32,), "width_2": (64,), "width_3": (128,), "width_4": (256,),
    "depth_1": (1,), "depth_2": (2,), "depth_3": (2,), "depth_4": (1,),
    "window_size": (8,), "group_count": (2,),
    "attention_1": ("convolution",), "attention_2": ("dssa+gsa",),
    "attention_3": ("window+shifted",), "attention_4": ("separable",),
    "window_representation": ("learned",), "mlp_ratio": (2,), "head_width": (16,),
}  # fmt: skip

FULL = {axis.name: axis.values for axis in HybridSpace.AXES}
# Narrow stages too, of which cross-shaped windows need an even number of heads.
OPTIONS: dict[str, tuple[Value, ...]] = {**FULL, "width_2": (48, 64, 96), "depth_3": (1, 2, 3)}
OFTEN = (
    "window_size", "group_count", "head_width", "window_representation", "depth_3", "depth_4",
    *(f"attention_{stage}" for stage in STAGES),
)  # fmt: skip

PATTERNS: dict[Value, tuple[str, ...]] = {
    "dssa+gsa": ("dssa", "gsa"),
    "window+shifted": ("window", "shifted_window"),
}
STRIPES, SUB_SAMPLING = (1, 2, 7, 7), (8, 4, 2, 1)


@functools.cache
def space_at(resolution: int | tuple[int, int] = 224) -> Space:
    """The space, opened once for all tests."""
    return get_space("hybrid", resolution)


# --- plain enumeration --------------------------------------------------------------------------


def naive_config(choices: Mapping[str, Any], resolution: tuple[int, int]) -> HybridConfig:
    """The configuration as a user would write it, nothing unread set to an agreed value."""
    widths = tuple(choices[f"width_{s}"] for s in STAGES)
    names = [choices[f"attention_{s}"] for s in STAGES]
    headless = ("separable", "convolution")
    return HybridConfig(
        image_size=resolution,
        widths=widths,
        depths=tuple(choices[f"depth_{s}"] for s in STAGES),
        heads=tuple(
            1 if name in headless else width // choices["head_width"]
            for width, name in zip(widths, names, strict=True)
        ),
        attention=tuple(PATTERNS.get(name, (name,)) for name in names),
        windows=(choices["window_size"],) * 4,
        groups=(choices["group_count"],) * 4,
        stripes=STRIPES,
        sub_sampling=SUB_SAMPLING,
        linformer_lengths=(49,) * 4,
        scales=(5,),
        mlp_ratio=float(choices["mlp_ratio"]),
        window_representation=choices["window_representation"],
    )


def maps(resolution: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width at strides 4, 8, 16, 32, rounded up."""
    height, width = resolution
    return [(-(-height // 2**s), -(-width // 2**s)) for s in (2, 3, 4, 5)]


def window_shapes(
    choices: Mapping[str, Any], stage: int, shape: tuple[int, int]
) -> list[tuple[int, int]]:
    """Heights and widths of everything that a stage's map is cut into."""
    name, side = choices[f"attention_{stage}"], choices["window_size"]
    group, stripe = side * choices["group_count"], STRIPES[stage - 1]
    height, width = shape
    if name == "cross_window":
        return [(height, min(stripe, width)), (min(stripe, height), width)]
    sides = {"dssa+gsa": (side, group)[: choices[f"depth_{stage}"]], "gsa": (group,)}
    if name in ("dssa", "window", "window+shifted", "twins"):
        sides[name] = (side,)
    return [(min(s, height), min(s, width)) for s in sides.get(name, ())]


def is_valid(choices: Mapping[str, Any], resolution: tuple[int, int]) -> bool:
    widths = [choices[f"width_{s}"] for s in STAGES]
    return widths == sorted(widths) and all(
        stage_is_valid(choices, stage, shape)
        for stage, shape in zip(STAGES, maps(resolution), strict=True)
    )


def stage_is_valid(choices: Mapping[str, Any], stage: int, shape: tuple[int, int]) -> bool:
    name, stripe = choices[f"attention_{stage}"], STRIPES[stage - 1]
    heads, rest = divmod(choices[f"width_{stage}"], choices["head_width"])
    if name not in ("separable", "convolution") and rest:
        return False
    if name == "cross_window" and stripe < max(shape) and heads % 2:
        return False
    if name == "multi_scale_relu_linear" and min(shape) <= 2:  # a 5 x 5 kernel reaches 2 pixels
        return False
    return all(
        2 * (-(-shape[0] // down) * down) * (-(-shape[1] // across) * across)
        <= 3 * shape[0] * shape[1]
        for down, across in window_shapes(choices, stage, shape)
    )


VALUES = reduced(SINGLE, OPTIONS, OFTEN, others=2)
RESOLUTIONS = st.sampled_from([(64, 64), (160, 160), (224, 224), (64, 320)])


# --- size, numbers, walks -----------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(values=VALUES, resolution=RESOLUTIONS)
def test_the_space_is_what_enumeration_finds(values: Values, resolution: tuple[int, int]) -> None:
    networks = enumerate_networks(
        values,
        lambda choices: is_valid(choices, resolution),
        lambda choices: naive_config(choices, resolution),
    )
    if not networks:
        with pytest.raises(ConfigError, match="no valid network"):
            HybridSpace(resolution, values)
        return
    space = HybridSpace(resolution, values)
    assert_counted_once(space, networks)
    assert_walked(space, networks, lambda choices: naive_config(choices, resolution), count=5)


# Of each stage's attention only what the stage is, of widths and the rest nothing varies.
MIXED: dict[str, tuple[Value, ...]] = {
    **SINGLE,
    "window_size": (7, 14),
    "attention_3": FULL["attention_3"],
    "attention_4": FULL["attention_4"],
    "depth_4": (1, 2),
}


def test_every_attention_type_is_counted_at_224() -> None:
    """Stages 3 and 4, on maps of 14 x 14 and 7 x 7, written out by hand; stage 2 has DSSA and GSA.

    Stage 2's windows tell window sizes 7 and 14 apart (GSA of 28 covers its map). Stage 3 has two
    blocks: dssa, dssa+gsa and gsa each are another network at 7; at 14 all three are one window.
    Windows of 7, plain, shifted or with Twins' second block, are three; of 14 they are full
    attention, but for Twins, whose second block is sub-sampled. Six types read no window.
    Stage 4 is one window at both sizes: DSSA, or else full attention, which Twins is there too;
    linformer, separable, relu_linear, multi-scale, cross_window and convolution are the rest.
    """
    at_7 = 3 + 3 + len({"cross", "separable", "relu", "multi", "linformer", "full", "convolution"})
    at_14 = 1 + len({"full", "twins"}) + len({"cross", "separable", "relu", "multi", "linformer",
                                              "convolution"})  # fmt: skip
    stage_4 = 2 * (1 + 1 + 6)
    assert HybridSpace(224, MIXED).size() == (at_7 + at_14) * stage_4


def test_the_full_space_is_counted_right_without_windows() -> None:
    """Types that read no windows: everything is independent but widths, heads and what reads them.

    Cross-shaped windows need twice the head width, but in stage 4, where a stripe is the whole map.
    """
    types = ("cross_window", "full", "convolution")
    space = HybridSpace(224, {**{f"attention_{s}": types for s in STAGES}, "window_size": (7,)})
    heads = tuple(map(int, FULL["head_width"]))
    chains = Counter(
        # All that matters of widths: what of each stage's types each head width allows.
        tuple(
            tuple(not width % (2 * head if s < 4 else head) for head in heads)
            + tuple(not width % head for head in heads)
            for s, width in zip(STAGES, widths, strict=True)
        )
        for widths in itertools.product(*(map(int, FULL[f"width_{s}"]) for s in STAGES))
        if list(widths) == sorted(widths)
    )
    networks = 0
    for allowed, count in chains.items():
        for attention in itertools.product(types, repeat=4):
            if set(attention) == {"convolution"}:
                networks += count
                continue
            start = {"cross_window": 0, "full": len(heads)}
            columns = [
                row[start[name] : start[name] + len(heads)]
                for row, name in zip(allowed, attention, strict=True)
                if name in start
            ]
            networks += count * sum(map(all, zip(*columns, strict=True)))
    assert [len(FULL[f"depth_{s}"]) for s in STAGES] == [3, 4, 7, 3]
    assert space.size() == networks * 3 * 4 * 7 * 3 * len(FULL["mlp_ratio"])


def test_sampling_is_uniform_over_networks_not_over_choices() -> None:
    values = {**SINGLE, "attention_2": ("full",), "attention_3": ("dssa", "gsa", "separable")}
    space = HybridSpace(224, {**values, "window_size": (7, 14), "group_count": (2, 4)})
    configs = [space.unrank(number) for number in range(space.size())]
    encodings = np.array([len(list(space.encodings(config))) for config in configs])
    # Separable reads no pair; DSSA reads 7 and not the group; one window is all others.
    assert sorted(encodings) == [2, 4, 6]
    drawn = Counter(space.sample_many(np.random.default_rng(3), 400 * len(configs)))
    assert chisquare([drawn[config] for config in configs]).pvalue > 1e-3
    # The test can tell: what uniform choices would give is rejected.
    uneven = 400 * len(configs) * encodings / encodings.sum()
    assert chisquare(uneven).pvalue < 1e-9


# --- collapse -----------------------------------------------------------------------------------


def test_what_no_block_reads_makes_no_other_network() -> None:
    space = space_at()
    params = space.encode(as_hybrid(SepViTConfig()))
    plain = {**params, **{f"attention_{s}": "convolution" for s in STAGES}}
    for name, value in (
        ("window_size_index", 3), ("group_count", 4), ("head_width_index", 0),
        ("window_representation", "zero"),
    ):  # fmt: skip
        assert space.decode({**plain, name: value}) == space.decode(plain)
    # Window sizes x group counts x representations x head widths.
    assert len(list(space.encodings(space.decode(plain)))) == 4 * 3 * 5 * 4


def test_windows_that_cover_the_map_are_full_attention() -> None:
    """At 224 pixels stage 4's map is 7 x 7."""
    space = space_at()
    params = space.encode(as_hybrid(SepViTConfig()))
    full = space.decode({**params, "attention_4": "full"})
    for name in ("window", "window+shifted", "twins"):
        assert space.decode({**params, "attention_4": name}) == full
    assert space.decode(params) != full  # DSSA keeps its shortcuts


# --- published variants -------------------------------------------------------------------------

SEPVIT = ("sepvit_lite", "sepvit_tiny", "sepvit_small", "sepvit_base")


@pytest.mark.parametrize("resolution", [224, 384, (512, 2048)])
def test_sepvit_is_a_member_to_the_last_multiply_accumulate(
    resolution: int | tuple[int, int],
) -> None:
    space = space_at(resolution)
    published = space.published()
    assert tuple(published) == SEPVIT
    for name, config in published.items():
        cost = effvit.model_cost(name, image_size=space.resolution)
        assert effvit.model_cost(config).macs == cost.macs
        assert effvit.model_cost(config).params == cost.params


def test_all_networks_of_sepvits_space_are_members() -> None:
    hybrid = space_at()
    for config in get_space("sepvit").sample_many(np.random.default_rng(0), 30):
        assert isinstance(config, SepViTConfig)
        assert hybrid.contains(as_hybrid(config))


# --- rules --------------------------------------------------------------------------------------

BROKEN = [
    (  # 96 = 3 x 32: three heads do not share themselves out between two kinds of stripes
        224,
        {"attention_1": "cross_window"},
        (
            "width_1 of cross_window must be divisible by twice head_width, got 96 and 32 "
            "(attention splits channels evenly over heads, and heads over two kinds of stripes; "
            "nearest valid: width_1 64)"
        ),
    ),
    (
        224,
        {"head_width_index": 3},
        (
            "width_1 of dssa must be divisible by head_width, got 96 and 64 "
            "(attention splits channels evenly over heads, and heads over two kinds of stripes; "
            "nearest valid: width_1 64)"
        ),
    ),
    (
        64,
        {"attention_4": "multi_scale_relu_linear"},
        (
            "attention_4 multi_scale_relu_linear needs a map whose shorter side is over 2, "
            "got 2 x 2 (outer weights of larger kernels would only ever meet padding; "
            "nearest valid: attention_4 dssa)"
        ),
    ),
    (  # windows of 14 on a map of 16: padded to 28 x 28, 28^2 / 16^2 - 1 = 2.06
        256,
        {"attention_3": "twins", "window_size_index": 3},
        (
            "stage 3's windows may add at most 50.0% positions to its map, got 206.2% from "
            "windows of 14 x 14 on 16 x 16 (padded to 28 x 28) "
            "(padded positions cost what real ones cost and are thrown away; nearest valid: "
        ),
    ),
]


@pytest.mark.parametrize(("resolution", "change", "message"), BROKEN)
def test_broken_rules_say_rule_value_and_way_out(
    resolution: int, change: dict[str, Value], message: str
) -> None:
    space = space_at(resolution)
    tiny = as_hybrid(SepViTConfig(image_size=(resolution, resolution)))
    attention = {"attention": (("convolution",),) * 4} if resolution != 224 else {}
    params = {**space.encode(tiny.replace(**attention)), **change}
    broken = "\n".join(space.violations(params))
    assert message in broken
    with pytest.raises(InvalidVariant, match=r"nearest valid"):
        space.decode(params)


TINY: HybridConfig = HybridConfig()  # SepViT-T


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SepViTConfig(), "space hybrid holds family hybrid, got family sepvit"),
        (TINY.replace(image_size=(256, 256)), r"image_size must be \(224, 224\)"),
        (TINY.replace(inner_shortcuts=False), "inner_shortcuts must be True"),
        (TINY.replace(widths=(48, 192, 384, 768), heads=(2, 8, 16, 32)), "width_1 must be one of"),
        (TINY.replace(widths=(96, 64, 384, 768), heads=(3, 2, 12, 24)), "at least width_1, got 64"),
        (TINY.replace(depths=(1, 2, 5, 2)), r"stage 3's blocks .*got dssa\+gsa\+dssa\+gsa\+dssa"),
        (TINY.replace(heads=(3, 6, 12, 12)), r"share one head_width, got \[32, 64\]"),
        (TINY.replace(mlp_ratio=2.5), "mlp_ratio must be one of 2, 3, 4, got 2.5"),
        (TINY.replace(windows=(7, 8, 7, 7)), "share one window_size and group_count"),
        (TINY.replace(windows=(6, 7, 7, 7)), r"stage 1's blocks .*nearest valid: 1 of dssa with"),
        (TINY.replace(pointwise_attention="always"), "pointwise_attention must be multi_window"),
        (
            TINY.replace(attention=(("dssa",), ("gsa", "dssa"), ("dssa",), ("dssa",))),
            r"stage 2's blocks .*got gsa\+dssa \(nearest valid: 2 of",
        ),
        (
            TINY.replace(attention=(*TINY.attention[:3], ("linformer",)),
                         linformer_lengths=(49, 49, 49, 16)),
            "stage 4's blocks .*got linformer",
        ),
    ],
)  # fmt: skip
def test_what_is_outside_says_why(config: effvit.ModelConfig, message: str) -> None:
    space = space_at()
    assert not space.contains(config)
    with pytest.raises(InvalidVariant, match=message):
        space.encode(config)
