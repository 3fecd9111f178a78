"""Loss and accuracy of a network on images."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from search.train.feed import Batch
from search.train.processes import Group
from search.train.settings import DTYPES, Precision


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a network reaches.

    Attributes:
        loss: Mean cross entropy, without label smoothing.
        top1: Share of images whose class is the most likely one.
        top5: Share of images whose class is among the five most likely ones.
        images: How many there are.
    """

    loss: float
    top1: float
    top5: float
    images: int


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    """Compute in a precision."""
    if precision not in DTYPES:
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[None] = torch.autocast(
        device.type, DTYPES[precision]
    )
    return context


@torch.inference_mode()
def measure(
    network: nn.Module, batches: Iterable[Batch], group: Group, precision: Precision = "float32"
) -> Measured:
    """Measure a network on batches, those of all processes together; it is left in eval mode."""
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=group.device)
    for images, targets in batches:
        wanted = targets.to(group.device, non_blocking=True)
        with autocast(group.device, precision):
            logits = network(images.to(group.device, non_blocking=True)).float()
        best = logits.topk(min(5, logits.shape[1])).indices == wanted[:, None]
        loss = F.cross_entropy(logits, wanted, reduction="sum")
        found = (loss, best[:, 0].sum(), best.sum(), torch.tensor(len(images)))
        sums += torch.stack([value.to(sums) for value in found])
    loss, top1, top5, count = group.sum(sums).tolist()
    return Measured(loss / count, top1 / count, top5 / count, int(count))
