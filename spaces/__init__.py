"""Which variants exist: axes, validity rules with their reasons, canonical form, exact counts.

Importing this package does not load torch: a space deals in configurations only.
"""

from collections.abc import Sequence

from effvit.config import unknown_name
from spaces.autoformer import AutoFormerSpace
from spaces.axes import Axis, InvalidVariant, Rule
from spaces.efficientvit import EfficientViTSpace
from spaces.hybrid import HybridSpace
from spaces.mobilevitv2 import MobileViTv2Space
from spaces.pit import PiTSpace
from spaces.sepvit import SepViTSpace
from spaces.space import Space

__all__ = ["SPACES", "Axis", "InvalidVariant", "Rule", "Space", "get_space", "list_spaces"]

SPACES: dict[str, type[Space]] = {
    "sepvit": SepViTSpace,
    "mobilevitv2": MobileViTv2Space,
    "efficientvit": EfficientViTSpace,
    "hybrid": HybridSpace,
    "autoformer": AutoFormerSpace,
    "pit": PiTSpace,
}


def list_spaces() -> list[str]:
    """Names of all spaces."""
    return list(SPACES)


def get_space(name: str, resolution: int | Sequence[int] | str = 224) -> Space:
    """Open a space at a resolution.

    Args:
        name: A name from :func:`list_spaces`.
        resolution: Design resolution of its networks in pixels, such as 224 or (512, 2048).

    Returns:
        The space.

    Raises:
        ConfigError: No such space (the nearest name is offered), no such resolution, or no valid
            network at this resolution.
    """
    if name not in SPACES:
        raise unknown_name("space", name, SPACES)
    return SPACES[name](resolution)
