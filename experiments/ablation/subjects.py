"""What a row of an ablation is about: a network, a part of one, one of timm's, or none."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from effvit import ModelConfig, model_cost
from effvit.config import Resolution, unknown_name


class Costs(NamedTuple):
    """Exact costs, batch 1: parameters, and MACs as :class:`effvit.Cost` counts them."""

    params: int
    macs: int


class Subject(Protocol):
    """What a row measures."""

    @property
    def key(self) -> str:
        """Short name, equal for equal subjects; part of file names."""

    @property
    def config(self) -> ModelConfig | None:
        """The configuration, where the subject is a whole network of this package."""

    @property
    def image_size(self) -> Resolution:
        """Height and width of the images it is measured on."""

    @property
    def absence(self) -> str:
        """Why nothing of it can be measured; empty where something can."""

    def costs(self) -> Costs | None:
        """Count parameters and MACs; None where there is nothing to count."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of this package at its design resolution."""

    config: ModelConfig
    absence: str = ""

    @property
    def key(self) -> str:
        """Its ``variant_id``."""
        return self.config.variant_id

    @property
    def image_size(self) -> Resolution:
        """Its design resolution."""
        return self.config.image_size

    def costs(self) -> Costs:
        """Count in closed form."""
        cost = model_cost(self.config)
        return Costs(cost.params, cost.macs)


BLOCKS: Mapping[str, str] = {
    "sepvit": "stages.{stage}.blocks.{block}",
    "swin": "layers.{stage}.blocks.{block}",
    "twins_svt": "blocks.{stage}.{block}",
}
"""Where each family keeps its blocks."""


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Some blocks of one stage of a network, without embeddings and position encodings.

    Attributes:
        network: The network that they are part of.
        stage: Its stage, from 0.
        blocks: Which blocks of the stage, from 0.
    """

    network: ModelConfig
    stage: int
    blocks: tuple[int, ...]
    config: None = None
    absence: str = ""

    @property
    def key(self) -> str:
        """The network's ``variant_id``, the stage and the blocks."""
        return "-".join([self.network.variant_id, f"stage{self.stage}", *map(str, self.blocks)])

    @property
    def image_size(self) -> Resolution:
        """The network's design resolution."""
        return self.network.image_size

    def modules(self) -> list[str]:
        """Dotted places of the blocks in the network.

        Raises:
            ConfigError: It is not known where the family keeps its blocks.
        """
        family = self.network.family
        if family not in BLOCKS:
            raise unknown_name("family with known blocks", family, BLOCKS)
        return [BLOCKS[family].format(stage=self.stage, block=block) for block in self.blocks]

    def costs(self) -> Costs:
        """Sum the closed form's operations inside the blocks."""
        places = tuple(f"{name}." for name in self.modules())
        inside = [
            op for op in model_cost(self.network).operations if f"{op.module}.".startswith(places)
        ]
        return Costs(sum(op.params for op in inside), sum(op.macs for op in inside))


@dataclasses.dataclass(frozen=True)
class TimmNetwork:
    """A network that only timm has, counted by torch's counter instead of a closed form.

    Attributes:
        name: Its name in timm.
        image_size: Height and width of the image.
    """

    name: str
    image_size: Resolution = (224, 224)
    config: None = None
    absence: str = ""

    @property
    def key(self) -> str:
        """timm's name and the resolution."""
        height, width = self.image_size
        return f"timm-{self.name}-{height}x{width}"

    def costs(self) -> Costs:
        """Build it without storage and count."""
        # By name: timm and torch are loaded when something is counted, not to list ablations.
        count = pkgutil.resolve_name("experiments.ablation.timm_counts:count")
        return Costs(*count(self.name, self.image_size))


@dataclasses.dataclass(frozen=True)
class Absent:
    """A published row that cannot be built here.

    Attributes:
        absence: Why.
    """

    absence: str
    config: None = None
    image_size: Resolution = (0, 0)

    @property
    def key(self) -> str:
        """Nothing is kept under it."""
        return "absent"

    def costs(self) -> None:
        """There is nothing to count."""
        return
