"""MobileViTv2's space against plain enumeration that shares no code with it."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import effvit
from effvit import ConfigError
from effvit.designs.mobilevitv2 import (
    MobileViTv2Config,
    scaled_attention_widths,
    scaled_widths,
)
from spaces import InvalidVariant, get_space
from spaces.axes import Value
from spaces.mobilevitv2 import MULTIPLIERS, MobileViTv2Space, token_widths
from tests.spaces.enumeration import (
    Values,
    assert_counted_once,
    assert_walked,
    enumerate_networks,
    reduced,
)

# One value for each axis, valid together at every resolution used here.
SINGLE: dict[str, tuple[Value, ...]] = {
    "width_stem": (16,), "width_1": (32,), "width_2": (64,),
    "width_3": (128,), "width_4": (192,), "width_5": (256,),
    "attention_depth_3": (1,), "attention_depth_4": (2,), "attention_depth_5": (1,),
    "patch_size_3": (1,), "patch_size_4": (1,), "patch_size_5": (1,),
    "expand_ratio": (2,), "ffn_ratio": (2,),
}  # fmt: skip

FULL = {axis.name: axis.values for axis in MobileViTv2Space.AXES}
# Neighbouring stages overlap, and patches are not powers of two either.
OPTIONS: dict[str, tuple[Value, ...]] = {
    **FULL,
    **{f"width_{s}": (16, 32, 48, 64, 96, 128) for s in ("stem", 1, 2)},
    **{f"width_{s}": (96, 128, 192, 256, 384) for s in (3, 4, 5)},
    **{f"patch_size_{s}": (1, 2, 3, 4, 7) for s in (3, 4, 5)},
}
OFTEN = ("width_stem", "width_1", "width_4", "patch_size_3", "patch_size_4", "patch_size_5")
STAGES = ("stem", 1, 2, 3, 4, 5)
PUBLISHED = tuple(f"mobilevitv2_{percent:03d}" for percent in (50, 75, 100, 125, 150, 175, 200))


# --- plain enumeration --------------------------------------------------------------------------


def naive_config(choices: Mapping[str, Any], resolution: tuple[int, int]) -> MobileViTv2Config:
    return MobileViTv2Config(
        image_size=resolution,
        widths=tuple(choices[f"width_{s}"] for s in STAGES),
        attention_widths=tuple(choices[f"width_{s}"] // 2 for s in (3, 4, 5)),
        attention_depths=tuple(choices[f"attention_depth_{s}"] for s in (3, 4, 5)),
        patch_sizes=tuple(choices[f"patch_size_{s}"] for s in (3, 4, 5)),
        expand_ratio=float(choices["expand_ratio"]),
        ffn_ratio=float(choices["ffn_ratio"]),
    )


def patches_fit(patches: tuple[int, ...], resolution: tuple[int, int]) -> bool:
    """Side by side, from the image on: halved three times, then patched and halved in turn."""
    for side in resolution:
        for _ in range(3):
            side = (side + 1) // 2  # noqa: PLW2901 - the next map's
        for patch in patches:
            if patch > side:
                return False
            side += -side % patch  # noqa: PLW2901 - resized
            side = (side + 1) // 2  # noqa: PLW2901 - the next map's
    return True


def is_valid(choices: Mapping[str, Any], resolution: tuple[int, int]) -> bool:
    widths = [choices[f"width_{s}"] for s in STAGES]
    patches = tuple(choices[f"patch_size_{s}"] for s in (3, 4, 5))
    return widths == sorted(widths) and patches_fit(patches, resolution)


VALUES = reduced(SINGLE, OPTIONS, OFTEN, others=2)
RESOLUTIONS = st.sampled_from([(32, 32), (64, 64), (97, 160), (224, 224), (256, 256), (320, 72)])


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
            MobileViTv2Space(resolution, values)
        return
    assert all(len(encodings) == 1 for encodings in networks.values())
    space = MobileViTv2Space(resolution, values)
    assert_counted_once(space, networks)
    assert_walked(space, networks, lambda choices: naive_config(choices, resolution))


@pytest.mark.parametrize("resolution", [(256, 256), (224, 224), (64, 64), (97, 160)])
def test_the_full_space_is_counted_right(resolution: tuple[int, int]) -> None:
    """Width chains listed one by one x valid patches x depths x ratios."""
    chains = sum(
        list(widths) == sorted(widths)
        for widths in itertools.product(*(FULL[f"width_{s}"] for s in STAGES))
    )
    patches = sum(
        patches_fit(patches, resolution) for patches in itertools.product((1, 2, 4), repeat=3)
    )
    assert [len(FULL[f"attention_depth_{s}"]) for s in (3, 4, 5)] == [4, 6, 5]
    assert len(FULL["expand_ratio"]) == len(FULL["ffn_ratio"]) == 4
    assert get_space("mobilevitv2", resolution).size() == chains * patches * 4 * 6 * 5 * 4 * 4


# --- published variants -------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [256, 384, 224, (64, 96)])
def test_the_seven_published_widths_are_members(resolution: int | tuple[int, int]) -> None:
    """At 256 as released; elsewhere with that design resolution."""
    space = get_space("mobilevitv2", resolution)
    published = space.published()
    assert tuple(published) == PUBLISHED
    for name, config in published.items():
        written = effvit.model_config(name)
        assert config == written.replace(image_size=space.resolution)
        assert (config == written) == (resolution == 256)


def test_published_variants_are_no_members_where_their_patch_does_not_fit() -> None:
    """At 32 pixels the last map is 1 x 1, which holds no patch of 2 x 2."""
    space = get_space("mobilevitv2", 32)
    assert space.published() == {}
    with pytest.raises(InvalidVariant, match=r"patch_size_5 .* got 2 on 1 x 1"):
        space.encode(effvit.model_config("mobilevitv2_100").replace(image_size=(32, 32)))


def test_axes_hold_what_the_published_multipliers_give() -> None:
    percents = [round(100 * multiplier) for multiplier in MULTIPLIERS]
    assert tuple(f"mobilevitv2_{percent:03d}" for percent in percents) == PUBLISHED
    for place, multiplier in enumerate(MULTIPLIERS):
        widths = scaled_widths(multiplier)
        assert widths == tuple(FULL[f"width_{s}"][place] for s in STAGES)
        assert token_widths(widths) == scaled_attention_widths(multiplier)


def test_a_stage_can_have_a_multiplier_of_its_own() -> None:
    """Stages 1 to 3 as in 0.5, stages 4 and 5 as in 1.0; tokens follow their stage."""
    space = get_space("mobilevitv2", 256)
    small, large = (space.encode(effvit.model_config(f"mobilevitv2_{n}")) for n in ("050", "100"))
    mixed = space.decode({**small, **{f"width_{s}": large[f"width_{s}"] for s in (4, 5)}})
    assert isinstance(mixed, MobileViTv2Config)
    assert mixed.widths == (16, 32, 64, 128, 384, 512)
    assert mixed.attention_widths == (64, 192, 256)


# --- rules --------------------------------------------------------------------------------------

WIDTH_RULE = "widths never shrink from stage to stage, as positions become fewer"
PATCH_RULE = "a map smaller than a patch would be stretched to the patch's size"

BROKEN = [
    (
        256,
        {"width_stem": 64, "width_1": 32},
        (
            f"width_1 must be at least width_stem, got 32 after 64 ({WIDTH_RULE}; "
            "nearest valid: width_1 64)"
        ),
    ),
    (  # 97 / 32 rounded up is 4 and fits a patch of 4, 64 / 32 is 2 and does not
        (97, 64),
        {"patch_size_5_index": 2},
        (
            "patch_size_5 must be at most the shorter side of its stage's map, got 4 on 4 x 2 "
            f"({PATCH_RULE}; nearest valid: patch_size_5 2)"
        ),
    ),
]


@pytest.mark.parametrize(("resolution", "change", "message"), BROKEN)
def test_broken_rules_say_rule_value_and_way_out(
    resolution: int | tuple[int, int], change: dict[str, Value], message: str
) -> None:
    space = get_space("mobilevitv2", resolution)
    config = effvit.model_config("mobilevitv2_050").replace(image_size=space.resolution)
    params = {**space.encode(config), **change}
    assert message in space.violations(params)
    with pytest.raises(InvalidVariant) as caught:
        space.decode(params)
    assert message in str(caught.value)


def test_a_resized_map_stays_large_enough_for_later_patches() -> None:
    """72 pixels: maps of 9, 5, 3. Patches of 4 resize 9 to 12, whose halves 6 and, of 8, 4."""
    space = get_space("mobilevitv2", 72)
    config = effvit.model_config("mobilevitv2_050").replace(image_size=(72, 72))
    assert space.contains(config.replace(patch_sizes=(1, 1, 2)))
    assert not space.contains(config.replace(patch_sizes=(1, 1, 4)))
    assert space.contains(config.replace(patch_sizes=(4, 4, 4)))


ONE: MobileViTv2Config = MobileViTv2Config()  # MobileViTv2-1.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (effvit.model_config("sepvit_tiny"), "holds family mobilevitv2, got family sepvit"),
        (ONE.replace(image_size=(224, 224)), r"image_size must be \(256, 256\)"),
        (ONE.replace(num_classes=10), "num_classes must be 1000 in this space, got 10"),
        (ONE.replace(depths=(1, 1, 1, 1, 1)), r"depths must be \(1, 2, 1, 1, 1\)"),
        (ONE.replace(widths=(32, 64, 128, 256, 384, 520)), r"width_5 .*nearest valid: 512"),
        (ONE.replace(widths=(32, 64, 128, 512, 384, 512)), "at least width_3, got 384 after 512"),
        (ONE.replace(attention_widths=(128, 192, 192)), r"nearest valid: \(128, 192, 256\)"),
        (ONE.replace(attention_depths=(2, 9, 3)), r"attention_depth_4 .*nearest valid: 6"),
        (ONE.replace(patch_sizes=(2, 2, 3)), r"patch_size_5 must be one of 1, 2, 4, got 3"),
        (ONE.replace(expand_ratio=2.5), r"expand_ratio must be one of 1, 2, 3, 4, got 2.5"),
        (ONE.replace(ffn_ratio=5.0), "ffn_ratio must be one of 1, 2, 3, 4, got 5.0"),
    ],
)
def test_what_is_outside_says_why(config: effvit.ModelConfig, message: str) -> None:
    space = get_space("mobilevitv2", 256)
    assert not space.contains(config)
    with pytest.raises(InvalidVariant, match=message):
        space.encode(config)
