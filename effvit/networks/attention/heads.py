"""Tokens as heads and back."""

from __future__ import annotations

from torch import Tensor


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Cut into parts, such as query, key and value, and these into heads.

    Args:
        x: (B, L, parts * C).
        parts: How many.
        heads: Attention heads h.

    Returns:
        ``parts`` tensors (B, h, L, C / h).
    """
    return x.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def join_heads(x: Tensor) -> Tensor:
    """(B, h, L, d) -> (B, L, h * d)."""
    return x.transpose(1, 2).flatten(2)
