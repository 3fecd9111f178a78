"""Networks rewritten for inference compute what they computed before."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import effvit
from effvit.networks.inference import optimise_for_inference
from tests.effvit.peers import randomised

NORMED = ("mobilevitv2_050", "efficientvit_b0", "efficientvit_l1", "mobilevit_xxs")


@pytest.mark.parametrize("name", NORMED)
@torch.no_grad()
def test_batch_norms_are_folded(name: str) -> None:
    model = randomised(effvit.create_model(name, num_classes=5)).double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    expected, names = model(images), list(model.state_dict())
    optimised = optimise_for_inference(model)
    torch.testing.assert_close(optimised(images), expected)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in optimised.modules())
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("name", ["mobilevitv2_050", "efficientvit_b0"])
@torch.no_grad()
def test_timms_are_folded_alike(name: str) -> None:
    model = randomised(timm.create_model(name, num_classes=5)).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    optimised = optimise_for_inference(model)
    torch.testing.assert_close(optimised(images), model(images))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in optimised.modules())


@torch.no_grad()
def test_a_network_in_training_comes_back_in_evaluation() -> None:
    model = effvit.create_model("efficientvit_b0", drop_path_rate=0.5).train()
    optimised = optimise_for_inference(model)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(optimised(images), optimised(images))
    assert model.training
    assert not any(parameter.requires_grad for parameter in optimised.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
