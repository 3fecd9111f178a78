"""A Gaussian process over encoded networks whose scales are guessed sensibly from little data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from search.samplers.setting import FloatArray

SCALE_PRIOR = 2**0.5, 3**0.5
"""Mean, less half the log of the dimension, and deviation of the log of a length scale (Hvarfner,
Hellsten, Nardi, "Vanilla Bayesian optimization performs great in high dimensions", ICML 2024)."""

NOISE_PRIOR = math.log(1e-2), 1.0
"""Mean and deviation of the log of the noise, as a share of the variance."""

STEPS = 30
"""Iterations of a fit. It begins at the priors' means and need not come to the end."""

BOUNDS = {"variance": (1e-2, 1e2), "length": (1e-1, 1e3), "noise": (1e-5, 1.0)}


def fit_kernel(rows: FloatArray, values: FloatArray) -> Kernel:
    """Find the scales and the noise that explain values best, given their priors.

    Args:
        rows: (n, d), encoded networks.
        values: (n,), standardised.

    Returns:
        A Matern kernel of smoothness 5/2 with a length scale for each feature, and noise.
    """
    dimension = rows.shape[1]
    scales = np.full(dimension, np.exp(_scale_mean(dimension)))
    kernel = ConstantKernel(1.0, BOUNDS["variance"]) * Matern(scales, BOUNDS["length"], nu=2.5)
    kernel += WhiteKernel(np.exp(NOISE_PRIOR[0]), BOUNDS["noise"])
    model = GaussianProcessRegressor(kernel, optimizer=_most_probable)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is an answer
        return model.fit(rows, values).kernel_


def _scale_mean(dimension: int) -> float:
    return SCALE_PRIOR[0] + math.log(dimension) / 2


def _most_probable(
    likelihood: Callable[..., tuple[float, FloatArray]],
    start: FloatArray,
    bounds: FloatArray,
) -> tuple[FloatArray, float]:
    """Minimise the negative log posterior; scikit-learn gives the likelihood's part.

    The parameters are logarithms of the variance, the length scales and the noise, in this order.
    """
    centre = np.zeros_like(start)
    width = np.full_like(start, np.inf)  # of the variance nothing is assumed
    centre[1:-1], width[1:-1] = _scale_mean(len(start) - 2), SCALE_PRIOR[1]
    centre[-1], width[-1] = NOISE_PRIOR

    def posterior(parameters: FloatArray) -> tuple[float, FloatArray]:
        value, slope = likelihood(parameters, eval_gradient=True)
        z = (parameters - centre) / width
        return value + float(z @ z) / 2, slope + z / width

    options: dict[str, Any] = {"maxiter": STEPS}
    found = optimize.minimize(
        posterior, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options
    )
    return found.x, float(found.fun)


class GaussianProcess:
    """Guesses a function of encoded networks from its values at some of them.

    Args:
        kernel: From :func:`fit_kernel`.
        rows: (n, d), encoded networks.
        values: (n,).
    """

    def __init__(self, kernel: Kernel, rows: FloatArray, values: FloatArray) -> None:
        self._mean, self._spread = standard(values)
        self._noise = float(kernel.k2.noise_level)
        self._model = GaussianProcessRegressor(kernel, optimizer=None)
        self._model.fit(rows, (values - self._mean) / self._spread)

    def __call__(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (n,) of the function itself, without noise."""
        mean, deviation = self._model.predict(rows, return_std=True)
        deviation = np.sqrt(np.maximum(np.square(deviation) - self._noise, 0.0))
        return self._mean + self._spread * mean, self._spread * deviation


def standard(values: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation of values; 1 where they are all equal."""
    return float(values.mean()), float(values.std()) or 1.0
