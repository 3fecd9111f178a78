"""All zero-cost scores in one visible place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from effvit.config import unknown_name
from search.scores.attention import attention_entropy, attention_rank
from search.scores.common import Batch
from search.scores.expressivity import jacob_cov, naswot, zen
from search.scores.gradient import grad_balance, grad_norm, grad_ratio, zico
from search.scores.saliency import fisher, grasp, snip, synflow
from search.scores.synapses import dss, synaptic_diversity, synaptic_saliency

Direction = Literal["published", "assumed"]
"""Who says that larger is better: the paper, or this project. It is of all scores here."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A score.

    Attributes:
        function: Computes it from a network and a batch, and a generator if it is ``random``.
        paper: Where it comes from; its docstring says more.
        labels: Whether it reads targets.
        direction: Who says that larger is better.
        random: Whether it draws numbers.
    """

    function: Callable[..., float]
    paper: str
    labels: bool
    direction: Direction = "published"
    random: bool = False


SCORES: dict[str, Score] = {
    "synflow": Score(synflow, "arXiv 2006.05467", labels=False),
    "snip": Score(snip, "arXiv 1810.02340", labels=True),
    "grasp": Score(grasp, "arXiv 2002.07376", labels=True),
    "fisher": Score(fisher, "arXiv 1906.04113", labels=True),
    "grad_norm": Score(grad_norm, "arXiv 2101.08134", labels=True),
    "jacob_cov": Score(jacob_cov, "arXiv 2006.04647v1", labels=False),
    "naswot": Score(naswot, "arXiv 2006.04647v3", labels=False),
    "zen": Score(zen, "arXiv 2102.01063", labels=False, random=True),
    "zico": Score(zico, "arXiv 2301.11300", labels=True),
    "dss": Score(dss, "arXiv 2203.12217", labels=False),
    "synaptic_diversity": Score(synaptic_diversity, "arXiv 2203.12217", labels=False),
    "synaptic_saliency": Score(synaptic_saliency, "arXiv 2203.12217", labels=False),
    "attention_entropy": Score(
        attention_entropy, "arXiv 2303.06296", labels=False, direction="assumed"
    ),
    "attention_rank": Score(attention_rank, "arXiv 2103.03404", labels=False, direction="assumed"),
    "grad_ratio": Score(grad_ratio, "arXiv 1708.03888", labels=True, direction="assumed"),
    "grad_balance": Score(grad_balance, "AISTATS 2010", labels=True, direction="assumed"),
}


def compute(name: str, model: nn.Module, batch: Batch, seed: int = 0) -> float:
    """Compute a score by its name.

    The same arguments give the same value, bit for bit, on one machine with one number of threads.

    Args:
        name: One of :data:`SCORES`.
        model: The network; nothing of it changes.
        batch: What it is scored on.
        seed: Of what a random score draws.

    Raises:
        ConfigError: No such score, or the batch lacks what it needs.
    """
    if name not in SCORES:
        raise unknown_name("score", name, SCORES)
    score = SCORES[name]
    if score.random:
        return score.function(model, batch, torch.Generator().manual_seed(seed))
    return score.function(model, batch)
