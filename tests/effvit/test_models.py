"""What every published model of every family promises; a new family inherits these tests."""

from __future__ import annotations

import json

import pytest
import torch

import effvit
from effvit.counters import count_torch
from effvit.networks.layers import explicit_attention

SIZE = (64, 96)
MAX_FORWARD_MACS = 2_000_000_000
MAX_BACKWARD_PARAMS = 20_000_000

MODELS = effvit.list_models()
RUN = [name for name in MODELS if effvit.model_cost(name, SIZE).macs <= MAX_FORWARD_MACS]
TRAIN = [name for name in RUN if effvit.model_cost(name).params <= MAX_BACKWARD_PARAMS]


def test_names_are_distinct_and_their_networks_too() -> None:
    assert len(set(MODELS)) == len(MODELS)
    assert len({effvit.model_config(name).variant_id for name in MODELS}) == len(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_configuration_round_trips(name: str) -> None:
    config = effvit.model_config(name)
    assert effvit.as_config(json.loads(config.to_json())) == config
    canonical = config.canonical()
    assert (canonical.canonical(), canonical.variant_id) == (canonical, config.variant_id)


@pytest.mark.parametrize("name", MODELS)
def test_arrays_agree_with_the_breakdown(name: str) -> None:
    cost = effvit.model_cost(name, SIZE)
    arrays = effvit.model_costs([effvit.model_config(name)], SIZE)
    assert (int(arrays.params[0]), int(arrays.macs[0])) == (cost.params, cost.macs)
    assert cost.macs == sum(op.macs for op in cost.operations)


@pytest.mark.parametrize("name", MODELS)
def test_declared_cost_is_the_built_networks(name: str) -> None:
    """On the meta device: shapes only, so that large models cost nothing to run."""
    with torch.device("meta"):
        model = effvit.create_model(name).eval()
        image = torch.zeros(1, effvit.model_config(name).in_channels, *SIZE)
        with torch.no_grad(), explicit_attention(model):
            counted = count_torch(model, image)
    cost = effvit.model_cost(name, SIZE)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())
    assert cost.macs == counted


@pytest.mark.parametrize("name", RUN)
@torch.no_grad()
def test_forward(name: str) -> None:
    model = effvit.create_model(name).eval()
    logits = model(torch.randn(2, effvit.model_config(name).in_channels, *SIZE))
    assert logits.shape == (2, effvit.model_config(name).num_classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", TRAIN)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = effvit.create_model(name, num_classes=4, drop_path_rate=0.1).train()
    model(torch.randn(2, effvit.model_config(name).in_channels, *SIZE)).square().sum().backward()
    lacking = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert not lacking


@pytest.mark.parametrize("name", TRAIN)
def test_the_same_seed_builds_the_same_weights(name: str) -> None:
    def build(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in effvit.create_model(name).parameters()])

    first = build(1)
    assert torch.equal(first, build(1))
    assert not torch.equal(first, build(2))
