"""The front of a run with predicted latencies is measured."""

from __future__ import annotations

import optuna
import pytest

from effvit import ModelConfig
from search.latency import Latency
from search.records import TrialRecord
from search.remeasure import FrontMeter, describe_errors, prediction_errors
from tests.search.fakes import SCALE, complete_record, small_space

VARIANTS = [small_space(depth_3=(depth,)).unrank(0) for depth in range(1, 7)]


class Meter:
    """Measures what it is told."""

    def __init__(self, milliseconds: dict[ModelConfig, float]) -> None:
        self._milliseconds = milliseconds
        self.measured: list[ModelConfig] = []

    def measure(self, config: ModelConfig) -> Latency:
        self.measured.append(config)
        if config not in self._milliseconds:
            raise MemoryError("needs about 9.0 GB")
        ms = self._milliseconds[config]
        return Latency(ms, 0.9 * ms, 1.1 * ms, ms / 10, 9, noisy=False)


def predicted(number: int, accuracy: float, latency_ms: float) -> TrialRecord:
    """A complete trial of 1 G MACs whose latency was predicted."""
    record = complete_record(number, accuracy, 10**9, latency_ms, VARIANTS[number])
    record.latency_source, record.latency_predicted_ms = "predicted", latency_ms
    return record


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize", "minimize"])


def run(
    study: optuna.Study, records: list[TrialRecord], meter: Meter, limit: float | None = None
) -> dict[int, TrialRecord]:
    by_number = {record.number: record for record in records}
    FrontMeter(study, by_number, meter, limit).run(SCALE)
    return by_number


def test_the_front_is_measured_and_the_rest_is_not(study: optuna.Study) -> None:
    meter = Meter(dict.fromkeys(VARIANTS, 21.0))
    records = run(study, [predicted(0, 0.8, 20.0), predicted(1, 0.7, 30.0)], meter)
    assert meter.measured == [VARIANTS[0]]
    front, other = records[0], records[1]
    assert (front.latency_ms, front.latency_predicted_ms) == (21.0, 20.0)
    assert (front.latency_low_ms, front.latency_high_ms) == pytest.approx((18.9, 23.1))
    assert front.latency_source == "measured"
    assert (other.latency_ms, other.latency_source) == (30.0, "predicted")


def test_what_comes_onto_the_front_by_measuring_is_measured_too(study: optuna.Study) -> None:
    # Trial 0 hides trial 1 until it turns out to be slower; trial 2 stays dominated by trial 1.
    meter = Meter({VARIANTS[0]: 35.0, VARIANTS[1]: 31.0, VARIANTS[2]: 1.0})
    records = [predicted(0, 0.8, 20.0), predicted(1, 0.7, 30.0), predicted(2, 0.6, 33.0)]
    run(study, records, meter)
    assert meter.measured == [VARIANTS[0], VARIANTS[1]]


def test_published_models_are_measured(study: optuna.Study) -> None:
    published = predicted(1, 0.7, 30.0)
    published.published = "sepvit_lite"
    meter = Meter(dict.fromkeys(VARIANTS, 21.0))
    run(study, [predicted(0, 0.8, 20.0), published], meter)
    assert set(meter.measured) == {VARIANTS[0], VARIANTS[1]}


def test_measured_trials_are_left_alone(study: optuna.Study) -> None:
    record = complete_record(0, 0.8, 10**9, 20.0, VARIANTS[0])
    record.latency_source = "measured"
    meter = Meter({})
    run(study, [record], meter)
    assert not meter.measured


def test_a_resumed_run_measures_nothing_twice(study: optuna.Study) -> None:
    run(study, [predicted(0, 0.8, 20.0)], Meter({VARIANTS[0]: 21.0}))
    again = Meter({})
    records = run(study, [predicted(0, 0.8, 20.0)], again)  # as the trial's attribute has it
    assert not again.measured
    assert (records[0].latency_ms, records[0].latency_source) == (21.0, "measured")


def test_what_cannot_be_measured_keeps_its_prediction(study: optuna.Study) -> None:
    meter = Meter({VARIANTS[1]: 31.0})
    records = run(study, [predicted(0, 0.8, 20.0), predicted(1, 0.9, 30.0)], meter)
    assert sorted(meter.measured, key=VARIANTS.index) == [VARIANTS[0], VARIANTS[1]]
    assert (records[0].latency_ms, records[0].latency_source) == (20.0, "predicted")
    assert records[1].latency_ms == 31.0


def test_over_the_budget_by_measurement_is_infeasible(study: optuna.Study) -> None:
    meter = Meter({VARIANTS[0]: 26.0, VARIANTS[1]: 24.0})
    records = run(study, [predicted(0, 0.8, 24.0), predicted(1, 0.7, 24.5)], meter, limit=25.0)
    assert records[0].state == "infeasible"
    assert records[0].reason == "latency 26.0 ms is over 25 ms (predicted: 24.0 ms)"
    assert records[1].state == "complete"  # came onto the front, and stays within


def test_errors_are_told(study: optuna.Study) -> None:
    records = run(study, [predicted(0, 0.8, 20.0)], Meter({VARIANTS[0]: 25.0}))
    assert prediction_errors(records) == pytest.approx([20 / 25 - 1])
    assert describe_errors(records) == (
        "measured 1 predicted latencies: median error 20.0%, largest 20.0%"
    )
    assert describe_errors({}) == ""
