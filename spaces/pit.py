"""The space of PiT variants that ViT-Bench-101 draws from (family: :mod:`effvit.designs.pit`).

Wei et al., "Auto-Prox: Training-Free Vision Transformer Architecture Search via Automatic Proxy
Discovery" (arXiv 2312.09059, AAAI 2024), as its released configuration lists it: all three stages
share the width of a head and the MLP ratio; heads and depths are chosen for each stage. PiT-Ti is a
member. The benchmark itself trains networks of 12 to 14 blocks only.

The convolution between two stages multiplies channels by a whole number, so heads, all powers of 2
here, never shrink. No two choices make the same network: the size is the number of such chains of
heads, times the values of each other axis.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from effvit import ModelConfig
from effvit.cost import CostArrays
from effvit.designs.pit import STAGES, PiTColumns, PiTConfig, cost_arrays
from spaces.axes import Axis, Choices, InvalidVariant, Rule
from spaces.counted import Chain, Counted, Listed, Numbers, Product, side_by_side
from spaces.space import Space
from spaces.stages import growing_rules, stage_axes, stage_integers, stage_names

NUMBERS = range(1, STAGES + 1)
HEADS, DEPTHS = (stage_names(prefix, NUMBERS) for prefix in ("heads", "depth"))

_SEARCHED = ("head_widths", "heads", "depths", "mlp_ratio")
"""Fields of the configuration that the axes set; the others stay at their defaults."""


class _Network(NamedTuple):
    """All that tells one network of the space from another."""

    head_width: int
    heads: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratio: float


class PiTSpace(Space):
    """PiT variants: what no axis names is as in :class:`PiTConfig`'s defaults."""

    name: ClassVar[str] = "pit"
    AXES: ClassVar[tuple[Axis, ...]] = (
        Axis("head_width", (16, 24, 32, 40), "channels of a head, in all stages"),
        *stage_axes(HEADS, ((2, 4, 8),) * STAGES, "attention heads of"),
        *stage_axes(DEPTHS, ((1, 2, 3), (4, 6, 8), (2, 4, 6)), "blocks of"),
        Axis("mlp_ratio", (2, 4, 6, 8), "hidden over token channels of MLPs"),
    )

    def _make_rules(self) -> tuple[Rule, ...]:
        return tuple(growing_rules(HEADS))

    # --- networks -------------------------------------------------------------------------------

    def _count(self) -> Counted[Any]:
        return Product(
            Listed(self._axis["head_width"].integers),
            Chain([self._axis[name].integers for name in HEADS], operator.le),
            Product(*(Listed(self._axis[name].integers) for name in DEPTHS)),
            Listed(self._axis["mlp_ratio"].integers),
        )

    def _numbered(self, parts: Any) -> PiTConfig:  # noqa: ANN401 - as in the base class
        head, heads, depths, ratio = parts
        return self._config(_Network(head, heads, depths, float(ratio)))

    def _costs(self, numbers: Numbers) -> CostArrays:
        head, chain, depths, ratio = self._networks.columns(numbers)
        heads = side_by_side([number.integers() for number in chain])
        widths = heads * head.integers()[:, None]
        return cost_arrays(
            PiTColumns.from_configs([PiTConfig(image_size=self.resolution)]).varied(
                widths=widths,
                heads=heads,
                depths=side_by_side([depth.integers() for depth in depths]),
                hidden=widths * ratio.integers()[:, None],
            )
        )

    def _config(self, network: _Network) -> PiTConfig:
        return PiTConfig(
            image_size=self.resolution,
            head_widths=(network.head_width,) * STAGES,
            heads=network.heads,
            depths=network.depths,
            mlp_ratio=network.mlp_ratio,
        )

    def _identity(self, choices: Choices) -> _Network:
        return _Network(
            int(choices["head_width"]),
            stage_integers(choices, HEADS),
            stage_integers(choices, DEPTHS),
            float(choices["mlp_ratio"]),
        )

    def _build(self, choices: Choices) -> PiTConfig:
        return self._config(self._identity(choices))

    # --- the way back ---------------------------------------------------------------------------

    def encodings(self, config: ModelConfig) -> Iterator[Choices]:
        """The valid choices that make this same network: always one."""
        if not isinstance(config, PiTConfig):
            raise InvalidVariant(f"space pit holds family pit, got family {config.family}")
        network = config.canonical()
        if len(set(network.head_widths)) > 1:
            raise InvalidVariant(
                f"head_widths must be the same in all stages, got {network.head_widths} "
                f"(nearest valid: {(network.head_widths[0],) * STAGES})"
            )
        shown = {
            "head_width": network.head_widths[0],
            **dict(zip(HEADS, network.heads, strict=True)),
            **dict(zip(DEPTHS, network.depths, strict=True)),
            "mlp_ratio": network.mlp_ratio,
        }
        choices = self._combined({name: (value,) for name, value in shown.items()})
        self._check_fixed(network, _SEARCHED)
        return choices
