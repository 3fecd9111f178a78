"""What a trained network gets right, cell by cell."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.proxy.digits import BACKGROUND, DIGITS, Canvases, cue_distance
from search.proxy.feed import as_input
from search.proxy.network import ProxyNetwork

_EVALUATION_BATCH: Final = 50
_FAR: Final = 3  # cells from the cue; 3 x 3 convolutions of the last but one stage reach one or two


@dataclasses.dataclass(frozen=True)
class Scores:
    """Shares of cells, as in :class:`ProxyResult`."""

    accuracy: float
    relation: float
    recognition: float
    relation_near: float
    relation_far: float


def measure(network: ProxyNetwork, measured_on: Canvases) -> Scores:
    """Share of right decisions over all scored cells."""
    return scores_of(predict(network, measured_on), measured_on)


@torch.inference_mode()
def predict(network: ProxyNetwork, of: Canvases) -> Tensor:
    """Logits of all cells (n * 36, 11)."""
    network.eval()
    starts = range(0, len(of), _EVALUATION_BATCH)
    parts = [network(as_input(of.images[start : start + _EVALUATION_BATCH])) for start in starts]
    return torch.cat(parts).flatten(0, 1)


def scores_of(logits: Tensor, of: Canvases) -> Scores:
    """Share of right decisions, given the logits of all cells (n * 36, 11)."""
    decisions = _decisions(logits, of.targets)
    return Scores(**{name: float(right.double().mean()) for name, right in decisions.items()})


def _decisions(logits: Tensor, of: NDArray[np.int64]) -> dict[str, Tensor]:
    """Whether each decision is right, by the field of :class:`Scores` that is their share.

    Args:
        logits: (B * 36, 11).
        of: Targets of the cells (B, 36).
    """
    targets, distance = (torch.from_numpy(x).flatten() for x in (of, cue_distance(of)))
    background = targets == BACKGROUND
    relation = (background_logit(logits) > 0) == background
    digit = logits[:, :DIGITS].argmax(1) == targets
    scored = targets >= 0
    return {
        "accuracy": (relation & (background | digit))[scored],
        "relation": relation[scored],
        "recognition": digit[scored & ~background],
        "relation_near": relation[distance == 1],
        "relation_far": relation[distance >= _FAR],
    }


def background_logit(logits: Tensor) -> Tensor:
    """Log odds of background against all digits, for logits (..., 11)."""
    return logits[..., BACKGROUND] - logits[..., :DIGITS].logsumexp(-1)
