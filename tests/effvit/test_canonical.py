"""Canonical forms: one for each network, none shared by two."""

from __future__ import annotations

import itertools
import math
import zlib
from collections import defaultdict
from collections.abc import Iterator

import torch
from hypothesis import given
from torch import Tensor, nn

import effvit
from effvit.designs.macro import POINTWISE, REPRESENTATIONS
from effvit.designs.sepvit import SepViTConfig
from tests.effvit.models import sepvit
from tests.effvit.strategies import sepvit_configs


def with_named_weights(config: SepViTConfig) -> nn.Module:
    """A network in float64 whose weights depend on their names and shapes only."""
    model = sepvit(config, drop_rate=0.0, drop_path_rate=0.0).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            fan_in = max(1, parameter[0].numel())
            weight = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(weight / math.sqrt(fan_in))
    return model


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def logits(model: nn.Module, config: SepViTConfig) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (2, config.in_channels, *config.image_size)
    image = torch.randn(shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        out: Tensor = model(image)
    return out


@given(sepvit_configs())
def test_the_canonical_form_builds_the_same_network(config: SepViTConfig) -> None:
    canonical = config.canonical()
    assert canonical.canonical() == canonical
    assert canonical.variant_id == config.variant_id
    written, simple = with_named_weights(config), with_named_weights(canonical)
    assert shapes(written) == shapes(simple)
    assert torch.equal(logits(written, config), logits(simple, canonical))
    assert effvit.model_cost(canonical) == effvit.model_cost(config)


def reduced_space() -> Iterator[SepViTConfig]:
    """Maps of 12 x 16, 6 x 8, 3 x 4 and 2 x 2 at 48 x 64 pixels."""
    for first, second, representation, pointwise, shortcuts in itertools.product(
        ((4,), (16,), (20,), (4, 16)), ((6,), (8,)), REPRESENTATIONS, POINTWISE, (True, False)
    ):
        yield SepViTConfig(
            image_size=(48, 64),
            num_classes=3,
            widths=(4, 4, 4, 4),
            heads=(2, 2, 2, 2),
            depths=(2, 1, 1, 1),
            windows=(first, second, (4,), (2,)),
            mlp_ratio=1.0,
            inner_shortcuts=shortcuts,
        ).replace(window_representation=representation, pointwise_attention=pointwise)


def test_names_are_equal_exactly_where_networks_are() -> None:
    """Over a whole reduced space: a name has one function, and a function has one name."""
    names_of: dict[tuple[object, ...], set[str]] = defaultdict(set)
    functions_of: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    configs = list(reduced_space())
    for config in configs:
        model = with_named_weights(config)
        outputs = tuple((logits(model, config).flatten() * 1e8).round().tolist())
        function = (tuple(shapes(model).items()), outputs)
        names_of[function].add(config.variant_id)
        functions_of[config.variant_id].add(function)
    assert all(len(names) == 1 for names in names_of.values())
    assert all(len(functions) == 1 for functions in functions_of.values())
    assert len(names_of) < len(configs)  # some choices are dead here
