"""Predicting latency: prices of operations, a learned rest, and how far to trust both.

The base is a sum over the columns of :mod:`search.latency.work`, each with a price that is not
negative, fitted to relative errors (non-negative least squares; Lawson and Hanson, 1974). What it
leaves is learned by a Gaussian process from the shares that the columns have in a network's time.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import KFold

from effvit import ConfigError, ModelConfig
from search.latency.protocol import CONFIDENCE, FloatArray
from search.latency.work import COLUMNS, model_work

MIN_SAMPLES = 40
"""Measured networks below which nothing is predicted."""

FOLDS = 10
TINY = 1e-30
RIDGE = 1e-6
"""Share of unity added to the columns' normal matrix, many of which depend on each other."""

WARNING_LEVERAGE = 3.0
"""Times the mean leverage of the measured networks, above which another one is outside: the warning
leverage of regression diagnostics (Gramatica, QSAR & Combinatorial Science 26(5), 2007)."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predicted ratios of networks to the reference network, one entry each.

    Attributes:
        ratio: (n,) predicted ratios.
        low, high: (n,) 95 % prediction interval, from errors on networks that were left out.
        inside: (n,) whether the table covers the network; do not trust the others.
    """

    ratio: FloatArray
    low: FloatArray
    high: FloatArray
    inside: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ratio)


class Prices:
    """Non-negative prices of work.

    Attributes:
        prices: (columns + 1,) ratio a unit; the last one is paid once by every network.
    """

    def __init__(self, work: FloatArray, ratios: FloatArray) -> None:
        """Fit prices to ``work`` (n, columns) and ``ratios`` (n,), minimising relative errors."""
        relative = _with_fixed(work) / ratios[:, None]
        scale = relative.max(axis=0)
        scale[scale == 0] = 1.0
        prices, _ = nnls(relative / scale, np.ones(len(ratios)), maxiter=100 * relative.shape[1])
        self.prices: FloatArray = prices / scale

    def parts(self, work: FloatArray) -> FloatArray:
        """What each column adds to the ratios; (n, columns + 1)."""
        parts: FloatArray = _with_fixed(work) * self.prices
        return parts


def _with_fixed(work: FloatArray) -> FloatArray:
    return np.column_stack([work, np.ones(len(work))])


class Residual:
    """What prices leave: the logarithm of measured over priced ratios, learned from shares."""

    def __init__(self, parts: FloatArray, rest: FloatArray) -> None:
        """Learn ``rest`` (n,) from the priced ``parts`` (n, columns + 1) of the same networks."""
        self._columns = np.flatnonzero(parts.max(axis=0) > 0)
        shares = self._shares(parts)
        self._mean, self._scale = shares.mean(axis=0), shares.std(axis=0) + 1e-9
        variance = float(rest.var()) + 1e-9
        kernel = ConstantKernel(variance / 2, (1e-3 * variance, 2 * variance)) * RBF(
            math.sqrt(len(self._columns)), (1.0, 100.0)
        ) + WhiteKernel(variance / 2, (1e-2 * variance, 2 * variance))
        self._offset = float(rest.mean())
        self._process = GaussianProcessRegressor(kernel, alpha=0.0, random_state=0)
        with warnings.catch_warnings():
            # That a bound is reached: so it is where there is nothing to learn.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._process.fit((shares - self._mean) / self._scale, rest - self._offset)

    def _shares(self, parts: FloatArray) -> FloatArray:
        total = parts.sum(axis=1)
        return np.column_stack([parts[:, self._columns] / total[:, None], np.log(total)])

    def predict(self, parts: FloatArray) -> FloatArray:
        """Predict the rest of other networks, (n,)."""
        shares = (self._shares(parts) - self._mean) / self._scale
        rest: FloatArray = self._process.predict(shares) + self._offset
        return rest


class Coverage:
    """Which networks the measured ones say something about."""

    def __init__(self, work: FloatArray, ratios: FloatArray) -> None:
        """Take in the measured networks, ``work`` (n, columns) and ``ratios`` (n,)."""
        relative = _with_fixed(work) / ratios[:, None]
        scale = relative.max(axis=0)
        # Work that no measured network has is not extrapolated to: the least of it is too much.
        self._scale = np.where(scale > 0, scale, TINY)
        relative = relative / self._scale
        normal = relative.T @ relative + RIDGE * len(relative) * np.eye(relative.shape[1])
        self._inverse = np.linalg.inv(normal)
        self._limit = WARNING_LEVERAGE * float(self._leverage(relative).mean())
        self._low, self._high = float(ratios.min()), float(ratios.max())

    def _leverage(self, relative: FloatArray) -> FloatArray:
        leverage: FloatArray = ((relative @ self._inverse) * relative).sum(axis=1)
        return leverage

    def holds(self, work: FloatArray, ratios: FloatArray) -> NDArray[np.bool_]:
        """Whether networks are inside, (n,); ``ratios`` (n,) are the predicted ones."""
        relative = _with_fixed(work) / ratios[:, None] / self._scale
        near = self._leverage(relative) <= self._limit
        inside: NDArray[np.bool_] = near & (ratios >= self._low) & (ratios <= self._high)
        return inside


class LatencyPredictor:
    """Predicts ratios to the reference network from measured ones.

    Attributes:
        samples: Networks it was fitted to.
        error: Median absolute relative error on measured networks that were left out.
    """

    def __init__(self, work: FloatArray, ratios: FloatArray) -> None:
        """Fit.

        Args:
            work: (n, columns) of :func:`search.latency.work.model_work`.
            ratios: (n,) measured ratios to the reference network.

        Raises:
            ConfigError: There are fewer than :data:`MIN_SAMPLES`.
        """
        if len(ratios) < MIN_SAMPLES:
            raise ConfigError(
                f"a prediction needs {MIN_SAMPLES} measured networks, the table has {len(ratios)}"
            )
        self.samples = len(ratios)
        rest = _left_out_rest(work, ratios)
        self.error = float(np.median(np.abs(np.expm1(rest))))
        rank = min(len(rest) - 1, math.ceil(CONFIDENCE * (len(rest) + 1)) - 1)
        self._margin = math.exp(float(np.sort(np.abs(rest))[rank]))
        self._prices = Prices(work, ratios)
        self._residual = _learn_rest(self._prices, work, ratios)
        self._coverage = Coverage(work, ratios)

    def predict_work(self, work: FloatArray) -> Prediction:
        """Predict networks from their work, (n, columns)."""
        ratio = _predict(self._prices, self._residual, work)
        inside = self._coverage.holds(work, ratio)
        return Prediction(ratio, ratio / self._margin, ratio * self._margin, inside)

    def predict(self, configs: Sequence[ModelConfig]) -> Prediction:
        """Predict networks of the family and resolution that were measured.

        Raises:
            ConfigError: They mix families or design resolutions, or there is none.
        """
        return self.predict_work(model_work(configs))

    def shares(self, work: FloatArray) -> dict[str, float]:
        """Mean share of each kind of work in the time of networks, the largest first."""
        parts = self._prices.parts(work)
        means = (parts / parts.sum(axis=1, keepdims=True)).mean(axis=0)
        names = (*COLUMNS, "network")
        order = np.argsort(-means)
        return {names[index]: float(means[index]) for index in order if means[index] > 0}


def _learn_rest(prices: Prices, work: FloatArray, ratios: FloatArray) -> Residual:
    parts = prices.parts(work)
    return Residual(parts, np.log(ratios / parts.sum(axis=1)))


def _predict(prices: Prices, residual: Residual, work: FloatArray) -> FloatArray:
    parts = prices.parts(work)
    ratios: FloatArray = parts.sum(axis=1) * np.exp(residual.predict(parts))
    return ratios


def _left_out_rest(work: FloatArray, ratios: FloatArray) -> FloatArray:
    """Logarithm of measured over predicted ratios, each fitted to the other folds only; (n,)."""
    rest = np.empty(len(ratios))
    for kept, left_out in KFold(FOLDS, shuffle=True, random_state=0).split(work):
        prices = Prices(work[kept], ratios[kept])
        residual = _learn_rest(prices, work[kept], ratios[kept])
        predicted = _predict(prices, residual, work[left_out])
        rest[left_out] = np.log(ratios[left_out] / predicted)
    return rest
