"""A training that pauses at a rung goes on as if it had not, whatever becomes of its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from effvit.designs.sepvit import SepViTConfig
from search.proxy import ProxyRecipe, ProxyResult, evaluate
from search.rungs import read_paused, train_to_rung

pytestmark = pytest.mark.slow  # networks are trained

TINY = SepViTConfig(widths=(32, 64, 128, 256), depths=(1, 1, 1, 1), heads=(1, 2, 4, 8))
RECIPE = ProxyRecipe(name="rungs", steps=4, batch=2, evaluation_canvases=8)


@pytest.fixture(scope="module")
def whole() -> ProxyResult:
    return evaluate(TINY, RECIPE, 3)


def finished(memory: Path) -> ProxyResult:
    """What a training from its file, if that helps, ends with."""
    return evaluate(TINY, RECIPE, 3, paused=read_paused(memory, RECIPE.steps))


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "paused" / "0.pt"


def test_two_rungs_and_the_end_are_the_whole_training(whole: ProxyResult, memory: Path) -> None:
    for steps in (1, 3):
        result = train_to_rung(TINY, RECIPE, 3, steps, memory)
        assert result.steps == steps
        assert torch.load(memory)["step"] == steps
    assert finished(memory) == whole


@pytest.mark.parametrize("content", [None, b"", b"no file of torch", b"PK\x03\x04 cut off"])
def test_without_a_sound_file_it_is_trained_from_its_beginning(
    whole: ProxyResult, memory: Path, content: bytes | None
) -> None:
    if content is not None:
        memory.parent.mkdir()
        memory.write_bytes(content)
    assert finished(memory) == whole


def test_a_file_that_is_ahead_of_the_rung_is_not_used(memory: Path) -> None:
    first = train_to_rung(TINY, RECIPE, 3, 1, memory)
    train_to_rung(TINY, RECIPE, 3, 3, memory)
    assert train_to_rung(TINY, RECIPE, 3, 1, memory) == first


def test_without_room_for_the_file_it_goes_on_all_the_same(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_room)
    assert train_to_rung(TINY, RECIPE, 3, 1, memory).steps == 1
    assert not list(memory.parent.glob("*"))
