"""Rank agreement with intervals: Kendall's tau-b, Spearman's rho, partial tau, bootstrap.

The statistics read the last axis and keep those before it, so that thousands of resamples are one
call. Where a statistic is not defined (a constant sample) it is NaN.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]
Statistic = Callable[..., FloatArray]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap interval (percentiles, 95 %, resampling variants)."""

    value: float
    low: float
    high: float


def kendall(x: FloatArray, y: FloatArray) -> FloatArray:
    """Kendall's tau-b of samples (..., n), as ``scipy.stats.kendalltau`` has it for one pair."""
    signs = [np.sign(sample[..., :, None] - sample[..., None, :]) for sample in (x, y)]
    untied = [np.square(sign).sum((-2, -1)) for sign in signs]
    return _ratio((signs[0] * signs[1]).sum((-2, -1)), np.sqrt(untied[0] * untied[1]))


def spearman(x: FloatArray, y: FloatArray) -> FloatArray:
    """Spearman's rho of samples (..., n)."""
    ranks = [stats.rankdata(sample, axis=-1) for sample in (x, y)]
    a, b = (rank - rank.mean(-1, keepdims=True) for rank in ranks)
    return _ratio((a * b).sum(-1), np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1)))


def partial_kendall(x: FloatArray, y: FloatArray, given: FloatArray) -> FloatArray:
    """Kendall's partial tau of x and y, the third held fixed."""
    xy, xz, yz = kendall(x, y), kendall(x, given), kendall(y, given)
    return _ratio(xy - xz * yz, np.sqrt((1 - xz**2) * (1 - yz**2)))


def _ratio(over: FloatArray, under: FloatArray) -> FloatArray:
    """Divide; NaN where the divisor is 0."""
    under = np.asarray(under, np.float64)
    quotient: FloatArray = np.full(under.shape, np.nan)
    np.divide(over, under, out=quotient, where=under > 0)
    return quotient


def estimate(statistic: Statistic, *samples: FloatArray, seed: int = 0) -> Estimate:
    """Compute a statistic of paired samples (n,) and its bootstrap interval.

    Resamples in which the statistic is not defined are left out.
    """
    count = len(samples[0])
    chosen = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    draws = statistic(*(sample[chosen] for sample in samples))
    tail = (1 - CONFIDENCE) / 2
    defined = draws[np.isfinite(draws)]
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Estimate(float(statistic(*samples)), float(low), float(high))


def binned_kendall(x: FloatArray, y: FloatArray, bins: FloatArray) -> FloatArray:
    """Kendall's tau-b over pairs that share a bin, of samples and bins (..., n)."""
    together = bins[..., :, None] == bins[..., None, :]
    signs = [np.sign(s[..., :, None] - s[..., None, :]) * together for s in (x, y)]
    untied = [np.square(sign).sum((-2, -1)) for sign in signs]
    return _ratio((signs[0] * signs[1]).sum((-2, -1)), np.sqrt(untied[0] * untied[1]))


def one_and_the_others(*seeds: FloatArray) -> FloatArray:
    """Mean over seeds of tau between one and the mean of the others, of samples (..., n)."""
    taus = [kendall(one, others) for one, others in _left_out(seeds)]
    mean: FloatArray = np.mean(taus, axis=0)
    return mean


def less_another(x: FloatArray, *seeds: FloatArray) -> FloatArray:
    """Mean over seeds of how much better x than that seed ranks by the mean of the others.

    Both are held against the same means, so that neither has the steadier one; samples (..., n).
    """
    differences = [kendall(x, others) - kendall(one, others) for one, others in _left_out(seeds)]
    mean: FloatArray = np.mean(differences, axis=0)
    return mean


def _left_out(seeds: Sequence[FloatArray]) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Each seed, with the mean of the others."""
    for index, one in enumerate(seeds):
        yield one, np.mean([*seeds[:index], *seeds[index + 1 :]], axis=0)


def pair_by_pair(*seeds: FloatArray) -> FloatArray:
    """Mean tau over all pairs of seeds, of samples (..., n)."""
    taus = [kendall(one, other) for one, other in itertools.combinations(seeds, 2)]
    mean: FloatArray = np.mean(taus, axis=0)
    return mean


def top_regret(x: FloatArray, y: FloatArray, top: int = 5) -> FloatArray:
    """How far the best of the ``top`` by x stays behind the best of all in y, of samples (..., n).

    Ties in x are broken by the order of the sample.
    """
    chosen = np.argsort(-x, axis=-1, kind="stable")[..., :top]
    regret: FloatArray = y.max(-1) - np.take_along_axis(y, chosen, -1).max(-1)
    return regret
