"""How variants are scaled for the proxy: what every family promises, then each family's rule."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import effvit
from effvit.config import ConfigError, ModelConfig
from effvit.designs.efficientvit import EfficientViTConfig
from effvit.designs.hybrid import HybridConfig
from effvit.designs.mobilevitv2 import MobileViTv2Config
from effvit.designs.sepvit import SepViTConfig
from search.proxy.digits import CELLS, CLASSES
from search.proxy.network import ProxyNetwork
from search.proxy.scaling import (
    RULES,
    cells_meet,
    family_steps,
    proxy_config,
    scaled_heads,
    scaled_width,
)
from spaces import SPACES, get_space
from spaces.hybrid_blocks import as_hybrid

SEPVIT = [name for name in effvit.list_models() if name.startswith("sepvit")]
MOBILEVITV2 = [name for name in effvit.list_models() if name.startswith("mobilevitv2")]
EFFICIENTVIT_B = [f"efficientvit_b{number}" for number in range(4)]
SCALED = [name for name in SPACES if name in RULES]
"""Spaces whose family, of the same name, has a rule."""
OTHER_SIZES = [(256, 256), (288, 288), (384, 384), (512, 2048), (97, 61)]

TINY: SepViTConfig = SepViTConfig(
    widths=(32, 64, 128, 256), depths=(1, 2, 1, 1), heads=(1, 2, 4, 8)
)


def scaled(name: str) -> Any:  # noqa: ANN401 - of the model's family
    """A published model as the proxy trains it."""
    return proxy_config(effvit.model_config(name))


# --- what every family promises -----------------------------------------------------------------


def test_rules_are_of_families_with_a_space() -> None:
    assert {get_space(name).unrank(0).family for name in SPACES} >= set(RULES)


@pytest.mark.parametrize("name", sorted(set(SPACES) - set(SCALED)))
def test_variants_without_a_rule_are_refused(name: str) -> None:
    config = get_space(name).unrank(0)
    with pytest.raises(ConfigError, match=f"the proxy scales families .*, got family '{name}'"):
        proxy_config(config)


@pytest.mark.parametrize("name", SCALED)
def test_variants_of_every_space_become_networks_over_cells(name: str) -> None:
    for config in get_space(name).sample_many(np.random.default_rng(0), 4):
        small = proxy_config(config)
        assert small.image_size == (96, 96)
        assert (small.drop_path_rate, small.drop_rate, small.num_classes) == (0.0, 0.0, 0)
        assert effvit.model_cost(small).macs < effvit.model_cost(config).macs
        network = ProxyNetwork(small).eval()
        assert network(torch.zeros(1, 3, 96, 96)).shape == (1, CELLS, CLASSES)


@pytest.mark.parametrize("name", SCALED)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_depths_and_ratios_stay(name: str, seed: int) -> None:
    config = get_space(name).sample(np.random.default_rng(seed))
    before, after = config.to_dict(), proxy_config(config).to_dict()
    for field in (
        "depths", "attention_depths", "kinds", "attention", "scales", "stem", "activation",
        "mlp_ratio", "expand_ratio", "expand_ratios", "downsample_ratios", "ffn_ratio",
        "window_representation", "pointwise_attention", "inner_shortcuts", "sub_sampling",
    ):  # fmt: skip
        assert after.get(field) == before.get(field)


@pytest.mark.parametrize("names", [SEPVIT, MOBILEVITV2, EFFICIENTVIT_B])
def test_published_variants_keep_their_order(names: list[str]) -> None:
    small = [scaled(name) for name in names]
    assert len({config.variant_id for config in small}) == len(names)
    costs = [effvit.model_cost(config).macs for config in small]
    assert costs == sorted(costs)
    for one, other in itertools.pairwise(small):
        assert all(a <= b for a, b in zip(one.widths, other.widths, strict=True))


@given(
    width=st.integers(1, 4096),
    step=st.integers(0, 512),
    multiple=st.sampled_from([1, 2, 3, 8, 16]),
)
def test_wider_is_never_scaled_narrower(width: int, step: int, multiple: int) -> None:
    narrow, wide = (
        scaled_width(each, 64, 32, 0.6, multiple=multiple) for each in (width, width + step)
    )
    assert narrow <= wide
    assert narrow % multiple == 0
    assert scaled_width(64, 64, 32, 0.6) == 32
    assert scaled_width(8 * 64, 64, 32, 1 / 3) == 2 * 32


@given(heads=st.integers(1, 64), quarter=st.integers(2, 64))
def test_heads_divide_their_width_and_stay_even(heads: int, quarter: int) -> None:
    width = 4 * quarter
    small = scaled_heads(heads, width)
    assert width % small == 0
    assert width // small >= 4
    assert heads % 2 == 1 or small % 2 == 0
    assert scaled_heads(small, width) == small


@pytest.mark.parametrize("image_size", OTHER_SIZES)
@pytest.mark.parametrize("name", ["sepvit_lite", "mobilevitv2_050", "efficientvit_b0"])
def test_other_design_resolutions_have_a_rule(name: str, image_size: tuple[int, int]) -> None:
    small = proxy_config(effvit.model_config(name).replace(image_size=image_size))
    assert small.image_size == (96, 96)
    maps = ProxyNetwork(small).eval()(torch.zeros(1, 3, 96, 96))
    assert maps.shape == (1, CELLS, CLASSES)


def test_another_family_is_refused_by_name() -> None:
    class Other(ModelConfig):
        family = "other"

    for asked in (proxy_config, cells_meet):
        with pytest.raises(ConfigError, match=r"scales families sepvit, .*got family 'other'"):
            asked(Other())


# --- SepViT -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEPVIT)
def test_published_sepvits_keep_their_window_counts_exactly(name: str) -> None:
    original, small = effvit.model_config(name), scaled(name)
    assert isinstance(original, SepViTConfig)
    assert [set(small.block_windows(stage)) for stage in range(4)] == [{3}, {3, 6}, {3, 6}, {3}]
    for before, after in zip(original.plan(), small.plan(), strict=True):
        assert [block.grid for block in after.blocks] == [block.grid for block in before.blocks]


@pytest.mark.parametrize(
    ("name", "widths", "heads"),
    [
        ("sepvit_lite", (12, 24, 48, 96), (1, 2, 4, 8)),
        ("sepvit_tiny", (24, 48, 96, 192), (3, 6, 12, 24)),
        ("sepvit_base", (28, 56, 112, 224), (4, 8, 16, 32)),
    ],
)
def test_widths_follow_the_power_law_and_heads_divide_them(
    name: str, widths: tuple[int, ...], heads: tuple[int, ...]
) -> None:
    """12 channels of 32, times 3 ^ 0.6 = 1.93 or 4 ^ 0.6 = 2.30, in fours; twice that a stage."""
    assert scaled(name).widths == widths
    assert scaled(name).heads == heads


def test_families_that_find_the_relation_late_train_longer() -> None:
    assert family_steps("sepvit", 120) == 120
    assert family_steps("mobilevitv2", 120) == 360
    assert family_steps("mobilevitv2", 500) == 500


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_blocks_mix_windows_as_before(seed: int) -> None:
    original = get_space("sepvit").sample(np.random.default_rng(seed))
    assert isinstance(original, SepViTConfig)
    small = proxy_config(original)
    assert isinstance(small, SepViTConfig)
    for before, after in zip(original.plan(), small.plan(), strict=True):
        for one, other in zip(before.blocks, after.blocks, strict=True):
            assert (one.grid == (1, 1)) == (other.grid == (1, 1))
            assert one.representation == other.representation


def test_window_counts_follow_the_map_at_384() -> None:
    # Stage 1 at 384: 96 / 8 = 12 windows across, and on the canvas 24 / 2 = 12 of side 2.
    config = TINY.replace(image_size=(384, 384), windows=((8,), (7, 14), (7, 14), (7,)))
    small = proxy_config(config)
    assert isinstance(small, SepViTConfig)
    assert small.plan()[0].blocks[0].grid == (12, 12)


def test_which_sepvits_relate_distant_cells() -> None:
    lite = scaled("sepvit_lite")
    none = {"window_representation": "none", "pointwise_attention": "off"}
    assert cells_meet(lite)
    assert cells_meet(lite.replace(**none))  # GSA over all of stage 3
    assert not cells_meet(lite.replace(**none, windows=((3,), (3,), (3,), (3,))))


# --- hybrids ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEPVIT)
def test_a_sepvit_is_scaled_alike_as_a_hybrid(name: str) -> None:
    config = effvit.model_config(name)
    assert isinstance(config, SepViTConfig)
    one, other = effvit.model_cost(scaled(name)), effvit.model_cost(proxy_config(as_hybrid(config)))
    assert (one.params, one.macs) == (other.params, other.macs)


def hybrid(*attention: str) -> HybridConfig:
    """A small hybrid with one attention type in each stage."""
    return HybridConfig(
        widths=(32, 64, 128, 256),
        depths=(2, 2, 2, 2),
        heads=(2, 2, 4, 8),
        attention=tuple((name,) for name in attention),
        linformer_lengths=(49, 49, 49, 49),
    )


def test_what_other_attention_types_read_keeps_its_relation_to_the_map() -> None:
    """At 224 pixels: stripes 56, 14, 2 and 1; 7 x 7 keys in every stage, of Twins and Linformer."""
    small = proxy_config(hybrid("cross_window", "twins", "linformer", "full"))
    assert isinstance(small, HybridConfig)
    # Stage 1 has 24 pixels for 56 stripes; 12 stripes of 1 are nearest to 14; 2 of 3; 1 of 3.
    assert small.stripes == (1, 1, 3, 3)
    maps = (24, 12, 6, 3)
    keys = [side // stride for side, stride in zip(maps, small.sub_sampling, strict=True)]
    assert keys == [3, 3, 3, 3]
    assert small.linformer_lengths == (9, 9, 9, 9)


@pytest.mark.parametrize(
    ("group", "before", "after"),
    [(2, 28, 12), (3, 28, 12), (4, 28, 12), (2, 56, 24), (4, 56, 24)],
)
def test_groups_of_windows_keep_their_number(group: int, before: int, after: int) -> None:
    """A GSA block has as many windows as before as closely as whole groups allow; one stays one."""
    stage = {56: 0, 28: 1}[before]
    config = hybrid("gsa", "gsa", "dssa", "dssa").replace(groups=(group,) * 4)
    small = proxy_config(config)
    assert isinstance(small, HybridConfig)
    sides = [c.windows[stage] * c.groups[stage] for c in (config, small)]
    counts = [-(-size // min(s, size)) for size, s in zip((before, after), sides, strict=True)]
    assert (counts[0] == 1) == (counts[1] == 1)
    assert abs(counts[0] - counts[1]) <= 1


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        (("window", "shifted_window", "convolution", "full"), False),
        (("window", "cross_window", "convolution", "full"), True),  # two crosses in stage 2
        (("twins", "convolution", "convolution", "convolution"), True),
        *(
            (("convolution", "convolution", name, "convolution"), True)
            for name in ("separable", "relu_linear", "multi_scale_relu_linear", "linformer", "full")
        ),
        (("dssa", "convolution", "convolution", "convolution"), True),
    ],
)
def test_which_hybrids_relate_distant_cells(attention: tuple[str, ...], expected: bool) -> None:
    assert cells_meet(proxy_config(hybrid(*attention))) is expected


def test_one_cross_relates_rows_and_columns_only() -> None:
    config = hybrid("convolution", "convolution", "cross_window", "full")
    assert cells_meet(proxy_config(config))
    assert not cells_meet(proxy_config(config.replace(depths=(2, 2, 1, 2))))


# --- MobileViTv2 --------------------------------------------------------------------------------

MOBILE: MobileViTv2Config = MobileViTv2Config()  # MobileViTv2-1.0


def test_published_patches_stay_and_no_map_is_resized() -> None:
    small = scaled("mobilevitv2_100")
    assert small.widths == (8, 16, 32, 64, 96, 128)
    assert small.attention_widths == (32, 48, 64)
    assert small.patch_sizes == (2, 2, 1)  # of maps of 12, 6 and 3
    maps = ProxyNetwork(small).eval().body.forward_stages(torch.zeros(1, 3, 96, 96))
    assert [tuple(x.shape[2:]) for x in maps] == [(side, side) for side in (48, 24, 12, 6, 3)]


@pytest.mark.parametrize(
    ("image", "patches", "expected"),
    [
        (224, (1, 1, 1), (1, 1, 1)),
        (224, (4, 4, 4), (4, 3, 1)),
        (256, (2, 4, 2), (2, 3, 1)),
        (64, (2, 4, 2), (2, 6, 3)),  # single patches, on maps of 4 and 2, stay single
    ],
)
def test_patches_keep_their_side_as_far_as_the_map_allows(
    image: int, patches: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    config = MOBILE.replace(image_size=(image, image), patch_sizes=patches)
    small = proxy_config(config)
    assert isinstance(small, MobileViTv2Config)
    assert small.patch_sizes == expected


def test_which_mobilevitv2s_relate_distant_cells() -> None:
    small = proxy_config(MOBILE)
    assert isinstance(small, MobileViTv2Config)
    assert cells_meet(small)
    assert not cells_meet(small.replace(patch_sizes=(12, 6, 1)))


# --- EfficientViT -------------------------------------------------------------------------------


def test_b1_is_halved_with_as_many_heads() -> None:
    b1, small = effvit.model_config("efficientvit_b1"), scaled("efficientvit_b1")
    assert isinstance(b1, EfficientViTConfig)
    assert small.widths == (8, 16, 32, 64, 128)
    for stage in (3, 4):
        assert small.widths[stage] // small.head_dim == b1.widths[stage] // b1.head_dim


def test_the_l_series_has_a_rule_too() -> None:
    small = [scaled(f"efficientvit_l{number}") for number in (1, 2, 3)]
    assert all(config.kinds[0] == "fused" for config in small)
    costs = [effvit.model_cost(config).macs for config in small]
    assert costs == sorted(costs)


def test_which_efficientvits_relate_distant_cells() -> None:
    small = scaled("efficientvit_b1")
    assert cells_meet(small)
    assert not cells_meet(small.replace(depths=(1, 1, 2, 0, 4)))
    last_only = ("mbconv", "mbconv", "mbconv", "attention")
    assert not cells_meet(small.replace(kinds=last_only))
