"""Means over seeds, paired differences and their significance.

Rows of an ablation share their seeds, and with a seed the training data and the initial values of
common tensors: what is compared are differences seed by seed. Intervals are Student's, at 95 % and
with n - 1 degrees of freedom, p values those of the two-sided paired t test. Seeds are few and
shares are bounded, so neither is exact.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

from search.finalists import mean_interval, share_interval

SIGNIFICANT = 0.05
"""Level of p below which a difference counts as resolved."""

MOST_SEEDS = 100
"""More than anybody would train."""

Scores = Mapping[int, float]
"""One score of a row by seed; seeds whose training failed are missing."""


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over seeds with its interval; no interval from a single seed."""

    value: float
    low: float | None
    high: float | None
    seeds: int


@dataclasses.dataclass(frozen=True)
class Difference(Mean):
    """A mean of paired differences.

    Attributes:
        p: Of the two-sided paired t test; None from a single seed, or between equal networks.
        p_holm: The same, corrected for all tests of the same column of the table.
    """

    p: float | None = None
    p_holm: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below :data:`SIGNIFICANT`."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


def mean(values: Sequence[float]) -> Mean | None:
    """Mean of a sample; None of an empty one."""
    if not values:
        return None
    return Mean(statistics.fmean(values), *mean_interval(values), len(values))


def share(values: Sequence[float]) -> Mean | None:
    """Mean of shares; its interval stays within 0 and 1."""
    found = mean(values)
    if found is None:
        return None
    low, high = share_interval(values)
    return dataclasses.replace(found, low=low, high=high)


def paired(after: Scores, before: Scores) -> Difference | None:
    """Difference of two rows over the seeds that both have; None if there is none."""
    return difference([after[seed] - before[seed] for seed in after if seed in before])


def difference(values: Sequence[float]) -> Difference | None:
    """Mean of paired differences with its interval and p; None of an empty sample."""
    found = mean(values)
    if found is None:
        return None
    return Difference(found.value, found.low, found.high, found.seeds, p=_p_value(values))


def seeds_to_resolve(found: Difference) -> int | None:
    """Fewest seeds at which the interval would exclude 0, if mean and spread stayed as they are.

    Returns:
        None without an interval, or where more than :data:`MOST_SEEDS` would not do.
    """
    if found.high is None:
        return None
    quantile = float(stats.t.ppf(0.975, found.seeds - 1))
    deviation = (found.high - found.value) * found.seeds**0.5 / quantile
    for count in range(2, MOST_SEEDS + 1):
        if abs(found.value) * count**0.5 > float(stats.t.ppf(0.975, count - 1)) * deviation:
            return count
    return None


def _p_value(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    average, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    if not error:  # equal networks, whose t statistic is 0 / 0; else it is infinite
        return 0.0 if average else None
    return float(2 * stats.t.sf(abs(average) / error, len(values) - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction; None stays None and does not count as a comparison.

    The i-th smallest of m values is multiplied by m - i + 1, is at least the one before it, and at
    most 1 (Holm, "A simple sequentially rejective multiple test procedure", 1979).
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected


def corrected(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """The same differences with Holm's correction over all of them."""
    p_values = holm([found.p if found else None for found in differences])
    return [
        dataclasses.replace(found, p_holm=p) if found else None
        for found, p in zip(differences, p_values, strict=True)
    ]
