"""How latency is measured, and what a measurement is."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from effvit import ModelConfig
from search.latency.state import MachineState

CONFIDENCE = 0.95

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class LatencyProtocol:
    """How latency is measured.

    Attributes:
        batch: Images a call.
        seconds: Time spent on a network, unless ``min_runs`` takes longer.
        patience: After this many times ``seconds`` it is over, however few the runs.
        min_runs: Counted runs at least; below 7 a 95 % interval of the median does not exist.
        max_runs: Counted runs at most.
        reference: The network that runs in turn.
        warm_window: Runs whose fastest is compared with the fastest of as many runs before them.
        warm_change: The machine is warm once neither network's fastest run became faster by more
            than this share.
        max_warm_up: Warm-up runs at most; ``seconds`` end the warm-up too.
        noisy_interval: A measurement is flagged if half its interval exceeds this share of it.
        noisy_drift: It is flagged as well if the reference's median moved by more than this share.
    """

    batch: int = 1
    seconds: float = 1.0
    patience: float = 4.0
    min_runs: int = 7
    max_runs: int = 200
    reference: str = "sepvit_lite"
    warm_window: int = 3
    warm_change: float = 0.05
    max_warm_up: int = 30
    noisy_interval: float = 0.1
    noisy_drift: float = 0.25

    def describe(self) -> str:
        """Say it in a sentence, for reports."""
        return (
            f"Batch {self.batch}. Warm-up until neither network's fastest of {self.warm_window} "
            f"runs is more than {self.warm_change:.0%} faster than the fastest of the "
            f"{self.warm_window} before; then {self.min_runs} to {self.max_runs} runs in about "
            f"{self.seconds:g} s, each in turn with one of {self.reference} on the same back end, "
            "the order of the two changing from pair to pair. With one thread, waiting for a "
            "processor does not count. The process keeps the memory it frees. Latency is the "
            "median ratio to that reference network times the reference's median at the start of "
            f"the run; the interval is the {CONFIDENCE:.0%} interval of the median. Flagged noisy: "
            f"half the interval above {self.noisy_interval:.0%}, or the reference itself off by "
            f"more than {self.noisy_drift:.0%}."
        )


@dataclasses.dataclass(frozen=True)
class Latency:
    """One measurement.

    Attributes:
        median_ms: Ratio times the reference's calibrated median.
        low_ms, high_ms: 95 % interval of the median.
        ratio: Median ratio of the network's time to the reference's.
        runs: Counted runs.
        noisy: Too uncertain to trust; see :class:`LatencyProtocol`.
        raw_ms: Median of the network's own runs as they were timed.
        warm_up: Runs before the counted ones.
        difference: Largest difference of a logit from eager float32, as a share of the largest
            logit; None where nothing was to compare.
        state: How busy the machine was; None if nobody looked.
        predicted: Not measured but predicted; the interval is that of the prediction.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    runs: int
    noisy: bool
    raw_ms: float = math.nan
    warm_up: int = 0
    difference: float | None = None
    state: MachineState | None = None
    predicted: bool = False


class Meter(Protocol):
    """What measures the latency of variants."""

    def measure(self, config: ModelConfig) -> Latency:
        """Measure a variant.

        Raises:
            RuntimeError, MemoryError: It does not fit into memory.
        """


def median_interval(values: FloatArray) -> tuple[float, float]:
    """95 % interval of the median from order statistics; the range if there are too few values."""
    median = float(np.median(values))
    interval = stats.quantile_test(values, q=median, p=0.5).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    if math.isnan(low) or math.isnan(high):
        return float(values.min()), float(values.max())
    return low, high
