"""TF-TAS's indicator: synaptic diversity of attention and synaptic saliency of the rest.

Zhou et al., "Training-free Transformer Architecture Search" (CVPR 2022, arXiv 2203.12217). Weights
flow as in :func:`search.scores.saliency.synflow`: absolute values, an image of ones, R the sum of
all outputs. With ``|.|_nuc`` the nuclear norm, which grows with the rank,

    diversity = sum over attention's weights of |dR/dW|_nuc |W|_nuc
    saliency = sum over all others of sum |W dR/dW|
    DSS = diversity + saliency

Attention's weights are those of layers inside a module whose name says so, ``attention`` or
``attn``. Larger is better, as published. All three are given as logarithms.
"""

from __future__ import annotations

from torch import nn

from search.scores.common import Batch, log_of, weights
from search.scores.saliency import synaptic_flow


def dss(model: nn.Module, batch: Batch) -> float:
    """Synaptic diversity plus synaptic saliency, its logarithm.

    Args:
        model: The network.
        batch: Only the shape and device of the images are read.
    """
    return log_of(synaptic_flow(model, batch, _attention_places(model)).values())


def synaptic_diversity(model: nn.Module, batch: Batch) -> float:
    """The part of :func:`dss` that attention has; arguments as there.

    A network without attention has the logarithm of the smallest positive float.
    """
    places = _attention_places(model)
    flow = synaptic_flow(model, batch, places)
    return log_of(flow[place] for place in places)


def synaptic_saliency(model: nn.Module, batch: Batch) -> float:
    """The part of :func:`dss` that the other layers have; arguments as there."""
    places = _attention_places(model)
    flow = synaptic_flow(model, batch)
    return log_of(value for place, value in flow.items() if place not in places)


def _attention_places(model: nn.Module) -> frozenset[str]:
    return frozenset(
        place
        for place in weights(model)
        if any(part in ("attention", "attn") for part in place.split("."))
    )
