"""EfficientViT's space against plain enumeration that shares no code with it."""

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
from effvit.designs.efficientvit import TIMM_ATTENTION_EPS, EfficientViTConfig
from spaces import InvalidVariant, get_space
from spaces.axes import Value
from spaces.efficientvit import EfficientViTSpace
from tests.spaces.enumeration import (
    Values,
    assert_counted_once,
    assert_walked,
    enumerate_networks,
    reduced,
)

# One value for each axis, valid together at every resolution used here.
SINGLE: dict[str, tuple[Value, ...]] = {
    "width_stem": (8,), "width_1": (16,), "width_2": (32,), "width_3": (64,), "width_4": (128,),
    "depth_stem": (1,), "depth_1": (1,), "depth_2": (1,), "depth_3": (2,), "depth_4": (2,),
    "kind_1": ("mbconv",), "kind_2": ("mbconv",),
    "kind_3": ("attention",), "kind_4": ("mbconv",),
    "head_width": (16,), "scales": ("none",), "expand_ratio": (4,), "classifier": ("1024+1280",),
}  # fmt: skip

FULL = {axis.name: axis.values for axis in EfficientViTSpace.AXES}
# Depths of 0 too, where attention is a choice without effect on all but the stride-2 block, widths
# that only some heads divide, and widths that overlap with the stage before.
OPTIONS: dict[str, tuple[Value, ...]] = {
    **FULL,
    **{f"depth_{s}": (0, 1, 3) for s in ("stem", 1, 2, 3, 4)},
    "width_1": (8, 16, 24, 40),
    "width_2": (16, 24, 32, 48),
    "width_4": (48, 64, 96, 128),
}
OFTEN = ("kind_3", "kind_4", "depth_3", "depth_4", "width_4", "head_width", "scales")
STAGES = (1, 2, 3, 4)
SCALES: dict[Value, tuple[int, ...]] = {"none": (), "3x3": (3,), "5x5": (5,), "3x3+5x5": (3, 5)}
CLASSIFIERS: dict[Value, tuple[int, int]] = {
    "1024+1280": (1024, 1280),
    "1536+1600": (1536, 1600),
    "2304+2560": (2304, 2560),
}
B_SERIES = tuple(f"efficientvit_b{number}" for number in range(4))


# --- plain enumeration --------------------------------------------------------------------------


def attends(choices: Mapping[str, Any], stage: int) -> bool:
    return bool(choices[f"kind_{stage}"] == "attention" and choices[f"depth_{stage}"] > 0)


def naive_config(choices: Mapping[str, Any], resolution: tuple[int, int]) -> EfficientViTConfig:
    """The configuration as a user would write it, nothing unread set to an agreed value.

    Without blocks an attention stage is its stride-2 block, a bottleneck with few norms.
    """
    ratio = float(choices["expand_ratio"])
    without = {"attention": "mbconv_few_norms", "mbconv": "mbconv"}
    kinds: Any = [
        choices[f"kind_{s}"] if choices[f"depth_{s}"] else without[choices[f"kind_{s}"]]
        for s in STAGES
    ]
    return EfficientViTConfig(
        image_size=resolution,
        widths=tuple(choices[f"width_{s}"] for s in ("stem", *STAGES)),
        depths=tuple(choices[f"depth_{s}"] for s in ("stem", *STAGES)),
        kinds=tuple(kinds),
        expand_ratios=(ratio,) * 4,
        downsample_ratios=(ratio,) * 4,
        head_dim=choices["head_width"],
        scales=SCALES[choices["scales"]],
        head_widths=CLASSIFIERS[choices["classifier"]],
    )


def kernels_fit(choices: Mapping[str, Any], stage: int, resolution: tuple[int, int]) -> bool:
    """A pixel at one edge of the map is within reach of the kernel's centre at the other."""
    short = -(-min(resolution) // 2 ** (stage + 1))
    return all((scale - 1) / 2 <= short - 1 for scale in SCALES[choices["scales"]])


def is_valid(choices: Mapping[str, Any], resolution: tuple[int, int]) -> bool:
    widths = [choices[f"width_{s}"] for s in ("stem", *STAGES)]
    return widths == sorted(widths) and all(
        choices[f"width_{s}"] % choices["head_width"] == 0 and kernels_fit(choices, s, resolution)
        for s in STAGES
        if attends(choices, s)
    )


VALUES = reduced(SINGLE, OPTIONS, OFTEN, others=2)
RESOLUTIONS = st.sampled_from([(32, 32), (64, 64), (65, 200), (224, 224)])


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
            EfficientViTSpace(resolution, values)
        return
    space = EfficientViTSpace(resolution, values)
    assert_counted_once(space, networks)
    assert_walked(space, networks, lambda choices: naive_config(choices, resolution))


@pytest.mark.parametrize(("resolution", "fitting"), [(224, (4, 4, 4, 4)), (64, (4, 4, 4, 2))])
def test_the_full_space_is_counted_right(resolution: int, fitting: tuple[int, ...]) -> None:
    """Widths, kinds and heads listed one by one x what is independent of them.

    At 64 pixels stage 4's map is 2 x 2: of the four scales, two have no kernel of 5 x 5.
    """
    chains = Counter(
        # All that matters of widths: which head widths divide which.
        tuple(tuple(width % int(head) == 0 for head in FULL["head_width"]) for width in widths[1:])
        for widths in itertools.product(*(map(int, FULL[f"width_{s}"]) for s in ("stem", *STAGES)))
        if list(widths) == sorted(widths)
    )
    forms = 0
    for divided, count in chains.items():
        for attending in itertools.product((False, True), repeat=4):
            if not any(attending):
                forms += count
                continue
            scales = min(itertools.compress(fitting, attending))
            heads = map(all, zip(*itertools.compress(divided, attending), strict=True))
            forms += count * scales * sum(heads)
    assert [len(FULL[f"depth_{s}"]) for s in ("stem", *STAGES)] == [3, 4, 6, 8, 10]
    assert len(FULL["expand_ratio"]) == 5
    assert len(FULL["classifier"]) == 3
    assert get_space("efficientvit", resolution).size() == forms * 3 * 4 * 6 * 8 * 10 * 5 * 3


# Half of the networks attend nowhere, and each of these is made by 2 x 3 choices.
UNEVEN: dict[str, tuple[Value, ...]] = {
    **SINGLE,
    "depth_3": (1, 2),
    "kind_3": ("mbconv", "attention"),
    "head_width": (16, 32),
    "scales": ("none", "5x5", "3x3+5x5"),
}


def test_sampling_is_uniform_over_networks_not_over_choices() -> None:
    """Of each depth: one network without attention, 2 x 3 with it."""
    space = EfficientViTSpace(224, UNEVEN)
    assert space.size() == 2 * (1 + 2 * 3)
    configs = [space.unrank(number) for number in range(space.size())]
    encodings = np.array([len(list(space.encodings(config))) for config in configs])
    assert sorted(encodings) == [1] * 12 + [6] * 2
    drawn = Counter(space.sample_many(np.random.default_rng(3), 400 * len(configs)))
    assert chisquare([drawn[config] for config in configs]).pvalue > 1e-3
    # The test can tell: what uniform choices would give is rejected.
    uneven = 400 * len(configs) * encodings / encodings.sum()
    assert chisquare(uneven).pvalue < 1e-9


# --- collapse -----------------------------------------------------------------------------------


def test_head_width_and_scales_do_nothing_without_attention() -> None:
    space = get_space("efficientvit")
    params = space.encode(effvit.model_config("efficientvit_b1"))
    params |= {"kind_3": "mbconv", "kind_4": "mbconv"}
    config = space.decode(params)
    assert isinstance(config, EfficientViTConfig)
    assert (config.head_dim, config.scales) == (1, ())
    assert space.decode({**params, "head_width": 24, "scales": "none"}) == config
    assert len(list(space.encodings(config))) == 4 * 4  # head widths x scales
    attending = space.decode({**params, "kind_2": "attention"})
    assert attending != space.decode({**params, "kind_2": "attention", "scales": "none"})


def test_attention_without_blocks_still_tells_the_stride_2_block() -> None:
    """Its kind follows the stage's: biases instead of norms in an attention stage."""
    space = EfficientViTSpace(224, {**UNEVEN, "depth_3": (0,)})
    kinds = {config.to_dict()["kinds"][2] for config in map(space.unrank, range(space.size()))}
    assert space.size() == 2
    assert kinds == {"mbconv", "mbconv_few_norms"}


# --- published variants -------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [224, 288, (96, 160)])
def test_the_b_series_are_members(resolution: int | tuple[int, int]) -> None:
    space = get_space("efficientvit", resolution)
    published = space.published()
    assert tuple(published) == B_SERIES
    for name, config in published.items():
        written = effvit.model_config(name).replace(image_size=space.resolution)
        assert config == written.replace(drop_path_rate=0.0)
        assert config.variant_id == written.variant_id


def test_other_forms_of_the_paper_are_members() -> None:
    """ArXiv v2 has one scale, the poster draws two aggregations."""
    space = get_space("efficientvit")
    b1 = effvit.model_config("efficientvit_b1")
    assert space.encode(b1.replace(scales=()))["scales"] == "none"
    assert space.encode(b1.replace(scales=(3, 5)))["scales"] == "3x3+5x5"


def test_published_variants_are_no_members_where_their_kernels_do_not_fit() -> None:
    """At 64 pixels stage 4's map is 2 x 2; a 5 x 5 kernel reaches 2 pixels from its centre."""
    space = get_space("efficientvit", 64)
    assert space.published() == {}
    b1 = effvit.model_config("efficientvit_b1").replace(image_size=(64, 64))
    with pytest.raises(InvalidVariant, match="stage 4, which attends, got 5x5 on 2 x 2"):
        space.encode(b1)
    assert space.contains(b1.replace(scales=(3,)))


# --- rules --------------------------------------------------------------------------------------

BROKEN = [
    (
        224,
        {"width_1": 16, "width_stem": 24},
        (
            "width_1 must be at least width_stem, got 16 after 24 "
            "(widths never shrink from stage to stage, as positions become fewer; "
            "nearest valid: width_stem 16)"
        ),
    ),
    (  # 224 = 7 x 32 is no multiple of 24; one step down the axis is 192 = 8 x 24
        224,
        {"width_3": 224, "head_width": 24},
        (
            "width_3 of a stage that attends must be divisible by head_width, got 224 and 24 "
            "(attention splits channels evenly over heads; nearest valid: width_3 192)"
        ),
    ),
    (
        64,
        {"scales": "3x3+5x5"},
        (
            "scales must be below twice the shorter side of the map of stage 4, which attends, "
            "got 3x3+5x5 on 2 x 2 (outer weights of larger kernels would only ever meet padding; "
            "nearest valid: scales none)"
        ),
    ),
]


@pytest.mark.parametrize(("resolution", "change", "message"), BROKEN)
def test_broken_rules_say_rule_value_and_way_out(
    resolution: int, change: dict[str, Value], message: str
) -> None:
    space = get_space("efficientvit", resolution)
    config = effvit.model_config("efficientvit_b1").replace(image_size=space.resolution, scales=())
    params = {**space.encode(config), **change}
    assert message in space.violations(params)
    with pytest.raises(InvalidVariant) as caught:
        space.decode(params)
    assert message in str(caught.value)


B1: EfficientViTConfig = EfficientViTConfig()
WIDE = (4.0, 4.0, 4.0, 6.0)
FUSED = ("fused", "mbconv", "attention", "attention")
FEW_NORMS = ("mbconv", "mbconv_few_norms", "attention", "attention")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (effvit.model_config("sepvit_tiny"), "holds family efficientvit, got family sepvit"),
        (effvit.model_config("efficientvit_l1"), "all blocks share one expand_ratio"),
        (B1.replace(image_size=(256, 256)), r"image_size must be \(224, 224\)"),
        (B1.replace(num_classes=10), "num_classes must be 1000 in this space, got 10"),
        (B1.replace(stem="dense"), "stem must be 'depthwise' in this space, got 'dense'"),
        (B1.replace(activation="gelu"), "activation must be 'hardswish'"),
        (B1.replace(attention_eps=TIMM_ATTENTION_EPS), "attention_eps must be 1e-15"),
        (B1.replace(kinds=FUSED), "kind_1 must be one of mbconv, attention, got 'fused'"),
        (B1.replace(kinds=FEW_NORMS), "kind_2 must be one of .*got 'mbconv_few_norms'"),
        (B1.replace(widths=(16, 32, 64, 128, 272)), r"width_4 must be one of .*nearest valid: 256"),
        (B1.replace(widths=(32, 24, 64, 128, 256)), "at least width_stem, got 24 after 32"),
        (B1.replace(depths=(1, 1, 2, 3, 11)), r"depth_4 must be one of .*nearest valid: 10"),
        (B1.replace(head_dim=64), r"head_width must be one of .*nearest valid: 32"),
        (B1.replace(scales=(7,)), "scales must be one of none, 3x3, 5x5, .*got '7x7'"),
        (B1.replace(expand_ratios=WIDE), r"share one expand_ratio, got \[4.0, 6.0\]"),
        (B1.replace(downsample_ratios=(6.0,) * 4), r"share one expand_ratio, got \[4.0, 6.0\]"),
        (B1.replace(head_widths=(1536, 1280)), r"classifier must be one of .*got '1536\+1280'"),
    ],
)
def test_what_is_outside_says_why(config: effvit.ModelConfig, message: str) -> None:
    space = get_space("efficientvit")
    assert not space.contains(config)
    with pytest.raises(InvalidVariant, match=message):
        space.encode(config)
