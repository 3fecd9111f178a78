"""PiT's space against plain enumeration that shares no code with it."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings

import effvit
from effvit.designs.pit import PiTConfig
from spaces import InvalidVariant, get_space
from spaces.axes import Value
from spaces.pit import PiTSpace
from tests.spaces.enumeration import (
    Values,
    assert_counted_once,
    assert_walked,
    enumerate_networks,
    reduced,
)

FULL = {axis.name: axis.values for axis in PiTSpace.AXES}
SINGLE: dict[str, tuple[Value, ...]] = {name: values[:1] for name, values in FULL.items()}
HEADS = ("heads_1", "heads_2", "heads_3")
RESOLUTION = (64, 96)


def naive_config(choices: Mapping[str, Any]) -> PiTConfig:
    return PiTConfig(
        image_size=RESOLUTION,
        head_widths=(choices["head_width"],) * 3,
        heads=tuple(choices[name] for name in HEADS),
        depths=tuple(choices[f"depth_{n}"] for n in (1, 2, 3)),
        mlp_ratio=float(choices["mlp_ratio"]),
    )


def is_valid(choices: Mapping[str, Any]) -> bool:
    heads = [choices[name] for name in HEADS]
    return heads == sorted(heads)


@settings(max_examples=30, deadline=None)
@given(values=reduced(SINGLE, FULL, HEADS, others=3))
def test_the_space_is_what_enumeration_finds(values: Values) -> None:
    networks = enumerate_networks(values, is_valid, naive_config)
    if not networks:
        with pytest.raises(effvit.ConfigError, match="no valid network"):
            PiTSpace(RESOLUTION, values)
        return
    space = PiTSpace(RESOLUTION, values)
    assert_counted_once(space, networks)
    assert_walked(space, networks, naive_config)


def test_the_full_space_is_counted_right() -> None:
    """Head widths x chains of heads x depths x ratios."""
    chains = sum(list(h) == sorted(h) for h in itertools.product((2, 4, 8), repeat=3))
    assert chains == 10
    assert get_space("pit").size() == 4 * chains * 3**3 * 4


def test_the_published_architecture_of_the_space_is_a_member() -> None:
    assert list(get_space("pit").published()) == ["pit_ti"]


TI = PiTConfig(head_widths=(32, 32, 32), heads=(2, 4, 8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (effvit.model_config("autoformer_tiny"), "holds family pit, got family autoformer"),
        (effvit.model_config("pit_s"), r"head_width must be one of 16, 24, 32, 40, got 48"),
        (TI.replace(head_widths=(32, 32, 16)), r"same in all stages, .*valid: \(32, 32, 32\)"),
        (TI.replace(heads=(8, 8, 16)), "heads_3 must be one of 2, 4, 8, got 16"),
        (TI.replace(stride=16), "stride must be 8 in this space, got 16"),
        (TI.replace(mlp_ratio=3.0), "mlp_ratio must be one of 2, 4, 6, 8, got 3.0"),
    ],
)
def test_what_is_outside_says_why(config: effvit.ModelConfig, message: str) -> None:
    space = get_space("pit")
    assert not space.contains(config)
    with pytest.raises(InvalidVariant, match=message):
        space.encode(config)
