"""Where to put the names of points so that they hide neither each other nor the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DIRECTIONS = 12
"""Angles tried around a point."""

GAPS = (0.5, 1.0, 1.7, 2.6, 3.8, 5.2)
"""Distances tried between point and label, in heights of the label; nearest first."""


HIDING = 0.5
"""Cost of one hidden place, in heights of distance."""


class Box(NamedTuple):
    """A rectangle: left, bottom, right, top."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def middle(self) -> tuple[float, float]:
        """Its centre."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    @property
    def height(self) -> float:
        """From bottom to top."""
        return self.top - self.bottom

    def overlaps(self, other: Box) -> bool:
        """Whether the rectangles share an area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def inside(self, outer: Box) -> bool:
        """Whether no part is outside ``outer``."""
        return (
            self.left >= outer.left
            and self.right <= outer.right
            and self.bottom >= outer.bottom
            and self.top <= outer.top
        )

    def holds(self, x: float, y: float) -> bool:
        """Whether a point is inside."""
        return self.left <= x <= self.right and self.bottom <= y <= self.top

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The place inside that is nearest to a point."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    blocked: Sequence[Box],
    light: Sequence[tuple[float, float]],
    bounds: Box,
) -> list[Box | None]:
    """Place labels one after the other, each at the free place nearest to its point.

    Args:
        anchors: (n, 2) points to name, the most important first.
        sizes: (n, 2) width and height of each label, in the unit of the anchors.
        blocked: What no label may touch.
        light: Places that labels should not hide; hiding few is better than being far off.
        bounds: Labels stay inside.

    Returns:
        A box for each label, or None where every place inside is taken.
    """
    placed: list[Box | None] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        taken = [*blocked, *(box for box in placed if box is not None)]
        free = [
            (gap + HIDING * sum(box.holds(x, y) for x, y in light), order, box)
            for order, (gap, box) in enumerate(_candidates(anchor, size))
            if box.inside(bounds) and not any(box.overlaps(other) for other in taken)
        ]
        placed.append(min(free)[2] if free else None)
    return placed


def _candidates(anchor: tuple[float, float], size: tuple[float, float]) -> list[tuple[float, Box]]:
    """Boxes around a point and how far off each is, right and above first."""
    width, height = size
    boxes = []
    for gap in GAPS:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            reach = gap * height
            x = anchor[0] + math.cos(angle) * (width / 2 + reach)
            y = anchor[1] + math.sin(angle) * (height / 2 + reach)
            box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            boxes.append((gap, box))
    return boxes
