"""How good predictions are: against networks that were measured but not fitted to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from search.latency.predictor import LatencyPredictor, Prediction
from search.latency.protocol import CONFIDENCE, FloatArray
from search.latency.store import Sample

RESAMPLES = 2000

Statistic = Callable[[FloatArray, FloatArray], float]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Validation:
    """Predictions beside measurements.

    Attributes:
        prediction: Of all held-out networks.
        measured: (n,) their measured ratios.
        error: Median absolute relative error of those inside the table's range.
        tau: Kendall's rank correlation of predictions and measurements, inside.
        error_all, tau_all: The same of all, where those outside would have been measured.
        covered: Share of all whose measured ratio lies in the prediction interval.
        noise: Median half width of the measurements' own 95 % intervals, relative.
    """

    prediction: Prediction
    measured: FloatArray
    error: Estimate
    tau: Estimate
    error_all: Estimate
    tau_all: Estimate
    covered: float
    noise: float

    @property
    def outside(self) -> float:
        """Share of networks that the table does not cover."""
        return float(1 - self.prediction.inside.mean())


def validate(predictor: LatencyPredictor, samples: Sequence[Sample], seed: int = 0) -> Validation:
    """Compare predictions with held-out measurements.

    Args:
        predictor: Fitted to other networks.
        samples: Held-out networks, some of them inside the table's range.
        seed: Of the bootstrap.
    """
    return compare(
        predictor.predict([sample.model_config for sample in samples]),
        np.array([(sample.low, sample.ratio, sample.high) for sample in samples]),
        seed,
    )


def compare(prediction: Prediction, intervals: FloatArray, seed: int = 0) -> Validation:
    """Compare predictions with measurements.

    Args:
        prediction: Of n networks.
        intervals: (n, 3) measured ratios between the ends of their 95 % intervals.
        seed: Of the bootstrap.
    """
    low, measured, high = intervals.T
    inside = prediction.inside
    within = (prediction.low <= measured) & (measured <= prediction.high)
    pairs = (prediction.ratio, measured)
    pairs_inside = (prediction.ratio[inside], measured[inside])
    return Validation(
        prediction=prediction,
        measured=measured,
        error=_bootstrap(median_error, *pairs_inside, seed),
        tau=_bootstrap(kendall, *pairs_inside, seed),
        error_all=_bootstrap(median_error, *pairs, seed),
        tau_all=_bootstrap(kendall, *pairs, seed),
        covered=float(within.mean()),
        noise=float(np.median((high - low) / 2 / measured)),
    )


def median_error(predicted: FloatArray, measured: FloatArray) -> float:
    """Median absolute relative error."""
    return float(np.median(np.abs(predicted / measured - 1)))


def kendall(predicted: FloatArray, measured: FloatArray) -> float:
    """Kendall's tau-b."""
    return float(stats.kendalltau(predicted, measured).statistic)


def _bootstrap(
    statistic: Statistic, predicted: FloatArray, measured: FloatArray, seed: int
) -> Estimate:
    """Percentile interval over resampled networks."""
    rng = np.random.default_rng(seed)
    size = len(measured)
    rows = rng.integers(size, size=(RESAMPLES, size))
    values = [statistic(predicted[row], measured[row]) for row in rows]
    low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Estimate(statistic(predicted, measured), float(low), float(high))
