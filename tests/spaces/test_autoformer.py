"""AutoFormer's space against plain enumeration that shares no code with it."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings

import effvit
from effvit.designs.autoformer import AutoFormerConfig
from spaces import InvalidVariant, get_space
from spaces.autoformer import AutoFormerSpace
from spaces.axes import Value
from tests.spaces.enumeration import (
    Values,
    assert_counted_once,
    assert_walked,
    enumerate_networks,
    reduced,
)

LAYERS = range(1, 15)
FULL = {axis.name: axis.values for axis in AutoFormerSpace.AXES}
SINGLE: dict[str, tuple[Value, ...]] = {name: values[:1] for name, values in FULL.items()}
OFTEN = ("depth", "heads_12", "heads_13", "heads_14", "twice_mlp_ratio_13", "twice_mlp_ratio_14")
RESOLUTION = (64, 96)


def naive_config(choices: Mapping[str, Any]) -> AutoFormerConfig:
    layers = list(LAYERS)[: choices["depth"]]
    return AutoFormerConfig(
        image_size=RESOLUTION,
        width=choices["width"],
        heads=tuple(choices[f"heads_{n}"] for n in layers),
        mlp_ratios=tuple(choices[f"twice_mlp_ratio_{n}"] / 2 for n in layers),
    )


@settings(max_examples=30, deadline=None)
@given(values=reduced(SINGLE, FULL, OFTEN, others=1))
def test_the_space_is_what_enumeration_finds(values: Values) -> None:
    """Choices of layers behind the last one are one network."""
    networks = enumerate_networks(values, lambda _: True, naive_config)
    space = AutoFormerSpace(RESOLUTION, values)
    assert_counted_once(space, networks)
    assert_walked(space, networks, naive_config, count=8)


def test_the_full_space_is_counted_right() -> None:
    """Widths x layers of 2 numbers of heads and 3 ratios, for each depth."""
    assert get_space("autoformer").size() == 3 * sum(6**depth for depth in (12, 13, 14))


def test_the_published_architecture_of_the_space_is_a_member() -> None:
    assert list(get_space("autoformer").published()) == ["autoformer_tiny"]


T: AutoFormerConfig = AutoFormerConfig()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (effvit.model_config("pit_ti"), "holds family autoformer, got family pit"),
        (T.replace(width=200), r"width must be one of 192, 216, 240, got 200 \(nearest valid: 192"),
        (T.replace(heads=(3,), mlp_ratios=(4,)), "depth must be one of 12, 13, 14, got 1"),
        (T.replace(heads=(5,) * 13), "heads_1 must be one of 3, 4, got 5"),
        (T.replace(mlp_ratios=(2.5,) * 13), "twice_mlp_ratio_1 must be one of 6, 7, 8, got 5"),
        (T.replace(relative_reach=0), "relative_reach must be 14 in this space, got 0"),
        (T.replace(image_size=(96, 96)), "image_size must be"),
        (effvit.model_config("autoformer_base").replace(heads=(3,) * 14), "width must be one of"),
    ],
)
def test_what_is_outside_says_why(config: effvit.ModelConfig, message: str) -> None:
    space = get_space("autoformer")
    assert not space.contains(config)
    with pytest.raises(InvalidVariant, match=message):
        space.encode(config)
