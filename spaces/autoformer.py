"""The space AutoFormer-T (family: :mod:`effvit.designs.autoformer`), as the paper has it.

The paper searches widths 192, 216 and 240, 12 to 14 layers, and in each layer 3 or 4 heads of 64
channels and an MLP ratio of 3.5 or 4. The architecture that the paper publishes for this space has
layers with a ratio of 3 as well; so has the space here.

A layer behind the last one changes nothing, so that a network of 12 layers has one choice of heads
and ratio for each value that these axes have. The number of networks is the sum over depths of
(heads x ratios) to the power of the depth, times the widths.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from effvit import ModelConfig
from effvit.cost import CostArrays
from effvit.designs.autoformer import AutoFormerColumns, AutoFormerConfig, cost_arrays
from spaces.axes import Axis, Choices, InvalidVariant, Rule
from spaces.counted import Counted, Listed, Numbers, Product, Union, side_by_side
from spaces.space import Space
from spaces.stages import stage_integers, stage_names

MOST_LAYERS = 14
LAYERS = range(1, MOST_LAYERS + 1)
HEADS = stage_names("heads", LAYERS)
RATIOS = stage_names("twice_mlp_ratio", LAYERS)
_SEARCHED = ("width", "heads", "mlp_ratios")
"""Fields of the configuration that the axes set; the others stay at their defaults."""


class _Network(NamedTuple):
    """All that tells one network of the space from another; one entry a layer."""

    width: int
    heads: tuple[int, ...]
    twice_ratios: tuple[int, ...]


class AutoFormerSpace(Space):
    """AutoFormer variants: what no axis names is as in :class:`AutoFormerConfig`'s defaults."""

    name: ClassVar[str] = "autoformer"
    AXES: ClassVar[tuple[Axis, ...]] = (
        Axis("width", (192, 216, 240), "channels of the tokens"),
        Axis("depth", (12, 13, 14), "layers"),
        *(Axis(name, (3, 4), f"heads of layer {n}") for n, name in zip(LAYERS, HEADS, strict=True)),
        *(
            Axis(name, (6, 7, 8), f"twice the hidden over token channels of layer {n}")
            for n, name in zip(LAYERS, RATIOS, strict=True)
        ),
    )

    def _make_rules(self) -> tuple[Rule, ...]:
        return ()

    # --- networks -------------------------------------------------------------------------------

    def _count(self) -> Counted[Any]:
        forms = [self._layers(depth) for depth in self._axis["depth"].integers]
        return Product(Listed(self._axis["width"].integers), Union(forms))

    def _layers(self, depth: int) -> Counted[tuple[Any, ...]]:
        """Heads and ratios of so many layers, and 0 for those behind."""
        return Product(
            *(
                Product(
                    *(Listed(self._axis[name].integers) for name in names[:depth]),
                    *[Listed([0])] * (MOST_LAYERS - depth),
                )
                for names in (HEADS, RATIOS)
            )
        )

    def _numbered(self, parts: Any) -> AutoFormerConfig:  # noqa: ANN401 - as in the base class
        width, layers = parts
        heads, twice_ratios = (tuple(filter(None, entries)) for entries in layers)
        return self._config(_Network(width, heads, twice_ratios))

    def _costs(self, numbers: Numbers) -> CostArrays:
        width, layers = self._networks.columns(numbers)
        heads, twice_ratios = (
            side_by_side([layer.integers() for layer in entries]) for entries in layers
        )
        columns = AutoFormerColumns.from_configs([AutoFormerConfig(image_size=self.resolution)])
        return cost_arrays(
            columns.varied(
                width=width.integers(),
                heads=heads,
                head_widths=columns.head_widths[0, 0] * (heads > 0),
                hidden=width.integers()[:, None] * twice_ratios // 2,
            )
        )

    def _config(self, network: _Network) -> AutoFormerConfig:
        return AutoFormerConfig(
            image_size=self.resolution,
            width=network.width,
            heads=network.heads,
            mlp_ratios=tuple(twice / 2 for twice in network.twice_ratios),
        )

    def _identity(self, choices: Choices) -> _Network:
        depth = int(choices["depth"])
        return _Network(
            int(choices["width"]),
            stage_integers(choices, HEADS[:depth]),
            stage_integers(choices, RATIOS[:depth]),
        )

    def _build(self, choices: Choices) -> AutoFormerConfig:
        return self._config(self._identity(choices))

    # --- the way back ---------------------------------------------------------------------------

    def encodings(self, config: ModelConfig) -> Iterator[Choices]:
        """The valid choices that make this same network: all values of layers that it has not."""
        if not isinstance(config, AutoFormerConfig):
            raise InvalidVariant(
                f"space autoformer holds family autoformer, got family {config.family}"
            )
        network = config.canonical()
        shown: dict[str, Sequence[object]] = {"width": (network.width,), "depth": (network.depth,)}
        for names, values in (
            (HEADS, network.heads),
            (RATIOS, tuple(2 * ratio for ratio in network.mlp_ratios)),
        ):
            shown |= {
                name: self._axis[name].values if value is None else (value,)
                for name, value in itertools.zip_longest(names, values[:MOST_LAYERS])
            }
        choices = self._combined(shown)
        self._check_fixed(network, _SEARCHED)
        return choices
