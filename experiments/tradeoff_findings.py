"""What a search adds over the published sizes of its family: plain data, and its arithmetic.

Two ways of choosing a network for a budget are compared. The *published* one takes the largest
published model that fits. The *searched* one takes, of all finalists that fit, published models
among them, the one whose training during the search was best. Both are then valued by what they
reached afterwards: trained anew, longer, with seeds that the choice has not seen, so that being
chosen for a lucky training earns nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

CONFIDENCE = 0.95


class Finalist(NamedTuple):
    """A network that was trained anew.

    Attributes:
        number: Its trial.
        label: Name of the published model, else empty.
        cost: MACs or milliseconds.
        first: Proxy accuracy during the search: what it is chosen by.
        accuracy: Mean proxy accuracy of the trainings afterwards: what it is worth.
        sd: Their standard deviation; None for a single one.
        seeds: How many they were.
    """

    number: int
    label: str
    cost: float
    first: float
    accuracy: float
    sd: float | None
    seeds: int


class Gain(NamedTuple):
    """Proxy accuracy that the searched choice has over the published one at equal budget.

    Attributes:
        value: Mean over all budgets between the smallest and the largest published model, equally
            dense in the logarithm of the budget: the area between the two curves over its width.
        low, high: 95 % interval over seeds; None where a finalist has a single one, or where both
            choices agree everywhere.
        cheapest, dearest: The budgets between which it is a mean.
    """

    value: float
    low: float | None
    high: float | None
    cheapest: float
    dearest: float


def gain(finalists: Sequence[Finalist]) -> Gain | None:
    """Compare the two choices over all budgets; None with fewer than two published models."""
    published = sorted((each for each in finalists if each.label), key=lambda each: each.cost)
    if len(published) < 2 or published[0].cost == published[-1].cost:
        return None
    cheapest, dearest = published[0].cost, published[-1].cost
    weights = _weights(finalists, published, cheapest, dearest)
    by_number = {each.number: each for each in finalists}
    value = sum(weight * by_number[number].accuracy for number, weight in weights.items())
    low, high = _interval(value, [(weights[n], by_number[n]) for n in weights if weights[n]])
    return Gain(value, low, high, cheapest, dearest)


def _weights(
    finalists: Sequence[Finalist], published: Sequence[Finalist], cheapest: float, dearest: float
) -> Mapping[int, float]:
    """By trial: the share of budgets at which it is the searched choice, less the published one."""
    weights = dict.fromkeys((each.number for each in finalists), 0.0)
    steps = sorted({each.cost for each in finalists if cheapest <= each.cost < dearest})
    width = math.log(dearest / cheapest)
    for start, end in zip(steps, [*steps[1:], dearest], strict=True):
        share = math.log(end / start) / width
        within = [each for each in finalists if each.cost <= start]
        weights[max(within, key=lambda each: each.first).number] += share
        largest = [each for each in published if each.cost <= start][-1]
        weights[largest.number] -= share
    return weights


def _interval(
    value: float, terms: Sequence[tuple[float, Finalist]]
) -> tuple[float | None, float | None]:
    """Of a weighted sum of independent means, by Welch and Satterthwaite's degrees of freedom."""
    if not terms:
        return None, None
    variances = []
    for weight, each in terms:
        if each.sd is None or each.seeds < 2:
            return None, None
        variances.append((weight**2 * each.sd**2 / each.seeds, each.seeds - 1))
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return value, value
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in variances)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(total)
    return value - half, value + half
