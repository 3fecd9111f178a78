"""Rules that configurations of several families share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from effvit.config import ConfigError


def check_count(name: str, values: Sequence[object], count: int, place: str) -> None:
    """Hold that a field has one entry for each place.

    Args:
        name: The field.
        values: Its entries.
        count: How many it needs.
        place: What the entries are for, as messages say it.

    Raises:
        ConfigError: Too few or too many.
    """
    if len(values) != count:
        raise ConfigError(f"{name} needs one entry for {place}, got {values!r}")


def check_entries(name: str, values: Sequence[int], count: int, place: str, least: int = 1) -> None:
    """Hold that a field has one entry for each place, none below ``least``; else as above.

    Raises:
        ConfigError: Too few or too many, or one that is too small.
    """
    check_count(name, values, count, place)
    if min(values) < least:
        raise ConfigError(f"{name} must be at least {least}, got {values!r}")


def check_scales(scales: Sequence[int]) -> None:
    """Hold that kernel sides are odd and ascending.

    Raises:
        ConfigError: They are not.
    """
    rising = all(a < b for a, b in itertools.pairwise(scales))
    if not rising or any(scale < 1 or scale % 2 == 0 for scale in scales):
        raise ConfigError(f"scales must be odd and ascending, got {tuple(scales)!r}")


def checked_ratio(name: str, ratio: float, widths: Sequence[int]) -> float:
    """Return a ratio of widths as a float: 4 and 4.0 are one network.

    Args:
        name: The field.
        ratio: Hidden channels over channels.
        widths: The channels that it multiplies.

    Raises:
        ConfigError: It is not positive, or gives no whole number of channels.
    """
    if not 0 < ratio < math.inf:
        raise ConfigError(f"{name} must be positive, got {ratio!r}")
    for width in widths:
        hidden = width * ratio
        if hidden != int(hidden):
            raise ConfigError(
                f"width times {name} must be an integer, got {width} x {ratio} "
                f"(nearest valid ratio: {max(1, round(hidden)) / width})"
            )
    return float(ratio)
