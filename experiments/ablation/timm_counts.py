"""Parameters and MACs of networks that only timm has, by torch's counter."""

from __future__ import annotations

import timm
import torch

from effvit.config import Resolution
from effvit.counters import count_torch


def count(name: str, image_size: Resolution) -> tuple[int, int]:
    """Count a convolutional network of timm's.

    torch's counter sees convolutions, linear layers and matrix products, as ``effvit.Cost.macs``
    does, but nothing inside fused attention: networks with attention do not belong here.

    Args:
        name: Name in timm.
        image_size: Height and width of the image.

    Returns:
        Parameters, and MACs for one image.
    """
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        images = torch.empty(1, 3, *image_size)
    with torch.inference_mode():
        macs = count_torch(model, images)
    return sum(parameter.numel() for parameter in model.parameters()), macs
