"""Networks as rows of numbers, for models that learn from a few hundred of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from effvit import ModelConfig
from effvit.cost import CostArrays
from search.samplers.setting import FloatArray
from spaces.axes import Axis, Choices, Value
from spaces.space import Space

CATEGORY = 0.5**0.5
"""Entry of a chosen category: two different ones are then as far apart as an axis' two ends."""

COSTS = 4
"""Entries of a row that encode costs, the last ones."""

COST_SPREAD = 1 / 3
"""Standard deviation of a cost's entry, so that most of its range is about as long as an axis."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Networks that may be proposed, with all that is known without evaluating them.

    Attributes:
        configs: (n,) networks.
        rows: (n, d), from :class:`Features`.
        losses: (n, m), the objectives that are exact; NaN for the others.
    """

    configs: Sequence[ModelConfig]
    rows: FloatArray
    losses: FloatArray

    def __len__(self) -> int:
        return len(self.configs)

    def some(self, places: NDArray[np.int64]) -> Candidates | None:
        """Those at some places; None if there are none."""
        if len(places) == 0:
            return None
        configs = [self.configs[place] for place in places]
        return Candidates(configs, self.rows[places], self.losses[places])


def joined(parts: Iterable[Candidates | None]) -> Candidates | None:
    """All candidates of several parts, in order; None if there are none."""
    some = [part for part in parts if part is not None]
    if not some:
        return None
    configs = [config for part in some for config in part.configs]
    rows = np.vstack([part.rows for part in some])
    return Candidates(configs, rows, np.vstack([part.losses for part in some]))


class Features:
    """Encodes networks: values of axes, then logarithms of closed-form costs.

    An ordered axis gives the place of its value from 0 to 1, a categorical one an entry for each
    value.

    Args:
        space: Where networks come from.
        typical: Costs of a sample of them, which set the scale.
    """

    def __init__(self, space: Space, typical: CostArrays) -> None:
        self._codes = {axis.name: _codes(axis) for axis in space.axes if len(axis.values) > 1}
        logs = _logs(typical)
        self._mean = logs.mean(axis=0)
        self._scale = COST_SPREAD / np.maximum(logs.std(axis=0), 1e-9)

    @property
    def width(self) -> int:
        """Length of a row."""
        return len(self._mean) + sum(len(next(iter(c.values()))) for c in self._codes.values())

    def rows(self, choices: Iterable[Choices], costs: CostArrays) -> FloatArray:
        """Encode networks (n,), given by choices that make them, and their costs as (n, d)."""
        return self.joined(choices, self.of_costs(costs))

    def of_costs(self, costs: CostArrays) -> FloatArray:
        """The last columns of rows, which hold for all choices that make a network."""
        columns: FloatArray = (_logs(costs) - self._mean) * self._scale
        return columns

    def joined(self, choices: Iterable[Choices], of_costs: FloatArray) -> FloatArray:
        """Rows (n, d) from choices and :meth:`of_costs`."""
        codes = [
            [number for name, code in self._codes.items() for number in code[made[name]]]
            for made in choices
        ]
        return np.hstack([np.array(codes), of_costs])


def _codes(axis: Axis) -> Mapping[Value, tuple[float, ...]]:
    """What stands for each value of an axis."""
    last = len(axis.values) - 1
    if axis.ordered:
        return {value: (place / last,) for place, value in enumerate(axis.values)}
    return {
        value: tuple(CATEGORY * (value == other) for other in axis.values) for value in axis.values
    }


def _logs(costs: CostArrays) -> FloatArray:
    columns = (costs.macs, costs.params, costs.activations, costs.peak_elements)
    return np.log(np.column_stack(columns).astype(np.float64))
