"""Axes and rules: what a space varies, and what makes choices invalid."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import BaseTrial

from effvit.config import ConfigError, unknown_name

Value: TypeAlias = int | str
"""A value of an axis: an integer of an ordered axis, a name of a categorical one."""

Choices: TypeAlias = Mapping[str, Value]
"""A value for each axis, by the axis' name."""


class InvalidVariant(ConfigError):  # noqa: N818 - says what is invalid; the base says it is an error
    """Choices make no valid network of the space; the message holds the reasons."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """One thing that a space varies.

    Attributes:
        name: Name of the axis.
        values: What it may be: ascending integers (an ordered axis) or names (a categorical one).
        description: What it is, in one line, with its unit.
    """

    name: str
    values: tuple[Value, ...]
    description: str

    def __post_init__(self) -> None:
        kinds = {type(value) for value in self.values}
        if kinds not in ({int}, {str}) or len(set(self.values)) != len(self.values):
            raise ConfigError(
                f"axis {self.name} needs distinct values, all integers or all names, "
                f"got {self.values!r}"
            )
        if self.ordered and list(self.values) != sorted(self.values):
            raise ConfigError(
                f"axis {self.name} needs ascending values, got {self.values!r} "
                f"(nearest valid: {tuple(sorted(self.values))!r})"
            )

    @property
    def ordered(self) -> bool:
        """Whether the values have an order: then they are integers."""
        return isinstance(self.values[0], int)

    @property
    def integers(self) -> tuple[int, ...]:
        """The values of an ordered axis."""
        return tuple(int(value) for value in self.values)

    @functools.cached_property
    def distribution(self) -> BaseDistribution:
        """The axis for Optuna.

        Ordered values are integers: themselves where evenly spaced, else their positions from 0,
        so that samplers see neighbouring values at equal distances.
        """
        if not self.ordered:
            return CategoricalDistribution(self.values)
        codes = self._codes
        step = int(codes[1]) - int(codes[0]) if len(codes) > 1 else 1
        return IntDistribution(int(codes[0]), int(codes[-1]), step=step)

    @property
    def parameter(self) -> str:
        """Name of Optuna's parameter; it says so where values are given as positions."""
        return self.name if self._codes == self.values else f"{self.name}_index"

    @functools.cached_property
    def _codes(self) -> tuple[Value, ...]:
        """What Optuna holds for each value."""
        steps = (
            {int(b) - int(a) for a, b in itertools.pairwise(self.values)} if self.ordered else ()
        )
        return self.values if len(steps) <= 1 else tuple(range(len(self.values)))

    def suggest(self, trial: BaseTrial) -> Value:
        """Let a trial choose; returns what Optuna holds for the value."""
        distribution = self.distribution
        if isinstance(distribution, IntDistribution):
            low, high = distribution.low, distribution.high
            return trial.suggest_int(self.parameter, low, high, step=distribution.step)
        return str(trial.suggest_categorical(self.parameter, self.values))

    def read(self, code: object) -> Value:
        """Return the value for what Optuna holds.

        Raises:
            InvalidVariant: There is no such value; the message offers the nearest.
        """
        return self.values[self._position(self.parameter, self._codes, code)]

    def write(self, value: object) -> Value:
        """Return what Optuna holds for a value.

        Raises:
            InvalidVariant: There is no such value; the message offers the nearest.
        """
        return self._codes[self._position(self.name, self.values, value)]

    def _position(self, name: str, known: tuple[Value, ...], value: object) -> int:
        if value in known:
            return known.index(value)
        if self.ordered and isinstance(value, int | float):
            near: Value | None = min(known, key=lambda entry: abs(int(entry) - value))
        else:
            names = [str(entry) for entry in known]
            near = next(iter(difflib.get_close_matches(str(value), names, n=1)), None)
        hint = "" if near is None else f" (nearest valid: {near})"
        listed = ", ".join(map(str, known))
        raise InvalidVariant(f"{name} must be one of {listed}, got {value!r}{hint}")

    def beside(self, value: Value) -> tuple[Value, ...]:
        """Values one change away: a step down or up if ordered, else all others."""
        if not self.ordered:
            return tuple(other for other in self.values if other != value)
        at = self.values.index(value)
        return self.values[max(at - 1, 0) : at] + self.values[at + 1 : at + 2]

    def distance(self, a: Value, b: Value) -> int:
        """Number of single changes from one value to the other."""
        return abs(self.values.index(a) - self.values.index(b)) if self.ordered else int(a != b)

    def restricted(self, values: Sequence[Value]) -> Axis:
        """Return the axis with other values.

        Raises:
            ConfigError: None are given, a categorical one is unknown, they are not ascending, or
                they are of another kind.
        """
        if not values or type(values[0]) is not type(self.values[0]):
            kind = "integers" if self.ordered else "names"
            raise ConfigError(f"axis {self.name} needs one or more {kind}, got {values!r}")
        if not self.ordered:
            for value in values:
                if value not in self.values:
                    raise unknown_name(self.name, value, map(str, self.values))
        return dataclasses.replace(self, values=tuple(values))


@dataclasses.dataclass(frozen=True)
class Rule:
    """What makes choices invalid.

    Attributes:
        name: Name of the rule.
        reason: Why it is one.
        reads: The axes it depends on.
        holds: Whether choices (at least of these axes) keep it.
        statement: What it demands and the values that break it, in words.
    """

    name: str
    reason: str
    reads: tuple[str, ...]
    holds: Callable[[Choices], bool]
    statement: Callable[[Choices], str]
