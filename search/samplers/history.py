"""What a study holds, read trial by trial as it grows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from effvit import ModelConfig
from spaces import InvalidVariant
from spaces.space import Space

CLAIM = "effvit:claim"
"""System attribute of a trial: its place in the order of proposals, and the variant's parameters.

It is written at once, before the parameters are, one by one, so that other workers know in time."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A finished, feasible trial.

    Attributes:
        config: The network.
        values: What the trial reported, as the study holds it.
        order: Place in the order of proposals; -1 for what was not proposed but enqueued. Unlike
            the trial's number it does not shift when a run is cut off and resumed.
    """

    config: ModelConfig
    values: tuple[float, ...]
    order: int


def network(config: ModelConfig) -> ModelConfig:
    """The network itself: canonical, without what acts in training only.

    Networks of a space come like this; configurations of other origin may not.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return config.replace(**{name: defaults[name] for name in config.TRAINING_FIELDS}).canonical()


class History:
    """The networks of a study, and what is known of them.

    A failed trial counts if its evaluation began, which is when all of its parameters are set: its
    network is not proposed again. One that failed before leaves nothing.

    Args:
        space: Where networks come from.

    Attributes:
        evaluated: All finished, feasible trials, as they were read.
        pending: Networks that are being or will be evaluated, by the number of their trial.
    """

    def __init__(self, space: Space) -> None:
        self.evaluated: list[Evaluated] = []
        self.pending: dict[int, ModelConfig] = {}
        self._space = space
        self._told: set[ModelConfig] = set()
        self._only_told = 0
        self._networks: dict[int, ModelConfig] = {}
        self._uses: Counter[ModelConfig] = Counter()
        self._orders: dict[ModelConfig, int] = {}
        self._unfinished: set[int] = set()
        self._read = 0

    def __contains__(self, config: ModelConfig) -> bool:
        """Whether a network, as the space makes it, is known."""
        return config in self._uses or config in self._told

    def __len__(self) -> int:
        """Number of distinct networks known."""
        return len(self._uses) + self._only_told

    def tell(self, config: ModelConfig) -> None:
        """Take in a network that the study may not show."""
        plain = network(config)
        if plain not in self:
            self._only_told += 1
        self._told.add(plain)

    def read(self, study: Study, own: int) -> None:
        """Catch up with the study.

        Args:
            study: The same one at every call.
            own: Number of the trial that asks, which is left out.
        """
        trials = study.get_trials(deepcopy=False)
        numbers = sorted(self._unfinished) + list(range(self._read, len(trials)))
        self._read = len(trials)
        for number in numbers:
            if number == own:
                self._unfinished.add(number)
            else:
                self._take(trials[number])

    def _take(self, trial: FrozenTrial) -> None:
        number, finished = trial.number, trial.state.is_finished()
        if finished:
            self._unfinished.discard(number)
            self.pending.pop(number, None)
        else:
            self._unfinished.add(number)
        config = self._network_of(trial)
        if config is None:
            self._forget(number)
        elif number not in self._networks:
            self._networks[number] = config
            if config in self._told and config not in self._uses:
                self._only_told -= 1
            self._uses[config] += 1
        if config is None:
            return
        if not finished:
            self.pending[number] = config
        elif trial.state is TrialState.COMPLETE and _feasible(trial):
            order = self._orders.get(config, -1)
            self.evaluated.append(Evaluated(config, tuple(trial.values), order))

    def _forget(self, number: int) -> None:
        config = self._networks.pop(number, None)
        if config is not None:
            self._uses[config] -= 1
            if not self._uses[config]:
                del self._uses[config]
                if config in self._told:
                    self._only_told += 1

    def _network_of(self, trial: FrozenTrial) -> ModelConfig | None:
        """The network that a trial evaluates; None if it is none of the space's, or unknown."""
        begun = len(trial.params) == len(self._space.axes)
        claim: Mapping[str, Any] | None = trial.system_attrs.get(CLAIM)
        if trial.number in self._networks:
            config: ModelConfig | None = self._networks[trial.number]
        elif claim is not None:
            config = self._decode(claim["params"])
        else:
            config = self._decode(
                trial.params if begun else trial.system_attrs.get("fixed_params", {})
            )
        if config is not None and claim is not None:
            self._orders.setdefault(config, claim["order"])
        return None if trial.state is TrialState.FAIL and not begun else config

    def _decode(self, params: Mapping[str, Any]) -> ModelConfig | None:
        try:
            return self._space.decode(params)
        except InvalidVariant:
            return None


def _feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


def claim(study: Study, trial: FrozenTrial, order: int, params: Mapping[str, Any]) -> None:
    """Write down what a trial is going to evaluate, for the other workers to read."""
    # As Optuna's own samplers do: no public door is open to a sampler, which holds a FrozenTrial.
    study._storage.set_trial_system_attr(
        trial._trial_id,
        CLAIM,
        {"order": order, "params": dict(params)},
    )
