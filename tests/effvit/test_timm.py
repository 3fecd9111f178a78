"""SepViT as a timm model: registry, feature extraction, optimiser groups, checkpointing."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from torch import nn

import effvit
from effvit.networks.sepvit import SepViT
from tests.effvit.fresh import run_fresh
from tests.effvit.models import stage_of

NAMES = ("sepvit_lite", "sepvit_tiny", "sepvit_small", "sepvit_base")
WIDTHS = [32, 64, 128, 256]
IMAGE = (2, 3, 64, 96)


def lite(**options: object) -> SepViT:
    model = timm.create_model("sepvit_lite", **options)
    assert isinstance(model, SepViT)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_registered_with_the_published_parameters(name: str) -> None:
    assert timm.is_model(name)
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == effvit.model_cost(name).params
    assert model.config == effvit.model_config(name)
    assert model.default_cfg["input_size"] == (3, 224, 224)


@torch.no_grad()
def test_options_of_timm_and_of_the_configuration() -> None:
    model = lite(num_classes=10, in_chans=1, img_size=96, drop_path_rate=0.1, mlp_ratio=2)
    assert model(torch.randn(2, 1, 96, 96)).shape == (2, 10)
    assert (model.config.image_size, model.config.in_channels) == ((96, 96), 1)
    assert (model.config.drop_path_rate, model.config.mlp_ratio) == (0.1, 2.0)


def test_unknown_options_and_weights_that_do_not_exist() -> None:
    with pytest.raises(effvit.ConfigError, match="unknown option 'window'; did you mean 'windows'"):
        lite(window=7)
    with pytest.raises(RuntimeError, match=r"[Nn]o pretrained weights"):
        lite(pretrained=True)


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, 3), (2,), (-1,)])
@torch.no_grad()
def test_features_only(indices: tuple[int, ...]) -> None:
    model = timm.create_model("sepvit_lite", features_only=True, out_indices=indices).eval()
    chosen = [index % 4 for index in indices]
    assert model.feature_info.channels() == [WIDTHS[index] for index in chosen]
    assert model.feature_info.reduction() == [4 << index for index in chosen]
    maps = model(torch.randn(IMAGE))
    assert [tuple(y.shape) for y in maps] == [
        (2, WIDTHS[index], 64 >> index + 2, 96 >> index + 2) for index in chosen
    ]


@torch.no_grad()
def test_features_are_the_classifiers_own() -> None:
    model, image = lite().eval(), torch.randn(IMAGE)
    last, maps = model.forward_intermediates(image)
    torch.testing.assert_close(last, model.forward_features(image))
    torch.testing.assert_close(model.forward_head(last), model(image))
    stages = model.forward_stages(image)
    for stage, y in zip(stages, maps, strict=True):
        assert torch.equal(y.permute(0, 2, 3, 1), stage)
    normed = model.forward_intermediates(
        image, indices=1, norm=True, output_fmt="NHWC", intermediates_only=True
    )
    assert len(normed) == 1
    assert torch.equal(normed[0], last)


@torch.no_grad()
def test_stopping_early_runs_no_later_stage() -> None:
    model = lite().eval()
    stage_of(model, 2).register_forward_hook(lambda *_: pytest.fail("stage 3 ran"))
    maps = model.forward_intermediates(
        torch.randn(IMAGE), indices=[0, 1], stop_early=True, intermediates_only=True
    )
    assert isinstance(maps, list)
    assert [y.shape[1] for y in maps] == WIDTHS[:2]
    with pytest.raises(effvit.ConfigError, match="output_fmt must be NCHW or NHWC"):
        model.forward_intermediates(torch.randn(IMAGE), output_fmt="NLC")


@torch.no_grad()
def test_pruning_drops_what_is_not_asked_for() -> None:
    model, image = lite().eval(), torch.randn(IMAGE)
    expected = model.forward_stages(image)[1]
    assert model.prune_intermediate_layers([0, 1], prune_norm=True) == [0, 1]
    assert len(model.stages) == 2
    _, maps = model.forward_intermediates(image, indices=[0, 1])
    assert torch.equal(maps[1].permute(0, 2, 3, 1), expected)


@torch.no_grad()
def test_reset_classifier() -> None:
    model, image = lite().eval(), torch.randn(IMAGE)
    pooled = model.forward_head(model.forward_features(image), pre_logits=True)
    model.reset_classifier(7)
    assert model(image).shape == (2, 7)
    assert model.get_classifier().out_features == model.num_classes == model.config.num_classes == 7
    model.reset_classifier(0)
    assert torch.equal(model(image), pooled)
    assert pooled.shape == (2, model.num_features) == (2, model.head_hidden_size)
    with pytest.raises(effvit.ConfigError, match="global_pool must be avg, got 'max'"):
        model.reset_classifier(7, "max")


def test_checkpointing_changes_memory_and_not_gradients() -> None:
    image = torch.randn(IMAGE)
    gradients = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = lite(num_classes=5, drop_path_rate=0.2).train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        model(image).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed, rtol=1e-4, atol=1e-6)


def group_of_each(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The parameter group of each parameter, by the parameter's name."""
    by_identity = {id(p): group for group in groups for p in group["params"]}
    return {name: by_identity[id(p)] for name, p in model.named_parameters()}


def test_no_weight_decay_on_tokens_positions_norms_and_biases() -> None:
    model = lite()
    optimiser = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    groups = group_of_each(model, optimiser.param_groups)
    free = {name for name, group in groups.items() if group["weight_decay"] == 0}
    exempt = (".token", ".position.weight", ".bias")
    assert free == {
        name
        for name, parameter in model.named_parameters()
        if name.endswith(exempt) or parameter.ndim == 1
    }
    learned = [name for name in free if name.endswith(".token")]
    assert len(learned) == 1 + 2 + 3  # blocks with several windows at 224 x 224
    assert sum(name.endswith(".position.weight") for name in free) == 4


def test_layer_decay_rises_from_the_stem_to_the_head() -> None:
    model = lite()
    groups = group_of_each(model, param_groups_layer_decay(model, 0.05, layer_decay=0.8))
    scale = {name: group["lr_scale"] for name, group in groups.items()}
    path = []
    for stage, depth in enumerate(model.config.depths):
        path.append(f"stages.{stage}.embed.conv.weight")
        path += [f"stages.{stage}.blocks.{block}.mlp.fc1.weight" for block in range(depth)]
        position, first = (
            f"stages.{stage}.position.weight",
            f"stages.{stage}.blocks.0.mlp.fc1.weight",
        )
        assert scale[position] == scale[first]
    scales = [scale[name] for name in [*path, "head.weight"]]
    steps = 4 + sum(model.config.depths)  # embeddings and blocks, each a step below the next
    assert scales == pytest.approx([0.8 ** (steps - step) for step in range(steps + 1)])
    assert scale["norm.weight"] == scale[path[-1]]


def test_coarse_groups_are_stages() -> None:
    model = lite()
    layers = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    firsts = [layers[f"stages.{stage}.blocks.0.mlp.fc1.weight"] for stage in range(4)]
    assert firsts == [1, 2, 3, 4]
    assert layers["stages.0.embed.conv.weight"] == 0
    assert layers["norm.weight"] == 4
    assert layers["head.weight"] == 5


@pytest.mark.slow  # processes start
@pytest.mark.parametrize("order", ["import effvit, timm", "import timm, effvit"])
def test_registered_whichever_is_imported_first(order: str) -> None:
    code = f"{order}; print(*[name for name in {NAMES} if timm.is_model(name)])"
    assert run_fresh(code).split() == list(NAMES)
