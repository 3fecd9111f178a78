"""Networks rewritten for inference: the same function in fewer operations."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ModuleT = TypeVar("ModuleT", bound=nn.Module)

NORM_NAMES = ("norm", "bn")
"""Where a module with a convolution ``conv`` has the norm that follows it; in timm ``bn``."""


def optimise_for_inference(model: ModuleT) -> ModuleT:
    """Fold every batch norm into the convolution before it.

    Outputs stay as they are but for rounding; parameters have other names and cannot be trained on.

    Args:
        model: A network; it stays as it is.

    Returns:
        A copy in evaluation mode.
    """
    optimised = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    for module in list(optimised.modules()):
        for name in NORM_NAMES:
            conv, norm = getattr(module, "conv", None), getattr(module, name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module.conv = fuse_conv_bn_eval(conv, norm)
                # timm's batch norms hold the activation that follows them.
                setattr(module, name, getattr(norm, "act", nn.Identity()))
    return optimised
