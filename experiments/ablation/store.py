"""Measurements that all ablations share: one small file each, so that none is made twice or lost.

    trainings/VARIANT/RECIPE-FINGERPRINT-seedN.json
    latency/SUBJECT-FINGERPRINT.json

A file appears whole or not at all; one that is cut short all the same (by a full disk, say) counts
as not measured and is replaced. The fingerprint covers every setting, not the program: after a
change of what the proxy or the meter computes, start a new folder. A training that failed is kept
with its reason and not repeated: remove its file to try again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, TypeAlias

from effvit import ModelConfig
from search.environment import environment
from search.latency import LatencyProtocol
from search.proxy import ProxyRecipe, ProxyResult
from search.proxy.routing import RoutingRecipe, RoutingResult
from search.proxy.statement import NAME
from search.records import write_json
from search.workers import Outcome, TrainingFailure

ROUTING = "routing"
"""Score of the training on the second task."""

SCORES: tuple[str, ...] = ("accuracy", "relation", "recognition", ROUTING)
"""Scores of a row: the proxy accuracy, its parts, then that of the second task."""

Recipe: TypeAlias = ProxyRecipe | RoutingRecipe
"""How a training is done: on the proxy's first task, or on both."""

Ended: TypeAlias = Outcome | RoutingResult
"""Outcome of a training by either."""

Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        seed: Its seed.
        scores: Some of :data:`SCORES`; empty where it failed.
        seconds: Wall time; None where it failed.
        error: Why it failed.
        environment: Machine, versions and date.
    """

    seed: int
    scores: dict[str, float]
    seconds: float | None
    error: str
    environment: Values


@dataclasses.dataclass(frozen=True)
class LatencyRatio:
    """Time of a subject over that of the reference network, with its 95 % interval."""

    ratio: float
    low: float
    high: float
    noisy: bool
    environment: Values


class Store:
    """The folder of measurements."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        here = environment()
        self._machine = {name: here[name] for name in ("device", "threads", "torch")}

    # --- trainings ------------------------------------------------------------------------------

    def _training(self, config: ModelConfig, recipe: Recipe, seed: int) -> Path:
        settings = fingerprint({"task": NAME, **recipe.to_dict()})
        name = f"{recipe.name}-{settings}-seed{seed}.json"
        return self._folder / "trainings" / config.variant_id / name

    def training(self, config: ModelConfig, recipe: Recipe, seed: int) -> Training | None:
        """Look a training up; None if it has not been made."""
        values = _read(self._training(config, recipe, seed))
        try:
            return Training(**values["training"]) if values else None
        except (KeyError, TypeError):
            return None

    def add_training(
        self, config: ModelConfig, recipe: Recipe, seed: int, outcome: Ended
    ) -> Training:
        """Keep a training that has ended."""
        if isinstance(outcome, TrainingFailure):
            found = Training(seed, {}, None, outcome.reason, dict(environment()))
        else:
            result = outcome if isinstance(outcome, RoutingResult) else outcome.validation
            found = Training(seed, _scores(result), result.seconds, "", dict(environment()))
        values = {"config": config.to_dict(), "task": NAME, "recipe": recipe.to_dict()}
        _write(self._training(config, recipe, seed), {**values, "training": _plain(found)})
        return found

    # --- latency --------------------------------------------------------------------------------

    def _latency(self, key: str, protocol: LatencyProtocol) -> Path:
        settings = fingerprint({**dataclasses.asdict(protocol), **self._machine})
        return self._folder / "latency" / f"{key}-{settings}.json"

    def latency(self, key: str, protocol: LatencyProtocol) -> LatencyRatio | None:
        """Look a latency up; None if it was not measured with this machine and these settings."""
        values = _read(self._latency(key, protocol))
        try:
            return LatencyRatio(**values["latency"]) if values else None
        except (KeyError, TypeError):
            return None

    def add_latency(self, key: str, protocol: LatencyProtocol, found: LatencyRatio) -> None:
        """Keep a latency."""
        values = {"subject": key, "protocol": dataclasses.asdict(protocol)}
        _write(self._latency(key, protocol), {**values, "latency": _plain(found)})


def fingerprint(settings: Values) -> str:
    """Eight hexadecimal digits that stand for settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _scores(result: ProxyResult | RoutingResult) -> dict[str, float]:
    """What counts of a result: of a training on both tasks that of the second one alone."""
    second = isinstance(result, RoutingResult)
    return {name: float(getattr(result, name)) for name in SCORES if (name == ROUTING) == second}


def _plain(record: Training | LatencyRatio) -> Values:
    return dataclasses.asdict(record)


def _write(path: Path, values: Values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, values)


def _read(path: Path) -> Values | None:
    """Read a file; None where there is none, or half of one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return values if isinstance(values, dict) else None
