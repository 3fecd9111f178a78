"""Measuring the front of a run whose latencies were predicted."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import optuna

from search.front import non_dominated
from search.latency import Latency, Meter
from search.latency.source import MEASURED, PREDICTED
from search.records import Scale, TrialRecord

KEY = "latency:"
"""Attributes of the study, one for each measured trial: a trial that has ended takes none."""


class FrontMeter:
    """Replaces predicted latencies by measured ones, and keeps these in the study."""

    def __init__(
        self,
        study: optuna.Study,
        records: Mapping[int, TrialRecord],
        meter: Meter,
        max_latency_ms: float | None,
    ) -> None:
        """Put into the records what an earlier part of the run measured.

        Args:
            study: The run's study.
            records: Records of the trials by number; they are changed.
            meter: What measures.
            max_latency_ms: The budget that measured latencies are held to.
        """
        self._study = study
        self._records = records
        self._meter = meter
        self._limit = max_latency_ms
        for name, values in study.user_attrs.items():
            if name.startswith(KEY):
                self._apply(records[int(name.removeprefix(KEY))], values)

    def run(self, scale: Scale) -> None:
        """Measure the front, and what the measured values bring onto it, until all of it is.

        Published models are measured too: the front is compared with them. A variant that cannot be
        measured keeps its prediction.
        """
        failed: set[int] = set()
        while pending := [r for r in self._front(scale) if r.number not in failed]:
            for record in pending:
                try:
                    latency = self._meter.measure(record.model_config)
                except (MemoryError, RuntimeError):
                    failed.add(record.number)
                    continue
                values = _values(latency)
                self._study.set_user_attr(f"{KEY}{record.number}", values)
                self._apply(record, values)

    def _front(self, scale: Scale) -> list[TrialRecord]:
        """Complete trials on the front, and published ones, whose latency is predicted."""
        complete = [record for record in self._records.values() if record.values is not None]
        mask = non_dominated([scale.losses(r.values) for r in complete if r.values is not None])
        return [
            record
            for record, on_front in zip(complete, mask, strict=True)
            if record.latency_source == PREDICTED and (on_front or record.published)
        ]

    def _apply(self, record: TrialRecord, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(record, name, value)
        record.latency_source = MEASURED
        limit, measured = self._limit, values["latency_ms"]
        if limit is not None and measured > limit:
            record.state = "infeasible"
            record.reason = (
                f"latency {measured:.1f} ms is over {limit:g} ms "
                f"(predicted: {record.latency_predicted_ms:.1f} ms)"
            )


def _values(latency: Latency) -> dict[str, Any]:
    return {
        "latency_ms": latency.median_ms,
        "latency_low_ms": latency.low_ms,
        "latency_high_ms": latency.high_ms,
        "latency_ratio": latency.ratio,
        "latency_noisy": latency.noisy,
    }


def prediction_errors(records: Mapping[int, TrialRecord]) -> list[float]:
    """Relative errors of predictions, predicted over measured less 1, of trials with both."""
    return [
        record.latency_predicted_ms / record.latency_ms - 1
        for record in records.values()
        if record.latency_source == MEASURED
        and record.latency_predicted_ms is not None
        and record.latency_ms is not None
    ]


def describe_errors(records: Mapping[int, TrialRecord]) -> str:
    """Say how far predictions were off, in a line; empty without any."""
    errors = [abs(error) for error in prediction_errors(records)]
    if not errors:
        return ""
    return (
        f"measured {len(errors)} predicted latencies: median error "
        f"{statistics.median(errors):.1%}, largest {max(errors):.1%}"
    )
