"""A rough guess of latency, from what a run has measured so far."""

from __future__ import annotations

import numpy as np

from search.latency.protocol import FloatArray


class LatencyGuess:
    """A rough guess of latency from costs, to spare hopeless variants their measurement.

    A ridge regression of log latency on logs of costs, fitted to what this run has measured. It
    only filters: what is reported is always measured.
    """

    MIN_POINTS = 12
    RIDGE = 1e-2

    def __init__(self) -> None:
        self._features: list[FloatArray] = []
        self._targets: list[float] = []

    def add(self, features: FloatArray, latency_ms: float) -> None:
        """Learn from a measurement; ``features`` (f,) are positive costs."""
        self._features.append(features)
        self._targets.append(latency_ms)

    def predict(self, features: FloatArray) -> FloatArray | None:
        """Guess milliseconds (n,) from costs (n, f); None before there are enough measurements."""
        if len(self._targets) < self.MIN_POINTS:
            return None
        x = np.log(np.asarray(self._features))
        mean, scale = x.mean(0), x.std(0) + 1e-9
        x = _with_constant((x - mean) / scale)
        penalty = self.RIDGE * len(x) * np.diag([0.0] + [1.0] * (x.shape[1] - 1))
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ np.log(self._targets))
        guessed: FloatArray = np.exp(_with_constant((np.log(features) - mean) / scale) @ weights)
        return guessed


def _with_constant(x: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(len(x)), x])
