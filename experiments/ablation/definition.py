"""What an ablation is: data from which its rows, their costs and their measurements follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from effvit import ModelConfig
from effvit.config import ConfigError
from experiments.ablation.designs import (
    Axes,
    Design,
    LeaveOneOut,
    Path,
    Setting,
    base_setting,
    is_factorial,
)
from experiments.ablation.published import Published
from experiments.ablation.subjects import Absent, Network, Subject

Change = Mapping[str, Any] | Callable[[ModelConfig], ModelConfig]
"""What a level does to a configuration: fields to set, or a function of the configuration."""

Measure = Literal["latency", "proxy", "routing"]
"""What is measured beside costs, which every row has: latency ratio, proxy accuracy, second task.

The second task (:mod:`search.proxy.routing`) is measured of rows that have a proxy accuracy.
"""

ALL_MEASURES: frozenset[Measure] = frozenset({"latency", "proxy", "routing"})

ON, OFF = "on", "off"
"""Levels of a factor that is there or not; labels then show the factor's name only."""


class NotBuilt(ConfigError):  # noqa: N818 - a state of a row, named as one
    """Raised by a change where the combination cannot be built here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Factor:
    """Something that an ablation varies.

    Attributes:
        name: Its name in labels.
        levels: What each level does to the base configuration, the base level first.
    """

    name: str
    levels: Mapping[str, Change]

    def apply(self, level: str, config: ModelConfig) -> ModelConfig:
        """Change a configuration.

        Raises:
            ConfigError: The result breaks a rule of its family.
            NotBuilt: The combination cannot be built here.
        """
        change = self.levels[level]
        return change(config) if callable(change) else config.replace(**change)


def switch(name: str, **fields: Any) -> Factor:  # noqa: ANN401 - fields of a configuration
    """Make a factor that is off in the base configuration, and on with these fields set."""
    return Factor(name, {OFF: {}, ON: fields})


def becomes(config: ModelConfig) -> Change:
    """Make a change that puts another network in place of the one it gets."""
    return lambda _: config


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of an ablation's table.

    Attributes:
        label: Its name; also the name under which the published table has it.
        subject: What it measures.
        setting: Level of each factor; empty in a table whose rows are given one by one.
        group: Rows are compared with the first row of their group.
        stand_in: What the proxy trains instead of the subject, where it cannot train that.
    """

    label: str
    subject: Subject
    setting: Setting = dataclasses.field(default_factory=dict)
    group: str = ""
    stand_in: ModelConfig | None = None

    @property
    def trained(self) -> ModelConfig | None:
        """What the proxy trains; None where the row is no whole network of this package."""
        return self.stand_in or self.subject.config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
    """An ablation, or any other table that stands beside a published one.

    Its rows follow from ``base``, ``factors`` and ``design``, or are given one by one in ``given``.

    Attributes:
        question: What it asks, in one line.
        base: The configuration that factors change.
        base_label: Label of the row in which nothing is changed, or nothing is left out.
        factors: What is varied.
        design: Which combinations are run.
        grouped_by: Factor whose levels are compared within, if any.
        stand_ins: What the proxy trains instead of a row, by label, where it cannot train that.
        given: Rows, in place of base, factors and design.
        measures: What is measured beside costs.
        seeds: Trainings of each row; all rows share them, so that differences are paired.
        reference: Published model whose latency that of the rows is divided by.
        order: Highest number of factors in an interaction that is estimated (factorial designs).
        published: The published table that it stands beside.
        notes: What a reader must know, known discrepancies first.
    """

    question: str
    base: ModelConfig | None = None
    base_label: str = ""
    factors: tuple[Factor, ...] = ()
    design: Design | None = None
    grouped_by: str = ""
    stand_ins: Mapping[str, ModelConfig] = dataclasses.field(default_factory=dict)
    given: tuple[Row, ...] = ()
    measures: frozenset[Measure] = frozenset({"latency", "proxy"})
    seeds: int = 5
    reference: str = "sepvit_lite"
    order: int = 2
    published: Published | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        designed = self.base is not None and self.design is not None and bool(self.factors)
        if designed == bool(self.given):
            raise ConfigError(
                "an ablation has a base, factors and a design, or given rows; "
                f"{self.question!r} has {'both' if designed else 'neither'}"
            )
        if self.seeds < 1:
            raise ConfigError(f"seeds must be at least 1, got {self.seeds}")

    @property
    def axes(self) -> Axes:
        """Names of the levels of each factor, the base level first."""
        return {factor.name: tuple(factor.levels) for factor in self.factors}

    @property
    def factorial(self) -> bool:
        """Whether main effects and interactions can be estimated."""
        return is_factorial(self.design)

    def rows(self) -> list[Row]:
        """Build all rows, in the order of the table.

        Raises:
            ConfigError: A combination breaks a rule of its family, or two rows have one label.
        """
        rows = [*self.given, *self._designed()]
        labels = [row.label for row in rows]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"two rows are labelled {label!r}")
        return rows

    def _designed(self) -> Iterator[Row]:
        if self.design is None:
            return
        settings = self.design.settings(self.axes)
        against = settings[0] if isinstance(self.design, LeaveOneOut) else base_setting(self.axes)
        for setting in settings:
            label = self._label(setting, against)
            yield Row(
                label=label,
                subject=self._subject(setting),
                setting=setting,
                group=setting.get(self.grouped_by, ""),
                stand_in=self.stand_ins.get(label),
            )
            if isinstance(self.design, Path):
                against = setting

    def _subject(self, setting: Setting) -> Subject:
        assert self.base is not None
        config = self.base
        try:
            for factor in self.factors:
                config = factor.apply(setting[factor.name], config)
        except NotBuilt as reason:
            return Absent(str(reason))
        return Network(config)

    def _label(self, setting: Setting, against: Setting) -> str:
        """Name a row by what it changes; in a factorial design by all that is there."""
        named = {
            name: level
            for name, level in setting.items()
            if (level != OFF if self.factorial else level != against[name])
        }
        text = ", ".join(_words(name, level) for name, level in named.items())
        if not text:
            return self.base_label or ", ".join(_words(n, level) for n, level in setting.items())
        return f"+ {text}" if isinstance(self.design, Path) else text


def _words(name: str, level: str) -> str:
    """A level as labels write it."""
    return {ON: name, OFF: f"no {name}"}.get(level, f"{name} {level}")
