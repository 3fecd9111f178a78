"""A learned surrogate: guesses the accuracy of variants from those that were trained, and how sure.

A Gaussian process over encoded variants (:mod:`search.samplers.features`), joined by any cheap
scores. How far its guesses are off is not what the process believes but what cross-validation
shows: its deviations are scaled so that intervals hold the stated share of values that a model
without them was asked for (split-conformal intervals with normalised residuals, arXiv 1604.04173
section 5.2, over the folds of a cross-validation as in arXiv 1905.02928).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from effvit import ConfigError, ModelConfig, model_costs
from search.blas import one_blas_thread
from search.samplers.features import COST_SPREAD, Features
from search.samplers.gaussian import GaussianProcess, fit_kernel, standard
from spaces.space import Space

FloatArray = NDArray[np.float64]

LEAST: Final = 8
"""Trained variants below which nothing is guessed."""

COVERAGE: Final = 0.9
FOLDS: Final = 8
TYPICAL: Final = 200
"""Variants whose costs set the scale of costs."""

_FAR: Final = 3.0  # standard deviations at which a cheap score is cut off


@dataclasses.dataclass(frozen=True)
class Guess:
    """Guessed accuracies of variants (n,).

    Attributes:
        mean: The guess.
        low, high: Bounds of the interval for the accuracy of one training, of the surrogate's
            coverage.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray


class Encoder:
    """Encodes variants of a space, with cheap scores if there are any, as rows of numbers.

    Args:
        space: The space.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        typical = space.costs(space.draw(np.random.default_rng(0), TYPICAL))
        self._features = Features(space, typical)

    def rows(self, configs: Sequence[ModelConfig]) -> FloatArray:
        """Encode variants as (n, d)."""
        choices = [next(iter(self._space.encodings(config))) for config in configs]
        return self._features.rows(choices, model_costs(configs))


class Surrogate:
    """Guesses accuracies, better with every training that it is told of.

    Args:
        encoder: Of the space's variants.
        coverage: Share of accuracies that its intervals shall hold.
    """

    def __init__(self, encoder: Encoder, coverage: float = COVERAGE) -> None:
        if not 0 < coverage < 1:
            raise ConfigError(f"coverage must be between 0 and 1, got {coverage}")
        self._encoder = encoder
        self._coverage = coverage
        self._rows: list[FloatArray] = []
        self._values: list[float] = []
        self._model: _Calibrated | None = None

    def __len__(self) -> int:
        """Number of trainings told."""
        return len(self._values)

    def tell(self, config: ModelConfig, accuracy: float, scores: Sequence[float] = ()) -> None:
        """Learn from a training.

        Args:
            config: The variant.
            accuracy: What it reached.
            scores: Cheap scores of it, the same ones for all variants.

        Raises:
            ConfigError: The accuracy is no finite number, or there are more or fewer scores than
                before.
        """
        if not math.isfinite(accuracy):
            raise ConfigError(f"an accuracy must be a finite number, got {accuracy}")
        row = self._joined([config], [scores])[0]
        if self._rows and len(row) != len(self._rows[0]):
            before = len(self._rows[0]) - (len(row) - len(scores))
            raise ConfigError(f"variants came with {before} scores before, now with {len(scores)}")
        self._rows.append(row)
        self._values.append(accuracy)
        self._model = None

    def guess(
        self, configs: Sequence[ModelConfig], scores: Sequence[Sequence[float]] | None = None
    ) -> Guess:
        """Guess the accuracies of variants.

        Args:
            configs: The variants (n).
            scores: Cheap scores of each, as they were told.

        Raises:
            ConfigError: It was told of fewer than :data:`LEAST` trainings.
        """
        if len(self) < LEAST:
            raise ConfigError(f"a surrogate needs {LEAST} trained variants, got {len(self)}")
        if self._model is None:
            rows, values = np.vstack(self._rows), np.array(self._values)
            self._model = _Calibrated(rows, values, self._coverage)
        return self._model.guess(self._joined(configs, scores or [()] * len(configs)))

    def _joined(
        self, configs: Sequence[ModelConfig], scores: Sequence[Sequence[float]]
    ) -> FloatArray:
        given = np.array([list(own) for own in scores], np.float64).reshape(len(configs), -1)
        joined: FloatArray = np.hstack([self._encoder.rows(configs), given])
        return joined


class _Calibrated:
    """A model of all values, and models that were each not told of a fold of them."""

    def __init__(self, rows: FloatArray, values: FloatArray, coverage: float) -> None:
        self._whole = _Model(rows, values)
        self._coverage = coverage
        self._folds: list[tuple[_Model, FloatArray]] = []
        for known, left_out in _folds(len(values)):
            model = _Model(rows[known], values[known])
            mean, deviation = model(rows[left_out])
            self._folds.append((model, np.abs(values[left_out] - mean) / deviation))

    def guess(self, rows: FloatArray) -> Guess:
        mean, _ = self._whole(rows)
        lows, highs = [], []
        for model, residuals in self._folds:
            centre, deviation = model(rows)
            off = residuals[:, None] * deviation
            lows.append(centre - off)
            highs.append(centre + off)
        low, high = np.sort(np.vstack(lows), axis=0), np.sort(np.vstack(highs), axis=0)
        # The value to come counts as one more: the ceil((n + 1) c)-th from the other end.
        rank = min(math.ceil((len(low) + 1) * self._coverage), len(low))
        return Guess(mean, low[-rank], high[rank - 1])


class _Model:
    """A Gaussian process with its noise; deviations are of a single training."""

    @one_blas_thread()
    def __init__(self, rows: FloatArray, values: FloatArray) -> None:
        self._centre = rows.mean(0)
        spread = rows.std(0)
        # Encodings lie within 0 and 1 as they are; only scores have scales of their own.
        self._scale = np.where(spread > 1, COST_SPREAD / np.maximum(spread, 1e-12), 1.0)
        mean, deviation = standard(values)
        scaled = self._scaled(rows)
        kernel = fit_kernel(scaled, (values - mean) / deviation)
        self._noise = float(kernel.k2.noise_level) * deviation**2
        self._process = GaussianProcess(kernel, scaled, values)

    @one_blas_thread()
    def __call__(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean, deviation = self._process(self._scaled(rows))
        noisy = np.sqrt(np.square(deviation) + self._noise)
        return mean, np.maximum(noisy, np.finfo(np.float64).tiny)

    def _scaled(self, rows: FloatArray) -> FloatArray:
        limit = _FAR * np.where(self._scale == 1.0, np.inf, COST_SPREAD)
        scaled: FloatArray = np.clip((rows - self._centre) * self._scale, -limit, limit)
        return scaled


def out_of_fold(
    rows: FloatArray, values: FloatArray, folds: int = FOLDS, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Guess each value by a model that was not told of it.

    Args:
        rows: (n, d), encoded variants.
        values: (n,), what they reached.
        folds: Groups that are left out in turn.
        seed: Of the grouping.

    Returns:
        Means and deviations (n,).
    """
    mean, deviation = np.empty(len(values)), np.empty(len(values))
    for known, left_out in _folds(len(values), folds, seed):
        model = _Model(rows[known], values[known])
        mean[left_out], deviation[left_out] = model(rows[left_out])
    return mean, deviation


def _folds(
    count: int, folds: int = FOLDS, seed: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Numbers of the values that a model is told of, and of those that it is not."""
    split = KFold(min(folds, count), shuffle=True, random_state=seed)
    yield from split.split(np.zeros((count, 1)))
