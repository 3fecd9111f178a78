"""Records of a run: one row a trial, written whole and atomically, so that no crash leaves half."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from effvit import ModelConfig, as_config
from search.front import hypervolume, non_dominated

State = Literal["complete", "failed", "infeasible", "pruned", "interrupted"]
"""Evaluated; failed with a reason; over a measured budget, hence not trained; trained in part, then
given up for better ones; cut off by a stop, or by the death of the process that trained it, and
proposed again."""


@dataclasses.dataclass
class TrialRecord:
    """What is known of a trial. Fields are columns of ``trials.csv``; None is not measured.

    Attributes:
        number: The trial's number in the study.
        state: See :data:`State`.
        reason: Why it is not complete.
        published: Name of the published model that it is, if it is one.
        variant_id: Name of the network.
        params, macs, activations: Closed-form cost at the space's resolution, batch 1.
        peak_activation_mb: Closed-form estimate in MB (10^6 bytes) for float32.
        latency_ms, latency_low_ms, latency_high_ms: Latency and its 95 % interval.
        latency_ratio: Ratio to the reference network.
        latency_noisy: The machine was busy.
        latency_source: ``measured`` or ``predicted``; empty without a latency.
        latency_predicted_ms: What was predicted, also where the front was measured afterwards.
        accuracy: Proxy score on the validation part, 0 to 1.
        cue_accuracy, routing, localisation, texture: On single tasks of the embedded ones; accuracy
            is the mean of those that the search asked for, the others are None.
        relation, recognition: The same of the parts of the embedded task; None with a data set.
        relation_found: Whether training found the relation between cells at all.
        proxy_resolution: Images that the last training was with, such as ``64x64``; empty for the
            embedded task.
        proxy_steps, proxy_seed, proxy_attempts, proxy_seconds: How the proxy was trained.
        round: The round of the search that it belongs to: how many trials had begun before it.
        rungs: Accuracy after so many steps of an unfinished training, on a part of the canvases; or
            after a training with smaller images, by their size, such as ``32x32``.
        started: Time of the start, ISO 8601 in UTC.
        seconds: Time spent on the trial.
        choices: The value of each axis of the space.
        config: The configuration, as a dictionary.
    """

    number: int
    state: State = "interrupted"
    reason: str = ""
    published: str = ""
    variant_id: str = ""
    params: int | None = None
    macs: int | None = None
    activations: int | None = None
    peak_activation_mb: float | None = None
    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    latency_ratio: float | None = None
    latency_noisy: bool | None = None
    latency_source: str = ""
    latency_predicted_ms: float | None = None
    accuracy: float | None = None
    cue_accuracy: float | None = None
    routing: float | None = None
    localisation: float | None = None
    texture: float | None = None
    relation: float | None = None
    recognition: float | None = None
    relation_found: bool | None = None
    proxy_resolution: str = ""
    proxy_steps: int | None = None
    proxy_seed: int | None = None
    proxy_attempts: int | None = None
    proxy_seconds: float | None = None
    round: int | None = None
    rungs: dict[str, float] = dataclasses.field(default_factory=dict)
    started: str = ""
    seconds: float | None = None
    choices: dict[str, int | str] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def model_config(self) -> ModelConfig:
        """The configuration itself."""
        return as_config(self.config)

    @property
    def values(self) -> tuple[float, float, float] | None:
        """Accuracy, MACs and latency in ms; None unless complete."""
        if self.state != "complete":
            return None
        assert self.accuracy is not None
        assert self.macs is not None
        assert self.latency_ms is not None
        return self.accuracy, float(self.macs), self.latency_ms

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dataclasses.asdict(self)

    def row(self) -> dict[str, Any]:
        """Return the row of ``trials.csv``, without what depends on other trials."""
        row = self.to_dict()
        choices, config = row.pop("choices"), row.pop("config")
        del row["round"], row["rungs"]  # for the search itself, in the study
        row.update({f"axis_{name}": value for name, value in choices.items()})
        row["config"] = json.dumps(config)
        return row


@dataclasses.dataclass(frozen=True)
class Scale:
    """Bounds that put the objectives on 0..1, fixed for a run, so that hypervolumes compare.

    Accuracy counts as it is, MACs and latency by their logarithm between the bounds.
    """

    macs_low: float
    macs_high: float
    latency_low_ms: float
    latency_high_ms: float

    def losses(self, values: tuple[float, float, float]) -> tuple[float, float, float]:
        """Accuracy, MACs and milliseconds as losses; 0 is the best bound and 1 the worst."""
        accuracy, macs, latency = values
        return (
            1 - accuracy,
            math.log(macs / self.macs_low) / math.log(self.macs_high / self.macs_low),
            math.log(latency / self.latency_low_ms)
            / math.log(self.latency_high_ms / self.latency_low_ms),
        )


class Front:
    """The front of a run, kept up to date trial by trial."""

    REFERENCE = (1.0, 1.0, 1.0)

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._losses: list[tuple[float, float, float]] = []
        self.numbers: list[int] = []
        self.hypervolume = 0.0

    def add(self, record: TrialRecord) -> bool:
        """Take a trial in; say whether it joined the front."""
        values = record.values  # noqa: PD011 - not a data frame's
        if values is None:
            return False
        losses = [*self._losses, self._scale.losses(values)]
        mask = non_dominated(losses)
        joined = bool(mask[-1])
        if joined:
            numbers = [*self.numbers, record.number]
            self._losses = [loss for loss, keep in zip(losses, mask, strict=True) if keep]
            self.numbers = [number for number, keep in zip(numbers, mask, strict=True) if keep]
            self.hypervolume = hypervolume(self._losses, self.REFERENCE)
        return joined


def write_trials(path: Path, records: Sequence[TrialRecord], scale: Scale) -> Front:
    """Write ``trials.csv``; return the front of all its trials."""
    front = Front(scale)
    rows = []
    for record in sorted(records, key=lambda record: record.number):
        front.add(record)
        row = record.row()
        config = row.pop("config")
        axes = {name: row.pop(name) for name in list(row) if name.startswith("axis_")}
        started, seconds = row.pop("started"), row.pop("seconds")
        row.update(hypervolume=front.hypervolume, front_size=len(front.numbers))
        row.update(started=started, seconds=seconds, **axes, config=config)
        rows.append(row)
    write_csv(path, rows)
    return front


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, replacing the file in one step."""
    # Integers with gaps would become floats; as objects they stay what they are.
    write_text(path, pd.DataFrame(list(rows), dtype=object).to_csv(index=False))


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - JSON
    """Write a JSON value, replacing the file in one step."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, replacing the file in one step; on failure the old file stays."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
