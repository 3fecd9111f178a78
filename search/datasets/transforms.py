"""What a transform is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from PIL import Image
from torch import Tensor

Transform: TypeAlias = Callable[[Image.Image], Tensor]
"""From an RGB image to the tensor (3, H, W) that a network reads."""
