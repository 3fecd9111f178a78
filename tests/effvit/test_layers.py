"""Shared layers compute the same in every form that they run in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import effvit
from effvit.networks import backbone
from effvit.networks.backbone import Backbone, in_pieces
from effvit.networks.layers import Convolving, explicit_attention
from tests.effvit.peers import randomised

FAMILIES = ("sepvit_lite", "mobilevitv2_050", "efficientvit_b0", "cswin_tiny")


class Convolution(Convolving, nn.Module):
    """One convolution."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(self.conv, x)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 10, 1),
        nn.Conv2d(6, 10, 1, bias=False),
        nn.Conv2d(6, 6, 1, groups=3, bias=False),
        nn.Conv2d(6, 12, 1, groups=3, bias=False),
        nn.Conv2d(6, 10, 1, stride=2),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@torch.no_grad()
def test_convolutions_in_every_form(conv: nn.Conv2d, layout: torch.memory_format) -> None:
    module = Convolution(conv).double()
    x = torch.randn(3, 6, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    expected = conv(x)
    torch.testing.assert_close(module(x), expected)
    with explicit_attention(module):
        assert torch.equal(module(x), expected)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_networks_in_every_form(name: str) -> None:
    model = randomised(effvit.create_model(name, num_classes=5)).double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    expected = model(images)
    with explicit_attention(model):
        torch.testing.assert_close(model(images), expected)
    model.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(model(images), expected)


# --- a few images at a time ---------------------------------------------------------------------


class Counted(nn.Module):
    """Notes how many images it is given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.images.append(len(x))
        return 2 * x


@pytest.mark.parametrize(
    ("elements", "images"), [(10, [7]), (5, [5, 2]), (2, [2, 2, 2, 1]), (1, [1] * 7), (0, [1] * 7)]
)
@torch.no_grad()
def test_pieces_hold_no_more_elements_than_wanted(
    elements: int, images: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "PIECE_ELEMENTS", elements * 3 * 4 * 4)
    part = Counted().eval()
    x = torch.randn(7, 3, 4, 4)
    assert torch.equal(in_pieces(part, x), 2 * x)
    assert part.images == images


def test_training_is_never_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms read the whole batch, and gradients would keep every piece alive anyway."""
    monkeypatch.setattr(backbone, "PIECE_ELEMENTS", 1)
    part = Counted()
    in_pieces(part.eval(), torch.randn(7, 3, 4, 4))
    with torch.no_grad():
        in_pieces(part.train(), torch.randn(7, 3, 4, 4))
    assert part.images == [7, 7]


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_networks_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(effvit.create_model(name, num_classes=5)).double()
    assert isinstance(model, Backbone)
    images = torch.randn(3, 3, 64, 96, dtype=torch.float64)
    expected = [model(images), *model.forward_stages(images)]
    monkeypatch.setattr(backbone, "PIECE_ELEMENTS", 1)
    for whole, pieces in zip(expected, [model(images), *model.forward_stages(images)], strict=True):
        torch.testing.assert_close(pieces, whole)
