"""Latency on this machine, with its noise.

Wall time of one network varies by tens of percent on a busy machine, the ratio to a reference
network that runs in turn with it by a few. So every measurement interleaves the two, the ratio is
what is kept, and milliseconds are the ratio times the reference's median at the start of the run.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Protocol

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from effvit import ConfigError, ModelConfig, create_model, model_config, model_cost
from effvit.config import Resolution


@dataclasses.dataclass(frozen=True)
class LatencyProtocol:
    """How latency is measured.

    Attributes:
        batch: Images a call.
        seconds: Time spent on a network, unless ``min_runs`` takes longer.
        patience: After this many times ``seconds`` it is over, however few the runs.
        min_runs: Counted runs at least; below 7 a 95 % interval of the median does not exist.
        max_runs: Counted runs at most.
        warm_up: Runs before the counted ones.
        reference: The network that runs in turn.
        noisy_interval: A measurement is flagged if half its interval exceeds this share of it.
        noisy_drift: It is flagged as well if the reference's median moved by more than this share.
    """

    batch: int = 1
    seconds: float = 1.0
    patience: float = 4.0
    min_runs: int = 7
    max_runs: int = 60
    warm_up: int = 2
    reference: str = "sepvit_lite"
    noisy_interval: float = 0.1
    noisy_drift: float = 0.25

    def describe(self) -> str:
        """Say it in a sentence, for reports."""
        return (
            f"float32, batch {self.batch}; {self.warm_up} warm-up runs, then {self.min_runs} to "
            f"{self.max_runs} runs in about {self.seconds:g} s, each in turn with one of "
            f"{self.reference}. Latency is the median ratio to that reference network times the "
            "reference's median at the start of the run; the interval is the 95 % interval of the "
            f"median. Flagged noisy: half the interval above {self.noisy_interval:.0%}, or the "
            f"reference itself off by more than {self.noisy_drift:.0%}."
        )


@dataclasses.dataclass(frozen=True)
class Latency:
    """One measurement.

    Attributes:
        median_ms: Ratio times the reference's calibrated median.
        low_ms, high_ms: 95 % interval of the median.
        ratio: Median ratio of the network's time to the reference's.
        runs: Counted runs.
        noisy: The machine was too busy to trust this; see :class:`LatencyProtocol`.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    runs: int
    noisy: bool


class Meter(Protocol):
    """What measures the latency of variants."""

    def measure(self, config: ModelConfig) -> Latency:
        """Measure a variant.

        Raises:
            RuntimeError, MemoryError: It does not fit into memory.
        """


class LatencyMeter:
    """Measures networks of one resolution on one device.

    Attributes:
        reference_ms: Median time of the reference network, in milliseconds.
    """

    def __init__(
        self,
        protocol: LatencyProtocol,
        resolution: Resolution,
        device: str = "cpu",
        reference_ms: float | None = None,
    ) -> None:
        """Build the reference network, and time it unless its time is known.

        Args:
            protocol: How to measure.
            resolution: Height and width of the images.
            device: A torch device.
            reference_ms: The reference's median from an earlier part of the same run, so that a
                resumed run stays on one scale.

        Raises:
            ConfigError: The reference network does not fit into memory.
        """
        self.protocol = protocol
        self.device = torch.device(device)
        reference = model_config(protocol.reference).replace(image_size=resolution)
        try:
            self._check_memory(reference)
        except MemoryError as error:
            height, width = resolution
            raise ConfigError(
                f"resolution {height}x{width} with batch {protocol.batch} is too large for this "
                f"machine: {protocol.reference} {error}"
            ) from error
        self._images = torch.rand(
            protocol.batch, reference.in_channels, *resolution, device=self.device
        )
        self._reference = self._build(reference)
        if reference_ms is None:
            reference_ms = float(np.median(self._run(self._reference, self._reference)))
        self.reference_ms = reference_ms

    def _check_memory(self, config: ModelConfig) -> None:
        """Refuse what the system would kill this process for; a GPU's memory refuses by itself."""
        cost = model_cost(config)
        needed = self.protocol.batch * cost.peak_bytes() + 4 * cost.params
        available = psutil.virtual_memory().available
        if self.device.type == "cpu" and needed > available:
            raise MemoryError(
                f"needs about {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are available"
            )

    def _build(self, config: ModelConfig) -> nn.Module:
        """Build a network with cheap weights: their values do not matter here, denormals would."""
        with torch.device("meta"):
            model = create_model(config)
        model = model.to_empty(device=self.device).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.uniform_(-0.05, 0.05)
        return model

    def _time(self, model: nn.Module) -> float:
        """Time one call in milliseconds: CUDA events on a GPU, the wall clock otherwise."""
        with torch.inference_mode():
            if self.device.type != "cuda":
                start = time.perf_counter()
                model(self._images)
                return 1e3 * (time.perf_counter() - start)
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record()
            model(self._images)
            events[1].record()
            events[1].synchronize()
            return float(events[0].elapsed_time(events[1]))

    def _run(self, reference: nn.Module, model: nn.Module) -> NDArray[np.float64]:
        """Time two networks in turn; (runs, 2) milliseconds."""
        for _ in range(self.protocol.warm_up):
            self._time(reference)
            self._time(model)
        times: list[tuple[float, float]] = []
        start = time.perf_counter()
        while len(times) < self.protocol.max_runs:
            times.append((self._time(reference), self._time(model)))
            spent = (time.perf_counter() - start) / self.protocol.seconds
            enough = len(times) >= self.protocol.min_runs
            if spent > (1 if enough else self.protocol.patience):
                break
        return np.asarray(times)

    def measure(self, config: ModelConfig) -> Latency:
        """Measure a network in turn with the reference.

        Raises:
            RuntimeError, MemoryError: The network does not fit into memory.
        """
        self._check_memory(config)
        times = self._run(self._reference, self._build(config))
        ratios = times[:, 1] / times[:, 0]
        ratio = float(np.median(ratios))
        low, high = _median_interval(ratios)
        drift = abs(float(np.median(times[:, 0])) / self.reference_ms - 1)
        wide = (high - low) / 2 > self.protocol.noisy_interval * ratio
        return Latency(
            median_ms=ratio * self.reference_ms,
            low_ms=low * self.reference_ms,
            high_ms=high * self.reference_ms,
            ratio=ratio,
            runs=len(ratios),
            noisy=bool(wide or drift > self.protocol.noisy_drift),
        )


def _median_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the median from order statistics; the range if there are too few values."""
    median = float(np.median(values))
    interval = stats.quantile_test(values, q=median, p=0.5).confidence_interval(0.95)
    low, high = float(interval.low), float(interval.high)
    if math.isnan(low) or math.isnan(high):
        return float(values.min()), float(values.max())
    return low, high


class LatencyGuess:
    """A rough guess of latency from costs, to spare hopeless variants their measurement.

    A ridge regression of log latency on logs of costs, fitted to what this run has measured. It
    only filters: what is reported is always measured.
    """

    MIN_POINTS = 12
    RIDGE = 1e-2

    def __init__(self) -> None:
        self._features: list[NDArray[np.float64]] = []
        self._targets: list[float] = []

    def add(self, features: NDArray[np.float64], latency_ms: float) -> None:
        """Learn from a measurement; ``features`` (f,) are positive costs."""
        self._features.append(features)
        self._targets.append(latency_ms)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Guess milliseconds (n,) from costs (n, f); None before there are enough measurements."""
        if len(self._targets) < self.MIN_POINTS:
            return None
        x = np.log(np.asarray(self._features))
        mean, scale = x.mean(0), x.std(0) + 1e-9
        x = _with_constant((x - mean) / scale)
        penalty = self.RIDGE * len(x) * np.diag([0.0] + [1.0] * (x.shape[1] - 1))
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ np.log(self._targets))
        guessed: NDArray[np.float64] = np.exp(
            _with_constant((np.log(features) - mean) / scale) @ weights
        )
        return guessed


def _with_constant(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(x)), x])
