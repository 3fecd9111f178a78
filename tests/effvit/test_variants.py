"""Every choice that the paper ablates runs and trains; choices that break a rule say so."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import effvit
from effvit import ConfigError
from effvit.designs.macro import POINTWISE, REPRESENTATIONS
from effvit.designs.sepvit import SepViTConfig
from effvit.networks.layers import explicit_attention
from tests.effvit.models import blocks_of, sepvit

SMALL = SepViTConfig(
    image_size=(64, 96),
    num_classes=5,
    widths=(8, 16, 24, 32),
    heads=(1, 2, 3, 4),
    depths=(1, 2, 2, 1),
    windows=((4,), (4, 8), (2, 4), (2,)),
)

SWITCHES = ("overlapping_patch_embedding", "conditional_position_encoding", "inner_shortcuts")


@pytest.mark.parametrize(
    ("representation", "pointwise"), list(itertools.product(REPRESENTATIONS, POINTWISE))
)
@pytest.mark.parametrize("without", [(), *((switch,) for switch in SWITCHES), SWITCHES])
def test_every_choice_trains(representation: str, pointwise: str, without: tuple[str, ...]) -> None:
    config = SMALL.replace(
        window_representation=representation,
        pointwise_attention=pointwise,
        drop_path_rate=0.2,
        **dict.fromkeys(without, False),
    )
    model = effvit.create_model(config).train()
    logits = model(torch.randn(4, 3, *config.image_size))
    assert logits.isfinite().all()
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("representation", [r for r in REPRESENTATIONS if r != "none"])
def test_pointwise_attention_carries_across_windows(representation: str) -> None:
    """The gradient of one window's output reaches another window, and only then."""

    def reach(pointwise: str) -> float:
        config = SMALL.replace(window_representation=representation, pointwise_attention=pointwise)
        attention = blocks_of(sepvit(config), 0)[0].attention
        x = torch.randn(1, 16, 24, 8, requires_grad=True)
        token = torch.randn(24, 1, 8) if attention.representation is None else None
        token = token if representation in ("learned", "zero") and pointwise != "off" else None
        attention(x, token)[0, :4, :4].sum().backward()
        assert x.grad is not None
        return float(x.grad[0, 4:, 4:].abs().max())

    assert reach("off") == 0
    assert reach("always") > 0


@torch.no_grad()
def test_a_token_has_no_neighbours_to_learn_from_but_its_window() -> None:
    """Released initialisation: zero tokens whose uniform attention averages their window."""
    block = blocks_of(sepvit(SMALL), 0)[0]
    assert torch.count_nonzero(block.token) == 0
    windows = torch.randn(1, 24, 17, 8)
    windows[:, :, 0] = block.norm1(block.token)[:, 0]
    out = block.attention._within(windows, None)[:, :, 0]
    value = block.attention.qkv(windows).chunk(3, dim=-1)[2].mean(2)
    torch.testing.assert_close(out, value + windows[:, :, 0])


def test_drop_path_rises_linearly() -> None:
    model = sepvit(SMALL, drop_path_rate=0.5)
    blocks = [block for stage in range(4) for block in blocks_of(model, stage)]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.1 * block for block in range(6)])


def test_drop_path_acts_in_training_only() -> None:
    model = effvit.create_model(SMALL, drop_path_rate=0.9)
    image = torch.randn(2, 3, 64, 96)
    model.eval()
    assert torch.equal(model(image), model(image))
    model.train()
    assert not torch.equal(model(image), model(image))


def test_explicit_and_fused_gradients_agree() -> None:
    model = effvit.create_model(SMALL)
    image = torch.randn(2, 3, 61, 90)
    model(image).square().sum().backward()
    fused = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with explicit_attention(model):
        model(image).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, fused[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"widths": (8, 16, 25, 32)},
            r"divisible by heads, got 25 and 3 \(nearest valid width: 24",
        ),
        ({"widths": (8, 16, 24)}, "widths needs one entry for each of 4 stages"),
        ({"depths": (1, 0, 1, 1)}, "depths must be at least 1"),
        ({"windows": ((7,), (), (7,), (7,))}, "windows must be patterns of sides >= 1"),
        ({"windows": ((7,), (0,), (7,), (7,))}, "windows must be patterns of sides >= 1"),
        ({"mlp_ratio": 0}, "mlp_ratio must be positive"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio must be positive"),
        ({"mlp_ratio": 2.3}, r"must be an integer, got 8 x 2\.3 \(nearest valid ratio: 2\.25"),
        ({"window_representation": "learnt"}, "did you mean 'learned'"),
        ({"pointwise_attention": "alway"}, "did you mean 'always'"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\), got 1\.0"),
        ({"num_classes": -1}, "num_classes must be at least 0"),
        ({"in_channels": 0}, "in_channels must be at least 1"),
        ({"image_size": 224}, r"image_size must be \(height, width\)"),
        ({"image_size": (224, 8)}, "nearest valid: 32"),
        ({"depth": 3}, "unknown sepvit option 'depth'; did you mean 'depths'"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.replace(**change)


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown model 'sepvit_tinny'; did you mean"):
        effvit.create_model("sepvit_tinny")
    with pytest.raises(ConfigError, match="unknown family 'sepvit2'; did you mean 'sepvit'"):
        effvit.as_config({"family": "sepvit2"})
    with pytest.raises(ConfigError, match="expected a model name, configuration or dictionary"):
        effvit.as_config(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a sepvit configuration, got family 'other'"):
        SepViTConfig.from_dict({"family": "other"})
    with pytest.raises(ConfigError, match="unknown sepvit option 'width'; did you mean 'widths'"):
        SepViTConfig.from_dict({"width": 8})


def test_an_entry_of_a_runs_front_makes_its_network() -> None:
    config = effvit.model_config("sepvit_lite").replace(num_classes=10)
    entry = {"number": 7, "macs": 1, "config": config.to_dict()}
    assert effvit.as_config(entry) == config
