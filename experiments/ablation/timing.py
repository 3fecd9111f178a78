"""Latency of what a row is about, in turn with a reference network."""

from __future__ import annotations

from effvit import model_config
from effvit.backends import Execution
from effvit.config import Resolution
from experiments.ablation.store import LatencyRatio
from experiments.ablation.subjects import Network, Subject
from experiments.latency_claims_meter import PairMeter
from search.environment import environment
from search.latency import LatencyProtocol


class SubjectMeter:
    """Measures subjects of one image size on the processor, beside one reference network."""

    def __init__(self, protocol: LatencyProtocol, image_size: Resolution) -> None:
        self._protocol = protocol
        self._meter = PairMeter(protocol, Execution(), "cpu")
        self._reference = Network(model_config(protocol.reference).replace(image_size=image_size))

    def measure(self, subject: Subject) -> LatencyRatio:
        """Measure the time of a subject over that of the reference network.

        Raises:
            RuntimeError, MemoryError: One of the two does not fit into memory.
            ConfigError: There is nothing to run.
        """
        pair = self._meter.measure(self._reference, subject)
        wide = (pair.high - pair.low) / 2 > self._protocol.noisy_interval * pair.times
        return LatencyRatio(pair.times, pair.low, pair.high, wide, dict(environment()))
