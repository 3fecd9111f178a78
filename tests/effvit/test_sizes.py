"""Any input size: padding that does not matter, tokens that follow the map."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import effvit
from effvit import ConfigError
from effvit.config import parse_resolution
from effvit.designs.macro import POINTWISE, REPRESENTATIONS
from effvit.networks.sepvit import SepViT, resample_tokens
from tests.effvit.models import blocks_of, sepvit
from tests.effvit.official import official_weights

WIDTHS = (8, 16, 24, 32)
SMALL: dict[str, object] = {
    "widths": WIDTHS,
    "heads": (1, 2, 3, 4),
    "depths": (1, 2, 2, 1),
    "num_classes": 5,
}


def small_model(**changes: object) -> SepViT:
    """A narrow network whose parts all matter: fresh tokens and scores would be near zero."""
    model = sepvit(**{**SMALL, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


@pytest.mark.parametrize(
    "size", [(224, 224), (256, 256), (288, 288), (384, 384), (96, 160), (97, 131), (32, 33)]
)
@torch.no_grad()
def test_maps_of_any_size(size: tuple[int, int]) -> None:
    model = small_model()
    maps = model.forward_stages(torch.randn(2, 3, *size))
    expected = [
        (2, -(-size[0] // stride), -(-size[1] // stride), width)
        for stride, width in zip((4, 8, 16, 32), WIDTHS, strict=True)
    ]
    assert [tuple(y.shape) for y in maps] == expected
    assert all(y.isfinite().all() for y in maps)
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


@torch.no_grad()
def test_a_street_scene() -> None:
    model = small_model()
    assert model(torch.randn(1, 3, 512, 2048)).isfinite().all()


@pytest.mark.parametrize("pointwise", POINTWISE)
@pytest.mark.parametrize("representation", REPRESENTATIONS)
@torch.no_grad()
def test_what_the_padding_holds_does_not_matter(
    representation: str, pointwise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(window_representation=representation, pointwise_attention=pointwise)
    image = torch.randn(2, 3, 101, 131)
    padded_with_zeros = model.forward_stages(image)
    calls = []
    pad = F.pad

    def pad_with_noise(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
        calls.append(amounts)
        real = pad(torch.ones_like(x), amounts)
        return pad(x, amounts) + (1 - real) * 1e3 * torch.randn_like(real)

    monkeypatch.setattr(F, "pad", pad_with_noise)
    padded_with_noise = model.forward_stages(image)
    assert calls
    for zeros, noise in zip(padded_with_zeros, padded_with_noise, strict=True):
        torch.testing.assert_close(zeros, noise, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_padded_window_is_a_smaller_window() -> None:
    """One window of 14 x 14 over a map of 12 x 10 attends like one of 12 x 10."""
    wide = small_model(windows=((7,), (7,), (14,), (7,)), image_size=(192, 160))
    exact = small_model(windows=((7,), (7,), (12,), (7,)), image_size=(192, 160))
    exact.load_state_dict(wide.state_dict())
    for block in blocks_of(wide, 2):
        block.attention.window = (14, 14)
    image = torch.randn(1, 3, 192, 160)
    torch.testing.assert_close(wide(image), exact(image), rtol=0, atol=1e-5)


# --- tokens at other sizes ----------------------------------------------------------------------


def test_tokens_stay_as_learned_on_their_own_grid() -> None:
    tokens = torch.randn(12, 1, 4)
    assert resample_tokens(tokens, (3, 4), (3, 4)) is tokens


def test_resampled_tokens_keep_their_place() -> None:
    """A ramp over the map stays that ramp at the new window centres, away from the border."""
    before, after = (4, 8), (8, 16)
    centres = (torch.arange(8) + 0.5) / 8
    ramp = centres.expand(4, 8).reshape(32, 1, 1)
    resampled = resample_tokens(ramp, before, after).unflatten(0, after)
    expected = ((torch.arange(16) + 0.5) / 16).expand(8, 16)
    torch.testing.assert_close(resampled[:, 1:-1, 0, 0], expected[:, 1:-1])
    constant = resample_tokens(torch.full((32, 1, 2), 3.0), before, (3, 5))
    torch.testing.assert_close(constant, torch.full((15, 1, 2), 3.0))


@torch.no_grad()
def test_official_weights_at_another_design_size() -> None:
    """Designed for 192 or only run there: the same tokens, resampled once or each time."""
    weights = official_weights("sepvit_lite")
    designed_for_224 = sepvit()
    designed_for_192 = sepvit(image_size=(192, 192))
    for model in (designed_for_224, designed_for_192):
        effvit.load_official_state_dict(model, weights)
    assert len(blocks_of(designed_for_224, 0)[0].token) == 8 * 8
    assert len(blocks_of(designed_for_192, 0)[0].token) == 7 * 7
    image = torch.randn(1, 3, 192, 192)
    torch.testing.assert_close(designed_for_192(image), designed_for_224(image), rtol=0, atol=1e-4)


def test_official_weights_lack_what_a_larger_design_adds() -> None:
    """Designed for 256, stage 3 has four windows of 14 x 14 where at 224 it has one."""
    model = effvit.create_model("sepvit_lite", image_size=(256, 256))
    with pytest.raises(ConfigError, match=r"missing names \['blocks\.2\.1\.win_tokens'"):
        effvit.load_official_state_dict(model, official_weights("sepvit_lite"))


# --- resolutions as users write them ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (224, (224, 224)),
        ("224", (224, 224)),
        ("512x2048", (512, 2048)),
        ("512X2048", (512, 2048)),
        ((96, 160), (96, 160)),
        ([96], (96, 96)),
    ],
)
def test_resolutions(value: int | str | Sequence[int], expected: tuple[int, int]) -> None:
    assert parse_resolution(value) == expected


@pytest.mark.parametrize("value", ["", "large", "224x", "1x2x3", (1, 2, 3), (), None, "22.4"])
def test_what_is_no_resolution(value: object) -> None:
    with pytest.raises(ConfigError, match="resolution must be like 224 or 512x2048"):
        parse_resolution(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "nearest"), [(0, 32), (-224, 32), ("31x224", 32), (16385, 16384)]
)
def test_sizes_out_of_range_offer_the_nearest(value: int | str, nearest: int) -> None:
    with pytest.raises(ConfigError, match=rf"nearest valid: {nearest}\b"):
        parse_resolution(value)
