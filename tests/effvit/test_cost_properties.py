"""The closed form against built networks, over random configurations and sizes."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import torch
from fvcore.nn import ActivationCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import effvit
from effvit import ConfigError, Cost, CostArrays
from effvit.cost import COUNTED
from effvit.counters import count_fvcore, count_torch
from effvit.designs.sepvit import SepViTConfig
from effvit.networks.layers import explicit_attention
from tests.effvit.models import blocks_of, sepvit
from tests.effvit.strategies import SIZES, sepvit_configs

Size = tuple[int, int]
TOTALS = [field.name for field in dataclasses.fields(CostArrays)]


def images(config: SepViTConfig, size: Size) -> torch.Tensor:
    return torch.randn(1, config.in_channels, *size)


def params_by_module(model: nn.Module) -> Counter[str]:
    """Parameters under the name of their module; a bare parameter is a place of its own."""
    sums: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        module, _, last = name.rpartition(".")
        sums[module if last in ("weight", "bias") else name] += parameter.numel()
    return sums


def declared_params(cost: Cost) -> Counter[str]:
    sums: Counter[str] = Counter()
    for op in cost.operations:
        if op.params:
            sums[op.module] += op.params
    return sums


@given(sepvit_configs(), st.none() | SIZES)
def test_macs_are_what_torch_counts(config: SepViTConfig, other_size: Size | None) -> None:
    size = other_size or config.image_size
    model = effvit.create_model(config).eval()
    with torch.no_grad(), explicit_attention(model):
        counted = count_torch(model, images(config, size))
    assert effvit.model_cost(config, other_size).macs == counted


@given(sepvit_configs(), SIZES)
def test_params_are_the_modules_own(config: SepViTConfig, size: Size) -> None:
    model = effvit.create_model(config)
    cost = effvit.model_cost(config, size)
    assert declared_params(cost) == params_by_module(model)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=8)
@given(sepvit_configs(), SIZES)
def test_activations_are_what_fvcore_counts(config: SepViTConfig, size: Size) -> None:
    model = effvit.create_model(config).eval()
    with torch.no_grad(), explicit_attention(model):
        analysis = ActivationCountAnalysis(model, images(config, size))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted = analysis.total()
    assert effvit.model_cost(config, size).activations == counted


@given(st.lists(sepvit_configs(), min_size=1, max_size=6), st.none() | SIZES)
def test_arrays_cost_what_scalars_cost(
    configs: list[SepViTConfig], other_size: Size | None
) -> None:
    shared = {name: getattr(configs[0], name) for name in ("image_size", "in_channels")}
    alike = [config.replace(**shared, num_classes=7) for config in configs]
    arrays = effvit.model_costs(alike, other_size)
    assert len(arrays) == len(alike)
    for row, config in enumerate(alike):
        cost = effvit.model_cost(config, other_size)
        assert [int(getattr(arrays, name)[row]) for name in TOTALS] == [
            getattr(cost, name) for name in TOTALS
        ]


def test_arrays_are_64_bit_at_the_largest_size() -> None:
    config = SepViTConfig(image_size=(16384, 16384))
    arrays = effvit.model_costs([config])
    assert arrays.macs.dtype == np.int64
    assert int(arrays.macs[0]) == effvit.model_cost(config).macs > 2**31


def test_networks_costed_together_must_share_their_input() -> None:
    one = SepViTConfig()
    with pytest.raises(ConfigError, match="must share image_size"):
        effvit.model_costs([one, one.replace(num_classes=10)])
    with pytest.raises(ConfigError, match="one family"):
        effvit.model_costs([])


@given(sepvit_configs(), st.integers(1, 4))
def test_breakdowns_add_up(config: SepViTConfig, depth: int) -> None:
    cost = effvit.model_cost(config)
    for groups in (cost.by_module(depth), cost.by_operator()):
        sums = [sum(column) for column in zip(*groups.values(), strict=True)]
        assert sums[:2] == [cost.params, cost.macs]
    counted = [sums for operator, sums in cost.by_operator().items() if operator in COUNTED]
    assert sum(elements for _, _, elements in counted) == cost.activations


@pytest.mark.parametrize("representation", ["learned", "average"])
@pytest.mark.parametrize("size", [(224, 224), (97, 131)])
@torch.no_grad()
def test_fused_attention_changes_neither_our_number_nor_the_output(
    representation: str, size: Size
) -> None:
    """Counters see less of a fused kernel; the closed form costs what is computed."""
    model = sepvit(window_representation=representation)
    macs = effvit.model_cost(model.config, size).macs
    image = torch.randn(1, 3, *size)
    fused = model(image)
    seen_fused = count_fvcore(model, image)
    with explicit_attention(model):
        explicit = model(image)
        assert count_torch(model, image) == macs
        assert seen_fused < count_fvcore(model, image)
    assert effvit.model_cost(model.config, size).macs == macs
    torch.testing.assert_close(fused, explicit, rtol=0, atol=1e-5)


def test_explicit_attention_ends_with_its_block() -> None:
    model = sepvit()
    attention = blocks_of(model, 0)[0].attention

    def fail_inside() -> None:
        with explicit_attention(model):
            assert not attention.fused
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert attention.fused


@given(sepvit_configs())
def test_what_acts_in_training_only_costs_nothing(config: SepViTConfig) -> None:
    other = config.replace(drop_path_rate=0.7, drop_rate=0.2)
    assert effvit.model_cost(other) == effvit.model_cost(config)
    assert other.variant_id == config.variant_id


@given(sepvit_configs())
def test_json_round_trip(config: SepViTConfig) -> None:
    text = config.to_json()
    assert effvit.as_config(json.loads(text)) == config
    whole = text.replace(f'"mlp_ratio": {config.mlp_ratio}', f'"mlp_ratio": {config.mlp_ratio:g}')
    assert effvit.as_config(json.loads(whole)).to_json() == text  # 4 and 4.0 are one ratio
