"""Networks for tests, with their types."""

from __future__ import annotations

import effvit
from effvit.networks.sepvit import Block, SepViT, Stage
from effvit.registry import ModelLike


def sepvit(model: ModelLike = "sepvit_lite", /, **overrides: object) -> SepViT:
    """A SepViT in evaluation mode."""
    built = effvit.create_model(model, **overrides)
    assert isinstance(built, SepViT)
    return built.eval()


def stage_of(model: SepViT, index: int) -> Stage:
    """One of the four stages."""
    stage = model.stages[index]
    assert isinstance(stage, Stage)
    return stage


def blocks_of(model: SepViT, index: int) -> list[Block]:
    """Blocks of a stage."""
    return [block for block in stage_of(model, index).blocks if isinstance(block, Block)]
