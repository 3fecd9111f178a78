"""Maps cut into windows and put together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from effvit.config import Resolution
from effvit.cost import ceil_div


def window_grid(shape: Resolution, window: Resolution) -> Resolution:
    """Windows down and across a map, the last ones sticking out where they do not divide it."""
    return ceil_div(shape[0], window[0]), ceil_div(shape[1], window[1])


def pad_to(x: Tensor, shape: Resolution) -> Tensor:
    """Fill up with zeros at the bottom and on the right, (B, H, W, ...) -> (B, *shape, ...)."""
    bottom, right = shape[0] - x.shape[1], shape[1] - x.shape[2]
    if not (bottom or right):
        return x
    return F.pad(x, (0, 0) * (x.ndim - 3) + (0, right, 0, bottom))


def cut(x: Tensor, grid: Resolution) -> Tensor:
    """(B, G_h * M_h, G_w * M_w, ...) -> (B * N, L, ...), for N = G_h * G_w windows of L pixels."""
    x = x.unflatten(1, (grid[0], -1)).unflatten(3, (grid[1], -1))
    return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def join(windows: Tensor, window: Resolution, grid: Resolution) -> Tensor:
    """(B * N, L, C) -> (B, G_h * M_h, G_w * M_w, C), undoing :func:`cut`."""
    x = windows.unflatten(1, window).unflatten(0, (-1, *grid)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)


def real_pixels(
    shape: Resolution, window: Resolution, grid: Resolution, device: torch.device
) -> Tensor | None:
    """(N, L), True at pixels of the map, False at padding; None where there is no padding."""
    rows, columns = grid[0] * window[0], grid[1] * window[1]
    if (rows, columns) == shape:
        return None
    down = torch.arange(rows, device=device) < shape[0]
    across = torch.arange(columns, device=device) < shape[1]
    return cut((down[:, None] & across)[None], grid)
