"""What all backbones of :mod:`effvit.networks.backbone` share: names in other code, conventions."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

import effvit
from effvit import ConfigError
from effvit.designs.efficientvit import TIMM_ATTENTION_EPS
from effvit.networks.backbone import Backbone, Stage
from effvit.networks.checkpoints import renamed
from effvit.networks.efficientvit import official_modules, timm_modules
from effvit.networks.mobilevitv2 import OFFICIAL_NAMES, TIMM_NAMES
from tests.effvit.peers import authors_weights, golden, randomised

GOLDEN = {
    "mobilevitv2_050": "mobilevitv2_0.5",
    "mobilevitv2_100": "mobilevitv2_1.0",
    "efficientvit_b0": "efficientvit_b0",
    "efficientvit_b1": "efficientvit_b1",
    "efficientvit_l1": "efficientvit_l1",
}
MODELS = [name for name in effvit.list_models() if name.startswith(("mobilevitv2", "efficientvit"))]
SMALL: dict[str, dict[str, Any]] = {
    "mobilevitv2_050": {
        "widths": (8, 8, 16, 16, 24, 32),
        "attention_widths": (8, 16, 16),
        "num_classes": 5,
    },
    "efficientvit_b0": {"head_widths": (32, 40), "num_classes": 5},
    "efficientvit_l1": {
        "widths": (4, 8, 8, 16, 32),
        "depths": (1, 1, 1, 2, 2),
        "head_widths": (32, 40),
        "num_classes": 5,
    },
}
STRIDES = {
    "mobilevitv2_050": (2, 4, 8, 16, 32),
    "efficientvit_b0": (4, 8, 16, 32),
    "efficientvit_l1": (4, 8, 16, 32),
}
IMAGE = (2, 3, 64, 96)


def small(name: str, drop_path_rate: float = 0.0) -> Backbone[Any]:
    return backbone(name, **SMALL[name], drop_path_rate=drop_path_rate)


def backbone(name: str, **changes: Any) -> Backbone[Any]:  # noqa: ANN401 - configuration fields
    model = effvit.create_model(name, **changes)
    assert isinstance(model, Backbone)
    return model


def shapes(state_dict: dict[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(tensor.shape)) for name, tensor in state_dict.items()]


def renamed_shapes(model: Backbone[Any], source: str) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a model as other code has them."""
    if model.config.family == "mobilevitv2":
        table = (OFFICIAL_NAMES if source == "official" else TIMM_NAMES).modules(model.config)
    else:
        table = (official_modules if source == "official" else timm_modules)(model.config)
    return [(renamed(name, table), shape) for name, shape in shapes(model.state_dict())]


# --- names in other code ------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_names_shapes_and_counts_are_the_authors(name: str) -> None:
    with torch.device("meta"):
        model = backbone(name)
    expected = golden(GOLDEN[name])
    assert renamed_shapes(model, "official") == [(n, tuple(s)) for n, s in expected["state_dict"]]
    assert sum(p.numel() for p in model.parameters()) == expected["params"]
    assert sum(b.numel() for b in model.buffers()) == expected["buffers"]


@pytest.mark.parametrize("name", MODELS)
def test_names_shapes_and_order_are_timms(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = backbone(name), timm.create_model(name)
    assert renamed_shapes(ours, "timm") == shapes(theirs.state_dict())


@torch.no_grad()
def test_mobilevitv2_is_timms() -> None:
    theirs = randomised(timm.create_model("mobilevitv2_050"))
    ours = effvit.create_model("mobilevitv2_050").eval()
    effvit.load_timm_state_dict(ours, theirs.state_dict())
    image = torch.randn(1, 3, 90, 128)
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "atol"),
    # timm keeps an eps of 1e-5 in one norm of L's head.
    [("efficientvit_b0", 128, 1e-6), ("efficientvit_l1", 64, 1e-4)],
)
@torch.no_grad()
def test_efficientvit_with_timms_eps_is_timms(name: str, size: int, atol: float) -> None:
    theirs = randomised(timm.create_model(name)).double()
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    differences = []
    for eps in (TIMM_ATTENTION_EPS, effvit.model_config(name).to_dict()["attention_eps"]):
        ours = effvit.create_model(name, attention_eps=eps).double().eval()
        effvit.load_timm_state_dict(ours, theirs.state_dict())
        differences.append(float((ours(image) - theirs(image)).abs().max()))
    assert differences[0] <= atol
    if name == "efficientvit_b0":
        assert differences[0] < differences[1]


@pytest.mark.parametrize("name", ["mobilevitv2_050", "efficientvit_b0", "efficientvit_l1"])
def test_unknown_missing_and_misshapen_names_are_listed(name: str) -> None:
    weights = authors_weights(GOLDEN[name])
    model = effvit.create_model(name, num_classes=7)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    last = list(weights)[-2:]
    with pytest.raises(ConfigError, match=rf"shapes \['{last[0]} \(1000, \d+\) for \(7, \d+\)"):
        effvit.load_official_state_dict(model, weights)
    weights["optimizer"] = weights.pop(last[0])
    with pytest.raises(ConfigError) as error:
        effvit.load_official_state_dict(model, weights)
    assert f"unknown names ['optimizer'], missing names ['{last[0]}']" in str(error.value)
    with pytest.raises(ConfigError, match="timm checkpoint does not fit"):
        effvit.load_timm_state_dict(model, weights)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_networks_without_such_names_say_so() -> None:
    with pytest.raises(ConfigError, match="Linear has no timm checkpoint names"):
        effvit.load_timm_state_dict(nn.Linear(1, 1), {})


# --- conventions --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 96), (32, 32), (61, 131)])
@torch.no_grad()
def test_maps(name: str, size: tuple[int, int]) -> None:
    model = small(name).eval()
    images = torch.randn(2, 3, *size)
    maps = model.forward_stages(images)
    assert [info["reduction"] for info in model.feature_info] == [*STRIDES[name]]
    for y, info, stride in zip(maps, model.feature_info, STRIDES[name], strict=True):
        assert y.shape[1] == info["num_chs"]
        sides = [-(-side // stride) for side in size]
        least = [side <= found for side, found in zip(sides, y.shape[2:], strict=True)]
        assert all(least)
        if name != "mobilevitv2_050":
            assert list(y.shape[2:]) == sides
    assert torch.equal(model.forward_features(images), maps[-1])
    assert model(images).shape == (2, 5)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_intermediates(name: str) -> None:
    model, images = small(name).eval(), torch.randn(IMAGE)
    maps = model.forward_stages(images)
    last, found = model.forward_intermediates(images)
    assert torch.equal(last, maps[-1])
    assert all(torch.equal(a, b) for a, b in zip(found, maps, strict=True))
    _, chosen = model.forward_intermediates(images, [0, 2], output_fmt="NHWC")
    assert [tuple(y.shape) for y in chosen] == [
        (y.shape[0], *y.shape[2:], y.shape[1]) for y in (maps[0], maps[2])
    ]
    with pytest.raises(ConfigError, match="output_fmt must be NCHW or NHWC, got 'NLC'"):
        model.forward_intermediates(images, output_fmt="NLC")
    with pytest.raises(ConfigError, match=r"indices must choose from \d stages"):
        model.forward_intermediates(images, [9])


@torch.no_grad()
def test_stopping_early_does_not_run_what_follows() -> None:
    model = small("efficientvit_b0").eval()
    ran = []
    for index, stage in enumerate(model.stages):
        stage.register_forward_hook(lambda *_, index=index: ran.append(index))
    images = torch.randn(IMAGE)
    model.forward_intermediates(images, [1], stop_early=True, intermediates_only=True)
    assert ran == [0, 1]
    last, _ = model.forward_intermediates(images, [1], stop_early=True)
    assert ran == [0, 1, 0, 1, 2, 3]
    assert isinstance(last, Tensor)
    assert last.shape[1] == model.num_features


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_pruning(name: str) -> None:
    model, images = small(name).eval(), torch.randn(IMAGE)
    expected = model.forward_stages(images)[1]
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    assert len(model.stages) == 2
    assert model(images).shape == (2, model.num_features) == (2, expected.shape[1])
    torch.testing.assert_close(model(images), expected.mean((2, 3)))


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_classifier(name: str) -> None:
    model, images = small(name).eval(), torch.randn(IMAGE)
    before = model.forward_head(model.forward_features(images), pre_logits=True)
    model.reset_classifier(7)
    assert model(images).shape == (2, 7)
    assert model.num_classes == model.config.num_classes == 7
    assert isinstance(model.get_classifier(), nn.Linear)
    model.reset_classifier(0)
    assert torch.equal(model(images), before)
    assert before.shape == (2, model.head_hidden_size)
    with pytest.raises(ConfigError, match="global_pool must be avg, got 'max'"):
        model.reset_classifier(7, "max")


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_does_not_change_gradients(name: str) -> None:
    images = torch.randn(IMAGE)
    gradients = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = small(name, drop_path_rate=0.2).train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        model(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_drop_path_acts_in_training_only(name: str) -> None:
    model, images = small(name, drop_path_rate=0.9), torch.randn(IMAGE)
    model.eval()
    assert torch.equal(model(images), model(images))
    for module in model.modules():  # statistics of a batch would move as well
        if not isinstance(module, nn.BatchNorm2d):
            module.training = True
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize("name", SMALL)
def test_no_weight_decay_on_norms_and_biases(name: str) -> None:
    model = small(name)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    free = {
        id(p)
        for group in optimiser.param_groups
        if group["weight_decay"] == 0
        for p in group["params"]
    }
    assert free == {id(p) for p in model.parameters() if p.ndim == 1}


@pytest.mark.parametrize("name", SMALL)
def test_layer_groups_rise_from_the_stem_to_the_head(name: str) -> None:
    model = small(name)
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    order = [layers[n] for n, _ in model.named_parameters()]
    assert order == sorted(order)
    blocks = sum(len(module.blocks) for module in model.modules() if isinstance(module, Stage))
    assert order[0] == 0
    assert order[-1] == blocks + 1
