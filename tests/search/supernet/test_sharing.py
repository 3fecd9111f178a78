"""Slices by name: what a variant is of the shared weights, for every family."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch.func import functional_call

from effvit import ModelConfig
from effvit.config import ConfigError
from effvit.designs.sepvit import SepViTConfig
from search.proxy.network import ProxyNetwork, initialise
from search.proxy.scaling import proxy_config
from search.supernet.sharing import FAMILIES, interleaved, share
from search.supernet.weights import SharedWeights, shares, skeleton
from spaces import get_space

SPACES = tuple(FAMILIES)
VARIANTS = 2


@functools.cache
def scaled(space: str) -> tuple[ModelConfig, ...]:
    """A few scaled variants."""
    drawn = get_space(space).sample_many(np.random.default_rng(5), VARIANTS)
    return tuple(proxy_config(config) for config in drawn)


@functools.cache
def made(space: str) -> SharedWeights:
    return SharedWeights(scaled(space), seed=3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("space", SPACES)
def test_a_slice_computes_what_the_network_of_its_own_with_these_weights_does(
    space: str, images: torch.Tensor
) -> None:
    for config in scaled(space):
        sliced = functional_call(skeleton(config), made(space).slices(config), (images,))
        alone = made(space).network(config).train()(images)
        torch.testing.assert_close(sliced, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", SPACES)
def test_parameters_of_a_variant_are_distinct_elements_of_the_shared_tensors(space: str) -> None:
    config = scaled(space)[0]
    weights = made(space)
    weights.slices(config)  # makes the tensors
    with torch.no_grad():
        start = 0.0
        for tensor in weights.tensors.values():  # every element gets a number of its own
            tensor.copy_(torch.arange(start, start + tensor.numel()).view_as(tensor))
            start += tensor.numel()
    assert start < 2**24  # exact in float32
    numbers = torch.cat([tensor.flatten() for tensor in weights.slices(config).values()])
    made.cache_clear()
    assert len(numbers.unique()) == len(numbers)


def test_alone_the_widest_variant_is_the_supernet() -> None:
    config = scaled("sepvit")[0]
    weights = SharedWeights([config], seed=1)
    slices = weights.slices(config)
    assert {name: tensor.shape for name, tensor in slices.items()} == {
        name: tensor.shape for name, tensor in skeleton(config).named_parameters()
    }
    whole = sum(tensor.numel() for tensor in weights.tensors.values())
    assert whole == sum(tensor.numel() for tensor in slices.values())


def test_initial_values_do_not_depend_on_the_order_of_variants() -> None:
    first, second = SharedWeights(scaled("hybrid"), 7), SharedWeights(scaled("hybrid"), 7)
    for config in scaled("hybrid"):
        first.slices(config)
    for config in reversed(scaled("hybrid")):
        second.slices(config)
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_what_is_not_drawn_starts_as_in_a_network_of_its_own() -> None:
    config = scaled("sepvit")[1]
    network = ProxyNetwork(config)
    initialise(network, 0)
    slices = SharedWeights(scaled("sepvit"), 0).slices(config)
    for name, own in network.named_parameters():
        if own.ndim == 1 or name.endswith(".token"):
            assert torch.equal(slices[name], own), name


def test_interleaving_keeps_heads_whole() -> None:
    # 12 channels, 3 heads of 4: channel 5 is the second of head 1, so it goes to 1 * 3 + 1.
    order = interleaved(12, 3)
    assert order[5] == 4
    assert sorted(order.tolist()) == list(range(12))
    head = torch.arange(12) // 4
    assert torch.equal(order % 3, head)
    narrow = interleaved(6, 3)  # half as wide: the first 6 places, two channels of each head
    assert sorted(narrow.tolist()) == list(range(6))


def test_queries_keys_and_values_are_sliced_one_by_one() -> None:
    wide = SepViTConfig(widths=(32, 64, 128, 256), heads=(1, 2, 4, 8))
    config = proxy_config(wide)
    assert isinstance(config, SepViTConfig)
    name = "body.stages.0.blocks.0.attention.qkv.weight"
    width = config.widths[0]
    axis = share(name, (3 * width, width), config).axes[0]
    room = width + 5  # as if another variant had five more channels
    index = axis.index(room)
    expected = [part * room + channel for part in range(3) for channel in range(width)]
    assert axis.size(room) == 3 * room
    assert sorted(index.tolist()) == expected


def test_a_token_of_another_grid_is_another_tensor() -> None:
    keys = {
        shares(config)[name].key
        for config in scaled("sepvit")
        for name in shares(config)
        if name.endswith("stages.0.blocks.0.token")
    }
    grids = {
        config.plan()[0].blocks[0].grid
        for config in scaled("sepvit")
        if isinstance(config, SepViTConfig) and config.plan()[0].blocks[0].token
    }
    assert len(keys) == len({a * b for a, b in grids})


def test_a_wider_variant_than_the_weights_were_made_for_is_refused() -> None:
    narrow, wide = (
        proxy_config(SepViTConfig(widths=widths, heads=(1, 2, 4, 8)))
        for widths in ((32, 64, 128, 256), (64, 128, 256, 512))
    )
    with pytest.raises(ConfigError, match="train it anew"):
        SharedWeights([narrow], 0).slices(wide)


def test_a_family_without_rules_is_refused_in_one_line() -> None:
    other = scaled("sepvit")[0].replace()
    object.__setattr__(other, "family", "other")
    with pytest.raises(ConfigError, match=r"shares weights of families sepvit.*, got family"):
        share("body.stem.conv.weight", (3, 3), other)
