"""What all attention types share: where an attention stands, and the face of its design."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from effvit.cost import Count, Ledger, add_layer_norm, smaller
from effvit.designs.blocks import Shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """A stage as attention types read it: integers of one network, or columns of many.

    Attributes:
        shape: Height and width of the map at the design resolution.
        channels: Channels C.
        heads: Attention heads.
        window: Side of windows in pixels of the map.
        group: Windows down and across that GSA joins.
        stripe: Width of the stripes of cross-shaped windows in pixels of the map.
        sub_sampling: Stride of the convolution that sub-samples keys and values.
        length: Keys and values that Linformer projects to.
        scales: Kernel sides of multi-scale aggregation; 0 is none.
        representation: Index into :data:`effvit.designs.macro.REPRESENTATIONS`.
        pointwise: Index into :data:`effvit.designs.macro.POINTWISE`.
        shortcuts: 1 with shortcuts inside DSSA, else 0.
    """

    shape: Shape
    channels: Count
    heads: Count
    window: Count
    group: Count
    stripe: Count
    sub_sampling: Count
    length: Count
    scales: Sequence[Count]
    representation: Count
    pointwise: Count
    shortcuts: Count

    def cut(self, side: Count) -> Shape:
        """Height and width of a square of this side, cut to the map."""
        return smaller(side, self.shape[0]), smaller(side, self.shape[1])

    def covers(self, side: Count) -> Count:
        """1 where a square of this side covers the map, else 0."""
        return 1 * (side >= self.shape[0]) * (side >= self.shape[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionDesign(abc.ABC):
    """One attention, completely: of one network (integers), or of many (columns).

    Derived classes are made from a :class:`Site` and then hold all they need.

    Attributes:
        network: Where its module is, as ``"package.module:Class"``: torch is loaded only when a
            network is built.
        channels: Channels C of the map.
    """

    network: ClassVar[str]

    channels: Count

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """How a canonical configuration names it."""

    def problem(self) -> str | None:
        """The rule that keeps the module from being built, if any; of one network only."""
        return None

    def normal(self) -> AttentionDesign:
        """The one design that stands for all that build the same module; of one network only."""
        return self

    def settings(self) -> Mapping[str, int]:
        """The stage's settings it depends on, with values that lead here again."""
        return {}

    @abc.abstractmethod
    def add_cost(
        self, ledger: Ledger, name: str, *, shape: Shape, held: Count, repeat: Count = 1
    ) -> None:
        """Cost the first half of a block, x + attention(norm(x)), on a map.

        Args:
            ledger: Where to write.
            name: Place of the block in the network.
            shape: Height and width of the map that it runs on.
            held: Elements alive throughout the stage: the image, and the stage's input.
            repeat: How many such blocks there are.
        """

    def kept(self, shape: Shape) -> Count:  # noqa: ARG002 - most keep nothing at any size
        """Elements beside the map that stay alive until the block's end."""
        return 0

    def add_norm(self, ledger: Ledger, name: str, shape: Shape, repeat: Count) -> None:
        """Cost the norm before the attention of the block ``name``."""
        rows = shape[0] * shape[1]
        add_layer_norm(ledger, f"{name}.norm1", channels=self.channels, rows=rows, repeat=repeat)
