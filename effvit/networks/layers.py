"""Layers that several networks share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Softmax attention that runs fused, or as explicit matrix products that counters can see.

    Attributes:
        fused: Use torch's fused kernel. Counters of operations see nothing of it on a CPU, so they
            are run with ``fused = False``; see :func:`explicit_attention`.
    """

    fused: bool = True

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend, with the scale 1 / sqrt(d).

        Args:
            query: (batch, heads, L, d).
            key: (batch, heads, S, d).
            value: (batch, heads, S, d).
            mask: Broadcasts to (batch, heads, L, S); True where a key may be attended to.

        Returns:
            (batch, heads, L, d).
        """
        if self.fused:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1) @ value


@contextlib.contextmanager
def explicit_attention(model: nn.Module) -> Iterator[None]:
    """Run a network's attention as explicit matrix products, for operation counters."""
    modules = [m for m in model.modules() if isinstance(m, Attention)]
    before = [module.fused for module in modules]
    for module in modules:
        module.fused = False
    try:
        yield
    finally:
        for module, fused in zip(modules, before, strict=True):
            module.fused = fused
