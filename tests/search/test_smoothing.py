"""Smoothed accuracies: luck is taken out, differences that variants have are not."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from effvit import ModelConfig, model_cost
from search.records import TrialRecord
from search.smoothing import smooth
from search.surrogate import LEAST
from spaces import get_space
from tests.search.fakes import complete_record

SPACE = get_space("sepvit")
NOISE = 0.05


@functools.cache
def variants(count: int) -> list[ModelConfig]:
    return SPACE.sample_many(np.random.default_rng(3), count)


def truth(config: ModelConfig) -> float:
    """An accuracy that rises with the logarithm of MACs, from about 0.5 to 0.8."""
    return 0.65 + 0.1 * float(np.log(model_cost(config).macs / 3e9))


def trials(count: int, seed: int = 0) -> list[TrialRecord]:
    """Complete trials, each trained once with noise."""
    rng = np.random.default_rng(seed)
    return [
        complete_record(
            number, truth(config) + NOISE * rng.normal(), model_cost(config).macs, 5.0, config
        )
        for number, config in enumerate(variants(count))
    ]


def smoothed(records: list[TrialRecord]) -> dict[int, float]:
    smooth(records, SPACE)
    return {r.number: r.accuracy_smoothed for r in records if r.accuracy_smoothed is not None}


@pytest.mark.parametrize("seed", range(3))
def test_half_of_the_noise_and_no_difference_is_taken_out(seed: int) -> None:
    records = trials(60, seed)
    found = smoothed(records)
    right = np.array([truth(record.model_config) for record in records])
    after = np.array([found[record.number] for record in records])
    assert np.sqrt(np.mean((after - right) ** 2)) < NOISE / 2
    assert np.polyfit(right, after, 1)[0] > 0.7  # all alike would be smooth as well


def test_one_that_has_not_found_the_relation_stands_alone() -> None:
    records = trials(30)
    before = smoothed(records)
    stuck = complete_record(30, 0.1, 10**9, 5.0, variants(31)[30])
    stuck.relation_found = False
    after = smoothed([*records, stuck])
    assert after.pop(30) == 0.1
    assert after == before


def test_the_order_of_trials_makes_no_difference() -> None:
    assert smoothed(trials(20)) == smoothed(trials(20)[::-1])


def test_only_complete_trials_are_smoothed_and_few_are_left_as_they_are() -> None:
    records = trials(LEAST)
    records[0].state = "failed"
    found = smoothed(records)
    assert 0 not in found
    assert found == {r.number: r.accuracy for r in records[1:]}
    assert smoothed(records[:1]) == {}


def test_an_accuracy_stays_a_share() -> None:
    records = trials(40)
    for record in records:
        record.accuracy = min(1.0, record.accuracy + 0.25) if record.accuracy is not None else None
    assert all(0 <= value <= 1 for value in smoothed(records).values())
