"""Where a search's latencies come from: every variant measured, or predicted where a table is."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effvit import ConfigError, ModelConfig
from search.latency.predictor import MIN_SAMPLES, LatencyPredictor
from search.latency.protocol import Latency, Meter
from search.latency.store import LatencyTable, Sample, TableKey, fit_predictor

MEASURED, PREDICTED = "measured", "predicted"

COPY = "latency_table.jsonl"
"""The table in a run's folder: a run goes on with the one that it began with."""


class LatencyMode(str, enum.Enum):
    """What is asked for."""

    AUTO = "auto"
    MEASURED = MEASURED
    PREDICTED = PREDICTED


def choose_source(mode: LatencyMode, key: TableKey, saved: dict[str, Any] | None) -> str:
    """Decide between measuring and predicting.

    Args:
        mode: What is asked for; ``auto`` is what the run began with, else predicting where there
            is a table of this very setting.
        key: The setting.
        saved: The identity of the run that is resumed; None for a new one.

    Returns:
        ``measured`` or ``predicted``.

    Raises:
        ConfigError: Predictions are asked for, and the table is missing or too small.
    """
    if mode is LatencyMode.MEASURED:
        return MEASURED
    if saved is not None:
        began = str(saved.get("latency_source", MEASURED))
        return began if mode is LatencyMode.AUTO else PREDICTED
    count = len(LatencyTable(key).of_role("table"))
    if count >= MIN_SAMPLES:
        return PREDICTED
    if mode is LatencyMode.AUTO:
        return MEASURED
    height, width = key.resolution
    raise ConfigError(
        f"--latency predicted needs a table of {MIN_SAMPLES} networks for this machine and these "
        f"settings, there are {count}: python -m search.latency build --space {key.space} "
        f"--resolution {height}x{width} --threads {key.threads} --batch {key.batch} makes one "
        "(nearest valid: --latency measured)"
    )


def copy_table(key: TableKey, folder: Path) -> None:
    """Keep the table's networks in a run's folder."""
    samples = LatencyTable(key).of_role("table")
    text = "".join(json.dumps(dataclasses.asdict(sample)) + "\n" for sample in samples)
    (folder / COPY).write_text(text, encoding="utf-8")


def read_copy(folder: Path) -> list[Sample]:
    """Read what :func:`copy_table` wrote.

    Raises:
        ConfigError: It is missing or damaged.
    """
    path = folder / COPY
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Sample(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is unreadable: restore it, or choose another --out") from error


class PredictingMeter:
    """Predicts the variants that a table covers, and measures the others.

    Attributes:
        predictor: Fitted to the table.
    """

    def __init__(self, samples: Sequence[Sample], meter: Meter, reference_ms: float) -> None:
        """Fit a prediction.

        Args:
            samples: The table.
            meter: What measures variants outside of the table's range.
            reference_ms: Milliseconds of the reference network.

        Raises:
            ConfigError: The table is too small.
        """
        self.predictor: LatencyPredictor = fit_predictor(samples)
        self._meter = meter
        self._reference_ms = reference_ms

    def measure(self, config: ModelConfig) -> Latency:
        """Predict a variant, or measure it.

        Raises:
            RuntimeError, MemoryError: It had to be measured, and does not fit into memory.
        """
        prediction = self.predictor.predict([config])
        if not prediction.inside[0]:
            return self._meter.measure(config)
        return Latency(
            median_ms=float(prediction.ratio[0]) * self._reference_ms,
            low_ms=float(prediction.low[0]) * self._reference_ms,
            high_ms=float(prediction.high[0]) * self._reference_ms,
            ratio=float(prediction.ratio[0]),
            runs=0,
            noisy=False,
            predicted=True,
        )

    def describe(self) -> str:
        """Say it in a sentence, for reports."""
        return (
            f"Latencies of trials are predicted from a table of {self.predictor.samples} measured "
            f"networks (median error {self.predictor.error:.1%} on networks left out of it, "
            "interval 95 %); a variant outside the table's range is measured, and the front is "
            "measured at the end, with the predictions kept beside."
        )
