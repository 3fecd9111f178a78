"""Designs: which combinations of factor levels are run, in which order, as plain arithmetic.

A design knows factors by name only (:data:`Axes`): names of levels, the base level first. The first
row of every design is what all others are compared with.

For k factors of L_1, ..., L_k levels the designs have

    one factor at a time, path     1 + sum (L_f - 1) rows
    add one, leave one out         1 + k
    full factorial                 L_1 * ... * L_k
    fractional factorial           2 ^ (k - generated factors), two levels each
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Protocol

from effvit.config import ConfigError, unknown_name

Axes = Mapping[str, tuple[str, ...]]
"""Names of the levels of each factor, the base level first."""

Setting = dict[str, str]
"""One row: the level of each factor."""


class Design(Protocol):
    """Which settings are run."""

    @property
    def title(self) -> str:
        """Name for readers."""

    def settings(self, axes: Axes) -> list[Setting]:
        """Return the rows in order, the one that others are compared with first."""


@dataclasses.dataclass(frozen=True)
class OneFactor:
    """One factor at a time: the base, then every other level of every factor alone."""

    title: str = "one factor at a time"

    def settings(self, axes: Axes) -> list[Setting]:
        """Return ``1 + sum (L_f - 1)`` rows."""
        base = base_setting(axes)
        return [
            base,
            *(base | {name: level} for name, levels in axes.items() for level in levels[1:]),
        ]


@dataclasses.dataclass(frozen=True)
class AddOne:
    """The base, then the base with each factor alone at its last level."""

    title: str = "one added at a time"

    def settings(self, axes: Axes) -> list[Setting]:
        """Return ``1 + k`` rows."""
        base = base_setting(axes)
        return [base, *(base | {name: levels[-1]} for name, levels in axes.items())]


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
    """All factors at their last level, then each alone back at its base level."""

    title: str = "one left out at a time"

    def settings(self, axes: Axes) -> list[Setting]:
        """Return ``1 + k`` rows."""
        full = {name: levels[-1] for name, levels in axes.items()}
        return [full, *(full | {name: levels[0]} for name, levels in axes.items())]


@dataclasses.dataclass(frozen=True)
class Path:
    """From the base, every row moves one factor one level on and keeps what the rows above did."""

    title: str = "path, each row on top of the row above"

    def settings(self, axes: Axes) -> list[Setting]:
        """Return ``1 + sum (L_f - 1)`` rows."""
        rows = [base_setting(axes)]
        for name, levels in axes.items():
            rows += [rows[-1] | {name: level} for level in levels[1:]]
        return rows


@dataclasses.dataclass(frozen=True)
class FullFactorial:
    """All combinations of levels; the last factor changes fastest."""

    title: str = "full factorial"

    def settings(self, axes: Axes) -> list[Setting]:
        """Return ``L_1 * ... * L_k`` rows."""
        return [
            dict(zip(axes, levels, strict=True)) for levels in itertools.product(*axes.values())
        ]


@dataclasses.dataclass(frozen=True)
class FractionalFactorial:
    """A regular fraction of a full factorial of factors with two levels.

    With levels written -1 (base) and +1, a generated factor is the product of its generators: the
    full factorial runs over the other factors only. What it costs is that effects whose products of
    columns agree cannot be told apart (:func:`experiments.ablation.effects.effects` names them).

    Attributes:
        generators: For each generated factor the factors whose product it is.
    """

    generators: Mapping[str, tuple[str, ...]]
    title: str = "fractional factorial"

    def settings(self, axes: Axes) -> list[Setting]:
        """Return ``2 ^ (k - len(generators))`` rows.

        Raises:
            ConfigError: A factor does not have two levels, or a generator is no basic factor.
        """
        basic = {name: levels for name, levels in axes.items() if name not in self.generators}
        for name, levels in axes.items():
            if len(levels) != 2:
                raise ConfigError(
                    f"factors of a fraction have 2 levels, {name!r} has {len(levels)}"
                )
        for name, factors in self.generators.items():
            if name not in axes:
                raise unknown_name("generated factor", name, axes)
            for factor in factors:
                if factor not in basic:
                    raise unknown_name("generator", factor, basic)
        return [
            {name: levels[row[name] > 0] for name, levels in axes.items()}
            for row in self._signs(list(basic))
        ]

    def _signs(self, basic: list[str]) -> Iterator[dict[str, int]]:
        for signs in itertools.product((-1, 1), repeat=len(basic)):
            row = dict(zip(basic, signs, strict=True))
            made = {n: math.prod(row[f] for f in factors) for n, factors in self.generators.items()}
            yield row | made


def base_setting(axes: Axes) -> Setting:
    """All factors at their base level."""
    return {name: levels[0] for name, levels in axes.items()}


def is_factorial(design: Design | None) -> bool:
    """Whether main effects and interactions can be estimated from a design."""
    return isinstance(design, FullFactorial | FractionalFactorial)
