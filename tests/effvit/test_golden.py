"""SepViT computes what the authors' released code computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import effvit
from effvit.networks.checkpoints import renamed
from effvit.networks.sepvit import SepViT, official_modules
from tests.effvit.models import blocks_of, sepvit, stage_of
from tests.effvit.official import (
    golden,
    golden_image,
    golden_logits,
    official_shapes,
    official_weights,
)

GOLDEN_MODELS = ("sepvit_lite", "sepvit_tiny")
PARAMETERS = {
    "sepvit_lite": 3_661_128,
    "sepvit_tiny": 31_182_856,
    "sepvit_small": 46_570_504,
    "sepvit_base": 82_377_064,
}


def official_model(name: str) -> SepViT:
    model = sepvit(name)
    effvit.load_official_state_dict(model, official_weights(name))
    return model


def fingerprint(out: Tensor) -> list[float]:
    """As recorded for a (B, H, W, C) map: sums and the corner of its (B, H * W, C) form."""
    flat = out.flatten(1, 2).double()
    corner = flat[0, :2, :2].flatten().tolist()
    return [flat.sum().item(), flat.abs().sum().item(), *corner]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name: str) -> None:
    assert effvit.model_cost(name).params == PARAMETERS[name]


@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_names_and_shapes_are_the_released_ones(name: str) -> None:
    model = sepvit(name)
    modules = official_modules(model.config)
    shapes = {}
    for ours, tensor in model.state_dict().items():
        # The released code keeps window tokens as (1, N, 1, C).
        lead = (1,) if ours.endswith(".token") else ()
        shapes[renamed(ours, modules)] = (*lead, *tensor.shape)
    assert shapes == official_shapes(name)
    assert sum(p.numel() for p in model.parameters()) == golden(name)["params"] == PARAMETERS[name]


@pytest.mark.parametrize("name", GOLDEN_MODELS)
@torch.no_grad()
def test_logits(name: str) -> None:
    model, image = official_model(name), golden_image()
    single = model(image).numpy()
    np.testing.assert_allclose(single, golden_logits(name, "logits"), rtol=0, atol=1e-4)
    double = model.double()(image.double()).numpy()
    np.testing.assert_allclose(double, golden_logits(name, "logits64"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", GOLDEN_MODELS)
@torch.no_grad()
def test_every_layer_in_order(name: str) -> None:
    """Names the first layer that differs, where the logits only say that one does."""
    model = official_model(name)
    found: dict[str, list[float]] = {}

    def record(entry: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, out: Tensor) -> None:
            found[entry] = fingerprint(out)

        return hook

    def record_position(entry: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        # Recorded with the shortcut that the stage adds to the convolution.
        def hook(_module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
            found[entry] = fingerprint((inputs[0] + out).permute(0, 2, 3, 1))

        return hook

    for i in range(4):
        stage = stage_of(model, i)
        assert stage.position is not None
        stage.embed.register_forward_hook(record(f"patch_embeds.{i}"))
        stage.position.register_forward_hook(record_position(f"pos_block.{i}"))
        for j, block in enumerate(blocks_of(model, i)):
            block.register_forward_hook(record(f"blocks.{i}.{j}"))
    model(golden_image())

    expected = golden(f"{name}_strong")["fingerprints"]
    expected.pop("_fields")
    assert list(found) == list(expected)  # the order of execution as well
    for entry, values in found.items():
        total, *rest = expected[entry]
        # The signed sum cancels: its rounding error scales with the sum of magnitudes.
        assert values[0] == pytest.approx(total, abs=1e-6 * rest[0]), entry
        assert values[1:] == pytest.approx(rest, rel=1e-5, abs=1e-4), entry


def test_unknown_and_missing_official_names_are_listed() -> None:
    weights = official_weights("sepvit_lite")
    weights["blocks.9.0.attn.relative_bias"] = weights.pop("head.bias")
    weights["optimizer"] = torch.zeros(1)
    with pytest.raises(effvit.ConfigError) as error:
        effvit.load_official_state_dict(effvit.create_model("sepvit_lite"), weights)
    for name in ("blocks.9.0.attn.relative_bias", "optimizer", "missing names ['head.bias']"):
        assert name in str(error.value)


def test_wrong_official_shapes_are_listed() -> None:
    model = effvit.create_model("sepvit_lite", num_classes=10)
    with pytest.raises(effvit.ConfigError, match=r"head\.weight \(1000, 256\) for \(10, 256\)"):
        effvit.load_official_state_dict(model, official_weights("sepvit_lite"))


def test_a_rejected_checkpoint_changes_nothing() -> None:
    model = effvit.create_model("sepvit_lite", num_classes=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(effvit.ConfigError):
        effvit.load_official_state_dict(model, official_weights("sepvit_lite"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_network_without_official_names_says_so() -> None:
    with pytest.raises(effvit.ConfigError, match="Linear has no official checkpoint names"):
        effvit.load_official_state_dict(nn.Linear(1, 1), {})
