"""What a search space is: axes, rules, and the distinct networks they make.

A choice is one value for every axis. Choices that break no :class:`Rule` make a network; several
choices may make the same one (a larger window than the map is the whole map, a group count that no
block reads changes nothing). A space counts, samples and walks *networks*, not choices: each once,
always in canonical form, so that equal networks are equal configurations.
"""

from __future__ import annotations

import abc
import functools
import itertools
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import BaseTrial

from effvit import ModelConfig, list_models, model_config, model_costs
from effvit.config import ConfigError, parse_resolution, unknown_name
from effvit.cost import ArrayLedger, CostArrays
from spaces.axes import Axis, Choices, InvalidVariant, Rule, Value
from spaces.counted import Counted, Numbers

Parameters: TypeAlias = Mapping[str, Value]
"""The same as Optuna holds it: by :attr:`Axis.parameter`, some values as positions."""

COSTED = 2**16
"""Networks whose columns are made at a time: a million at once would fill the memory's caches."""


class Space(abc.ABC):
    """A search space at one resolution.

    Args:
        resolution: Design resolution of all networks, such as 224 or (512, 2048), in pixels.
        values: Other values for some axes, by the axis' name; the rest keep those of
            :attr:`AXES`.

    Attributes:
        name: Name of the space.
        AXES: All axes with all their values.
        resolution: ``(height, width)`` in pixels.
        axes: The axes of this space, in order.
        rules: What makes choices invalid, each with its reason.

    Raises:
        ConfigError: No such resolution, axis or value, or the space holds no valid network.
    """

    name: ClassVar[str]
    AXES: ClassVar[tuple[Axis, ...]]

    def __init__(
        self,
        resolution: int | Sequence[int] | str = 224,
        values: Mapping[str, Sequence[Value]] | None = None,
    ) -> None:
        self.resolution = parse_resolution(resolution)
        changes = dict(values or {})
        for name in changes:
            if name not in {axis.name for axis in self.AXES}:
                raise unknown_name("axis", name, [axis.name for axis in self.AXES])
        self.axes = tuple(
            axis.restricted(changes[axis.name]) if axis.name in changes else axis
            for axis in self.AXES
        )
        self.rules = self._make_rules()
        self._axis = {axis.name: axis for axis in self.axes}
        self._rules_reading = {
            axis.name: tuple(rule for rule in self.rules if axis.name in rule.reads)
            for axis in self.axes
        }
        self._networks = self._count()
        if not self.size():
            height, width = self.resolution
            raise ConfigError(
                f"space {self.name} holds no valid network at {height} x {width} pixels: "
                "every choice breaks a rule"
            )

    # --- what a family says -------------------------------------------------------------------

    @abc.abstractmethod
    def _make_rules(self) -> tuple[Rule, ...]:
        """All rules, for this resolution."""

    @abc.abstractmethod
    def _count(self) -> Counted[Any]:
        """The parts of all distinct valid networks, each once; :attr:`axes` and rules are set."""

    @abc.abstractmethod
    def _numbered(self, parts: Any) -> ModelConfig:  # noqa: ANN401 - whatever the family counts
        """Make the canonical configuration of what :meth:`_count` combines."""

    def _costs(self, numbers: Numbers) -> CostArrays:
        """Cost networks by their numbers, one or more.

        Here configuration by configuration. A family whose columns can be made of columns of parts
        does that instead.
        """
        return model_costs([self.unrank(int(number)) for number in numbers])

    @abc.abstractmethod
    def encodings(self, config: ModelConfig) -> Iterator[Choices]:
        """All valid choices that make this same network, in a fixed order.

        Args:
            config: Any configuration, canonical or not; what acts in training only is ignored.

        Raises:
            InvalidVariant: The space does not contain it; raised at once, not while iterating.
        """

    @abc.abstractmethod
    def _identity(self, choices: Choices) -> Hashable:
        """Key of the network that valid choices make: equal exactly for equal networks."""

    @abc.abstractmethod
    def _build(self, choices: Choices) -> ModelConfig:
        """Canonical configuration of the network that valid choices make."""

    # --- what follows for all -----------------------------------------------------------------

    def size(self) -> int:
        """Exact number of distinct valid networks."""
        return self._networks.size

    def unrank(self, index: int) -> ModelConfig:
        """Return a network by its number.

        Args:
            index: 0 to ``size() - 1``; each number is another network, and each network has one.

        Raises:
            IndexError: The number is outside.
        """
        if not 0 <= index < self.size():
            raise IndexError(f"network numbers are 0 to {self.size() - 1}, got {index}")
        return self._numbered(self._networks.element(index))

    def costs(self, numbers: Numbers) -> CostArrays:
        """Cost networks by their numbers, without making their configurations if that can be.

        Args:
            numbers: (n,) for :meth:`unrank`, such as :meth:`draw` returns.

        Returns:
            At the design resolution, equal to what :func:`effvit.model_costs` says of them.

        Raises:
            IndexError: A number is outside.
        """
        if not len(numbers):
            return ArrayLedger(0).total()
        for end in (numbers.min(), numbers.max()):
            if not 0 <= end < self.size():
                raise IndexError(f"network numbers are 0 to {self.size() - 1}, got {end}")
        starts = range(0, len(numbers), COSTED)
        return CostArrays.joined([self._costs(numbers[start : start + COSTED]) for start in starts])

    def draw(self, rng: np.random.Generator, count: int) -> Numbers:
        """Draw numbers (n,) of networks, uniformly and independently."""
        return _uniform_indices(rng, self.size(), count)

    def sample(self, rng: np.random.Generator) -> ModelConfig:
        """Draw a network uniformly from all distinct valid ones."""
        return self.sample_many(rng, 1)[0]

    def sample_many(self, rng: np.random.Generator, count: int) -> list[ModelConfig]:
        """Draw networks uniformly and independently, the same as ``count`` calls of sample."""
        return [self.unrank(int(number)) for number in self.draw(rng, count)]

    def distributions(self) -> dict[str, BaseDistribution]:
        """The axes for Optuna, by parameter name."""
        return {axis.parameter: axis.distribution for axis in self.axes}

    def suggest(self, trial: BaseTrial) -> ModelConfig:
        """Let an Optuna trial choose a network.

        Raises:
            InvalidVariant: Its choices break a rule; all its parameters are set by then.
        """
        return self.decode({axis.parameter: axis.suggest(trial) for axis in self.axes})

    def decode(self, params: Parameters) -> ModelConfig:
        """Return the network that Optuna's parameters make.

        Raises:
            InvalidVariant: A parameter is missing, unknown or has no such value, or a rule is
                broken; the message holds all reasons.
        """
        choices = self._read(params)
        broken = self._broken(choices)
        if broken:
            raise InvalidVariant("; ".join(broken))
        return self._build(choices)

    def violations(self, params: Parameters) -> list[str]:
        """Why parameters make no valid network: one line for each reason, none if they do."""
        try:
            choices = self._read(params)
        except InvalidVariant as error:
            return [str(error)]
        return self._broken(choices)

    def encode(self, config: ModelConfig) -> dict[str, Value]:
        """Return Optuna's parameters for a network: of several, always the same ones.

        Raises:
            InvalidVariant: The space does not contain it; the message says why.
        """
        choices = next(self.encodings(config))
        return {axis.parameter: axis.write(choices[axis.name]) for axis in self.axes}

    def contains(self, config: ModelConfig) -> bool:
        """Whether the network is one of the space's; what acts in training only is ignored."""
        try:
            self.encodings(config)
        except InvalidVariant:
            return False
        return True

    def family_variants(self) -> dict[str, ModelConfig]:
        """Published variants of the family by name, as published: the space may lack some."""
        family = self._first.family
        written = {name: model_config(name) for name in list_models()}
        return {name: config for name, config in written.items() if config.family == family}

    def published(self) -> dict[str, ModelConfig]:
        """Published variants that the space contains at its resolution, by name.

        They come as the space makes them: canonical, without what acts in training only.
        """
        found = {}
        for name, written in self.family_variants().items():
            config = written.replace(image_size=self.resolution)
            if self.contains(config):
                found[name] = self._build(next(self.encodings(config)))
        return found

    def neighbours(self, config: ModelConfig) -> list[ModelConfig]:
        """Networks one change of one axis away, each once, without ``config`` itself.

        A change is a step up or down an ordered axis, or any other value of a categorical one.
        Every way to choose ``config`` counts, so that neighbours are mutual.

        Args:
            config: A network of the space, canonical or not.

        Returns:
            Valid networks of the space, in a fixed order.

        Raises:
            InvalidVariant: The space does not contain ``config``.
        """
        found: dict[Hashable, Choices] = {}
        own: Hashable = None
        for choices in self.encodings(config):
            own = self._identity(choices)
            for changed in self.changes(choices):
                found.setdefault(self._identity(changed), changed)
        found.pop(own, None)
        return [self._build(choices) for choices in found.values()]

    def holds(self, choices: Choices) -> bool:
        """Whether choices of all axes keep all rules."""
        return all(rule.holds(choices) for rule in self.rules)

    def build(self, choices: Choices) -> ModelConfig:
        """Return the network that valid choices make, canonical; nothing is checked."""
        return self._build(choices)

    def changes(self, choices: Choices) -> Iterator[Choices]:
        """Valid choices that differ from valid ``choices`` by one change of one axis."""
        for axis in self.axes:
            for value in axis.beside(choices[axis.name]):
                changed = {**choices, axis.name: value}
                if all(rule.holds(changed) for rule in self._rules_reading[axis.name]):
                    yield changed

    def _read(self, params: Parameters) -> dict[str, Value]:
        known = [axis.parameter for axis in self.axes]
        missing = [name for name in known if name not in params]
        if missing:
            raise InvalidVariant(f"parameters are missing: {', '.join(missing)}")
        for name in params:
            if name not in known:
                raise InvalidVariant(str(unknown_name("parameter", name, known)))
        return {axis.name: axis.read(params[axis.parameter]) for axis in self.axes}

    def _broken(self, choices: Choices) -> list[str]:
        """One line for each rule that full choices break, with the nearest valid choice."""
        return [
            f"{rule.statement(choices)} ({rule.reason}; {self._nearest(rule, choices)})"
            for rule in self.rules
            if not rule.holds(choices)
        ]

    def _combined(self, shown: Mapping[str, Sequence[object]]) -> Iterator[Choices]:
        """All valid choices that give each axis one of the values that a configuration shows.

        Args:
            shown: For each axis one or more values; 4.0 stands for 4.

        Raises:
            InvalidVariant: An axis has no such value, or all choices break a rule; raised at once.
        """
        options = [
            [axis.read(axis.write(value)) for value in shown[axis.name]] for axis in self.axes
        ]
        found: list[Choices] = [
            dict(zip(self._axis, values, strict=True)) for values in itertools.product(*options)
        ]
        valid = [choices for choices in found if self.holds(choices)]
        if not valid:
            raise InvalidVariant("; ".join(self._broken(found[0])))
        return iter(valid)

    def _check_fixed(self, config: ModelConfig, searched: Collection[str]) -> None:
        """Hold that what no axis names is as in all the space's networks.

        Args:
            config: A canonical configuration of the space's family.
            searched: Fields that axes set; what acts in training only is ignored too.

        Raises:
            InvalidVariant: A field differs.
        """
        for name in config.field_names():
            if name in searched or name in config.TRAINING_FIELDS:
                continue
            if getattr(config, name) != getattr(self._first, name):
                raise InvalidVariant(
                    f"{name} must be {getattr(self._first, name)!r} in this space, "
                    f"got {getattr(config, name)!r}"
                )

    @functools.cached_property
    def _first(self) -> ModelConfig:
        return self.unrank(0)

    def _nearest(self, rule: Rule, choices: Choices) -> str:
        """Fewest changes of the axes that a rule reads after which it holds."""
        axes = [self._axis[name] for name in rule.reads]
        best: tuple[int, dict[str, Value]] | None = None
        for values in itertools.product(*(axis.values for axis in axes)):
            changes = {
                axis.name: value
                for axis, value in zip(axes, values, strict=True)
                if value != choices[axis.name]
            }
            steps = sum(self._axis[n].distance(choices[n], value) for n, value in changes.items())
            if (best is None or steps < best[0]) and rule.holds({**choices, **changes}):
                best = steps, changes
        if best is None:
            return "no values of these axes keep it"
        return "nearest valid: " + ", ".join(f"{name} {value}" for name, value in best[1].items())

    def _valid_choices(self, *names: str) -> Iterator[dict[str, Value]]:
        """All choices for some axes that keep the rules reading only these.

        In order of the axes' values, the last name varying fastest. A rule cuts as soon as all
        that it reads is chosen.
        """
        checks = [
            [
                rule
                for rule in self._rules_reading[name]
                if set(rule.reads) <= set(names[: depth + 1])
            ]
            for depth, name in enumerate(names)
        ]

        def extend(chosen: dict[str, Value], depth: int) -> Iterator[dict[str, Value]]:
            if depth == len(names):
                yield chosen
                return
            for value in self._axis[names[depth]].values:
                longer = {**chosen, names[depth]: value}
                if all(rule.holds(longer) for rule in checks[depth]):
                    yield from extend(longer, depth + 1)

        return extend({}, 0)


def _uniform_indices(rng: np.random.Generator, size: int, count: int) -> Numbers:
    """Draw integers (n,) from 0 to ``size - 1`` uniformly, however large ``size`` is."""
    if size <= 2**63:
        return rng.integers(size, size=count)
    drawn = np.empty(count, object)
    drawn[:] = [_large_index(rng, size) for _ in range(count)]
    return drawn


def _large_index(rng: np.random.Generator, size: int) -> int:
    bits = (size - 1).bit_length()
    while True:  # at least half of the draws are below size
        index = int.from_bytes(rng.bytes(-(-bits // 8)), "little") >> (-bits % 8)
        if index < size:
            return index
