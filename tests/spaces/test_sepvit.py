"""SepViT's space against plain enumeration that shares no code with it."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import effvit
from effvit import ConfigError
from effvit.designs.sepvit import SepViTConfig
from spaces import InvalidVariant, get_space
from spaces.axes import Axis, Value
from spaces.sepvit import SepViTSpace

Values = Mapping[str, tuple[Value, ...]]

# One value for each axis, valid together at every resolution used here.
SINGLE: dict[str, tuple[Value, ...]] = {
    "width_1": (32,), "width_2": (64,), "width_3": (128,), "width_4": (256,),
    "depth_1": (1,), "depth_2": (2,), "depth_3": (2,), "depth_4": (1,),
    "window_size": (8,), "group_count": (2,),
    "attention_1": ("dssa",), "attention_2": ("alternate",),
    "attention_3": ("alternate",), "attention_4": ("dssa",),
    "window_representation": ("learned",), "mlp_ratio": (2,), "head_width": (16,),
}  # fmt: skip

FULL = {axis.name: axis for axis in SepViTSpace.AXES}
SHARED = ("window_size", "group_count")
STAGEWISE = (*(f"attention_{s}" for s in (1, 2, 3, 4)), "depth_2", "depth_3", "depth_4")
TABLE_1 = ("sepvit_lite", "sepvit_tiny", "sepvit_small", "sepvit_base")


# --- plain enumeration --------------------------------------------------------------------------


def maps(resolution: tuple[int, int]) -> list[tuple[int, int]]:
    return [(-(-resolution[0] // s), -(-resolution[1] // s)) for s in (4, 8, 16, 32)]


def naive_config(choices: Mapping[str, Any], resolution: tuple[int, int]) -> SepViTConfig:
    """The configuration as a user would write it: patterns, nothing cut or collapsed."""
    size = choices["window_size"]
    patterns = {
        "dssa": (size,),
        "alternate": (size, size * choices["group_count"]),
        "gsa": (size * choices["group_count"],),
    }
    stages = (1, 2, 3, 4)
    return SepViTConfig(
        image_size=resolution,
        widths=tuple(choices[f"width_{s}"] for s in stages),
        depths=tuple(choices[f"depth_{s}"] for s in stages),
        heads=tuple(choices[f"width_{s}"] // choices["head_width"] for s in stages),
        windows=tuple(patterns[choices[f"attention_{s}"]] for s in stages),
        mlp_ratio=float(choices["mlp_ratio"]),
        window_representation=choices["window_representation"],
    )


def pads_little(config: SepViTConfig) -> bool:
    """No block's windows add more than half a map: padded / map <= 3 / 2."""
    for stage, (height, width) in enumerate(maps(config.image_size)):
        for side in config.block_windows(stage):
            down, across = min(side, height), min(side, width)
            padded = -(-height // down) * down * -(-width // across) * across
            if 2 * padded > 3 * height * width:
                return False
    return True


def is_valid(choices: Mapping[str, Any], resolution: tuple[int, int]) -> bool:
    widths = [choices[f"width_{s}"] for s in (1, 2, 3, 4)]
    if widths != sorted(widths) or any(width % choices["head_width"] for width in widths):
        return False
    return pads_little(naive_config(choices, resolution))


def all_choices(values: Values) -> Iterator[dict[str, Value]]:
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def enumerate_networks(
    values: Values, resolution: tuple[int, int]
) -> dict[str, list[dict[str, Value]]]:
    """Every network's valid choices, by its variant_id."""
    found: dict[str, list[dict[str, Value]]] = {}
    for choices in all_choices(values):
        if is_valid(choices, resolution):
            identity = naive_config(choices, resolution).variant_id
            found.setdefault(identity, []).append(choices)
    return found


@st.composite
def reduced(draw: st.DrawFn, widened: int) -> dict[str, tuple[Value, ...]]:
    """Values for all axes: one each, but two or three for some.

    These are window size and group count, whose combinations overlap, ``widened`` of the stages'
    depths and attentions, and up to two of all axes.
    """
    values = dict(SINGLE)
    stagewise = draw(st.permutations(STAGEWISE))[:widened]
    others = draw(st.lists(st.sampled_from(list(SINGLE)), max_size=2, unique=True))
    for name in dict.fromkeys((*SHARED, *stagewise, *others)):
        options = FULL[name].values
        some = draw(st.sets(st.sampled_from(options), min_size=2, max_size=3))
        values[name] = tuple(value for value in options if value in some)
    return values


RESOLUTIONS = st.sampled_from([(32, 32), (64, 64), (160, 160), (224, 224), (227, 227), (64, 320)])


# --- size, numbers, walks -----------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(values=reduced(widened=4), resolution=RESOLUTIONS)
def test_every_network_is_counted_once(values: Values, resolution: tuple[int, int]) -> None:
    expected = enumerate_networks(values, resolution)
    if not expected:
        with pytest.raises(ConfigError, match="no valid network"):
            SepViTSpace(resolution, values)
        return
    space = SepViTSpace(resolution, values)
    assert space.size() == len(expected)
    configs = [space.unrank(number) for number in range(space.size())]
    assert {config.variant_id for config in configs} == set(expected)
    assert all(config == config.canonical() for config in configs)


@settings(max_examples=25, deadline=None)
@given(values=reduced(widened=2), resolution=RESOLUTIONS)
def test_encodings_and_neighbours_are_all_there_is(
    values: Values, resolution: tuple[int, int]
) -> None:
    networks = enumerate_networks(values, resolution)
    axes = {name: Axis(name, entries, "") for name, entries in values.items()}
    owner = {
        tuple(choices.values()): identity
        for identity, encodings in networks.items()
        for choices in encodings
    }
    if not networks:
        return
    space = SepViTSpace(resolution, values)
    for identity, encodings in list(networks.items())[:20]:
        config = naive_config(encodings[0], resolution)
        ordered = [{axis.name: c[axis.name] for axis in space.axes} for c in encodings]
        assert sorted(map(str, ordered)) == sorted(
            str({axis.name: c[axis.name] for axis in space.axes}) for c in space.encodings(config)
        )
        reached = {
            owner.get(tuple({**choices, name: value}.values()))
            for choices in encodings
            for name, axis in axes.items()
            for value in axis.beside(choices[name])
        } - {identity, None}
        assert {other.variant_id for other in space.neighbours(config)} == reached


@pytest.mark.parametrize("resolution", [(224, 224), (128, 320)])
def test_the_full_space_is_counted_right(resolution: tuple[int, int]) -> None:
    """Shapes x MLP ratios x the windows' structures, listed one by one, x what represents them."""
    shapes = sum(
        1
        for head in FULL["head_width"].values
        for widths in itertools.product(*(FULL[f"width_{s}"].values for s in (1, 2, 3, 4)))
        if list(widths) == sorted(widths) and all(int(w) % int(head) == 0 for w in widths)
    )
    structures = set()
    windows, groups = FULL["window_size"].values, FULL["group_count"].values
    for size, count in itertools.product(map(int, windows), map(int, groups)):
        stages = []
        for stage, shape in enumerate(maps(resolution), start=1):
            fits = {side: fits_map(side, shape) for side in (size, size * count)}
            patterns = ((size,), (size, size * count), (size * count,))
            stages.append({
                tuple(min(side, max(shape)) for side in blocks)
                for pattern in patterns
                for depth in map(int, FULL[f"depth_{stage}"].values)
                for blocks in [tuple(pattern[i % len(pattern)] for i in range(depth))]
                if all(fits[side] for side in blocks)
            })  # fmt: skip
        structures |= set(itertools.product(*stages))
    sides = [max(shape) for shape in maps(resolution)]
    single = sum(
        all(block >= side for blocks, side in zip(stages, sides, strict=True) for block in blocks)
        for stages in structures
    )
    assert len(FULL["window_representation"].values) == 5
    expected = shapes * 3 * (5 * (len(structures) - single) + single)
    assert get_space("sepvit", resolution).size() == expected


def fits_map(side: int, shape: tuple[int, int]) -> bool:
    down, across = min(side, shape[0]), min(side, shape[1])
    padded = -(-shape[0] // down) * down * -(-shape[1] // across) * across
    return 2 * padded <= 3 * shape[0] * shape[1]


# --- uniformity ---------------------------------------------------------------------------------

# Many choices make the same network here: stage 4 is one window, group counts often unread.
UNEVEN: dict[str, tuple[Value, ...]] = {
    **SINGLE,
    "window_size": (7, 14),
    "group_count": (2, 4),
    "attention_2": ("dssa", "alternate"),
    "attention_3": ("dssa", "alternate", "gsa"),
    "attention_4": ("dssa", "alternate", "gsa"),
    "head_width": (16, 32),
}


def test_sampling_is_uniform_over_networks_not_over_choices() -> None:
    space = SepViTSpace(224, UNEVEN)
    rng = np.random.default_rng(3)
    networks = enumerate_networks(UNEVEN, (224, 224))
    assert 2 * len(networks) < sum(map(len, networks.values()))
    drawn = Counter(config.variant_id for config in space.sample_many(rng, 400 * len(networks)))
    assert set(drawn) == set(networks)
    assert chisquare([drawn[identity] for identity in networks]).pvalue > 1e-3
    # The test can tell: what uniform choices would give is rejected.
    uneven = np.array([len(encodings) for encodings in networks.values()])
    assert chisquare(400 * len(networks) * uneven / uneven.sum()).pvalue < 1e-9


# --- collapse -----------------------------------------------------------------------------------


def test_choices_without_effect_make_one_network() -> None:
    """At 224 pixels stage 4's map is 7 x 7: windows of 7 and groups of them are the whole map."""
    space = get_space("sepvit")
    params = space.encode(effvit.model_config("sepvit_tiny"))
    same = [
        {**params, "attention_4": "gsa"},
        {**params, "attention_4": "alternate"},
        {**params, "attention_1": "alternate"},  # its single block is DSSA anyway
    ]
    assert {space.decode(other) for other in same} == {space.decode(params)}
    assert space.decode({**params, "attention_1": "gsa"}) != space.decode(params)


def test_a_representation_that_no_block_reads_is_none() -> None:
    space = SepViTSpace(32, {**SINGLE, "window_representation": ("learned", "zero")})
    assert space.size() == 1
    assert space.unrank(0).variant_id == space.decode(space.encode(space.unrank(0))).variant_id
    config = space.unrank(0)
    assert isinstance(config, SepViTConfig)
    assert (config.window_representation, config.pointwise_attention) == ("none", "off")


@pytest.mark.parametrize("resolution", [224, 384, (512, 2048)])
def test_published_variants_are_members_where_their_windows_fit(
    resolution: int | tuple[int, int],
) -> None:
    space = get_space("sepvit", resolution)
    published = space.published()
    assert tuple(published) == TABLE_1
    for name, config in published.items():
        written = effvit.model_config(name).replace(image_size=space.resolution)
        assert config.variant_id == written.variant_id
        assert config.drop_path_rate == 0.0


def test_published_variants_are_no_members_where_they_pad_too_much() -> None:
    """At 256 pixels GSA's 14 pads stage 2's 32 x 32 to 42 x 42: 42^2 / 32^2 - 1 = 72.3 %."""
    space = get_space("sepvit", 256)
    assert space.published() == {}
    with pytest.raises(InvalidVariant, match=r"stage 2's windows .* pad no more than it allows"):
        space.encode(effvit.model_config("sepvit_tiny").replace(image_size=(256, 256)))


# --- rules --------------------------------------------------------------------------------------

BROKEN = [
    (
        {"width_2": 64},
        (
            "width_2 must be at least width_1, got 64 after 96 "
            "(widths never shrink from stage to stage, as positions become fewer; "
            "nearest valid: width_1 64)"
        ),
    ),
    (
        {"head_width_index": 3},
        (
            "width_1 must be divisible by head_width, got 96 and 64 "
            "(attention splits channels evenly over heads; nearest valid: width_1 64)"
        ),
    ),
    (  # GSA over 3 x 7 = 21 pixels on a map of 28: padded to 42 x 42, 42^2 / 28^2 - 1 = 1.25
        {"group_count": 3},
        (
            "stage 2's windows may add at most 50.0% positions to its map, "
            "got 125.0% from windows of 21 on 28 x 28 (padded to 42 x 42) "
            "(padded positions cost what real ones cost and are thrown away; "
            "nearest valid: group_count 2)"
        ),
    ),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_rules_say_rule_value_and_way_out(change: dict[str, Value], message: str) -> None:
    space = get_space("sepvit")
    params = {**space.encode(effvit.model_config("sepvit_tiny")), **change}
    assert message in space.violations(params)
    with pytest.raises(InvalidVariant) as caught:
        space.decode(params)
    assert message in str(caught.value)


def test_a_rule_that_nothing_keeps_says_so() -> None:
    """Width 32 splits into heads of 16, not of 24; this space has only the latter for stage 1."""
    space = SepViTSpace(224, {**SINGLE, "width_2": (64, 128), "width_3": (96, 128)})
    params = {axis.parameter: axis.write(axis.values[-1]) for axis in space.axes}
    assert space.violations(params) == []
    params["width_3"] = 96
    assert len(space.violations(params)) == 1
    with pytest.raises(ConfigError, match="no valid network at 224 x 224 pixels"):
        SepViTSpace(224, {**SINGLE, "head_width": (24,)})


TINY: SepViTConfig = SepViTConfig()  # SepViT-T


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TINY.replace(image_size=(256, 256)), r"image_size must be \(224, 224\)"),
        (TINY.replace(num_classes=10), "num_classes must be 1000 in this space, got 10"),
        (TINY.replace(inner_shortcuts=False), "inner_shortcuts must be True"),
        (TINY.replace(widths=(48, 192, 384, 768), heads=(2, 8, 16, 32)), "width_1 must be one of"),
        (TINY.replace(depths=(1, 2, 5, 2)), r"depth_3 must be one of .*nearest valid: 4"),
        (TINY.replace(heads=(3, 6, 12, 12)), r"share one head_width, got \[32, 64\]"),
        (TINY.replace(mlp_ratio=2.5), "mlp_ratio must be one of 2, 3, 4, got 2.5"),
        (TINY.replace(widths=(96, 64, 384, 768), heads=(3, 2, 12, 24)), "at least width_1, got 64"),
        (TINY.replace(windows=((6,), (7, 14), (7, 14), (7,))), r"stage 1's windows .* \(7,\)"),
        (TINY.replace(windows=((7,), (8, 16), (7, 14), (7,))), "share one window_size"),
        (TINY.replace(pointwise_attention="always"), "pointwise_attention must be multi_window"),
    ],
)
def test_what_is_outside_says_why(config: SepViTConfig, message: str) -> None:
    space = get_space("sepvit")
    assert not space.contains(config)
    with pytest.raises(InvalidVariant, match=message):
        space.encode(config)


def test_a_narrowed_space_contains_no_other_representation() -> None:
    space = SepViTSpace(224, {"window_representation": ("learned", "average")})
    assert space.contains(TINY)
    assert not space.contains(TINY.replace(window_representation="zero"))
    assert not space.contains(TINY.replace(window_representation="none"))
