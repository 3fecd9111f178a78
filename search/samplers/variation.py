"""New networks from known ones: single changes of an axis, and crossings of two parents."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from effvit import ModelConfig
from spaces.axes import Choices, Value
from spaces.space import Space


class Variation:
    """Varies networks as choices, and builds only what keeps all rules.

    Args:
        space: Where networks come from.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._choices: dict[ModelConfig, Choices] = {}

    def choices(self, config: ModelConfig) -> Choices:
        """Choices that make a network of the space; of several always the same ones."""
        if config not in self._choices:
            self._choices[config] = next(self._space.encodings(config))
        return self._choices[config]

    def parameters(self, choices: Choices) -> dict[str, Value]:
        """Optuna's parameters for choices."""
        return {axis.parameter: axis.write(choices[axis.name]) for axis in self._space.axes}

    def neighbours(self, config: ModelConfig) -> dict[ModelConfig, Choices]:
        """All networks one change of one axis away from a network's :meth:`choices`."""
        return self._built(config, self._space.changes(self.choices(config)))

    def crossings(
        self, config: ModelConfig, mate: ModelConfig, count: int, rng: np.random.Generator
    ) -> dict[ModelConfig, Choices]:
        """Networks that take each axis from one of two parents, whichever the toss of a coin says.

        Args:
            config: A network of the space.
            mate: Another one.
            count: Tosses; those that break a rule, or give a parent back, make no network.
            rng: Tosses.

        Returns:
            Distinct networks, with choices that make them.
        """
        one, other = self.choices(config), self.choices(mate)
        differing = [name for name in one if one[name] != other[name]]
        made: list[Choices] = []
        for toss in rng.random((count, len(differing))) < 0.5:
            taken = [name for name, swap in zip(differing, toss, strict=True) if swap]
            made.append({**one, **{name: other[name] for name in taken}})
        built = self._built(config, filter(self._space.holds, made))
        built.pop(mate, None)
        return built

    def _built(self, parent: ModelConfig, valid: Iterable[Choices]) -> dict[ModelConfig, Choices]:
        found: dict[ModelConfig, Choices] = {}
        for choices in valid:
            found.setdefault(self._space.build(choices), choices)
        found.pop(parent, None)
        return found
