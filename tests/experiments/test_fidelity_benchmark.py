"""Replays of policies on learning curves that are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from effvit import ConfigError
from experiments.ablation.layout import DASH
from experiments.earlier import NOTE, RETRY_WEIGHT
from experiments.fidelity_benchmark import Curves, Policy, read_curves, replay, summarise
from experiments.fidelity_page import page
from search.front import hypervolume
from search.proxy import SEARCH


@pytest.fixture
def table() -> pd.DataFrame:
    """Eight variants of equal cost; what is read after 60 steps is the opposite of the truth."""
    accuracy = np.linspace(0.1, 0.8, 8)
    made: pd.DataFrame = pd.DataFrame(
        {
            "macs": 100,
            "params": 10,
            "latency_ratio": 2.0,
            "full_accuracy": accuracy,
            "continued_30_accuracy": accuracy / 2,
            "continued_60_accuracy": 1 - accuracy,
            "attempts": 1,
        }
    )
    return made


def test_steps_of_a_variant_between_rungs() -> None:
    policy = Policy(rungs=(0, 30, 60))
    assert [policy.steps(rung) for rung in (0, 30, 60, None)] == [0, 30, 60 - 30, 120 - 60]
    assert Policy().steps(None) == 120


def test_full_training_spends_all_steps_and_has_all_of_the_front(table: pd.DataFrame) -> None:
    table.loc[0, "attempts"] = 3
    curves = Curves(table)
    steps, volumes = replay(curves, Policy(), np.arange(8), seed=0)
    assert steps.tolist() == [120 * (n + 3) for n in range(8)]
    assert volumes[-1] == hypervolume(curves.losses, Curves.REFERENCE)
    assert (np.diff(volumes) >= 0).all()


def test_a_good_reading_keeps_the_best_of_each_bracket(table: pd.DataFrame) -> None:
    policy = Policy(rungs=(30,), reduction=2, bracket=4)
    curves = Curves(table)
    steps, volumes = replay(curves, policy, np.arange(8), seed=0)
    assert steps.tolist() == [4 * 30 + 2 * 90, 2 * (4 * 30 + 2 * 90)]
    assert volumes[-1] == hypervolume(curves.losses[7:], Curves.REFERENCE)
    wrong = Policy(rungs=(60,), reduction=2, bracket=4)
    assert replay(curves, wrong, np.arange(8), seed=0)[1][-1] < volumes[-1]


def test_the_summary_compares_with_full_training(table: pd.DataFrame) -> None:
    curves = Curves(table)
    row = summarise(curves, Policy(), range(5))
    assert row["reached"] == 1
    assert float(row["steps to reach it"]) <= 1  # the last of them may have added nothing
    assert (row["steps for the same variants"], row["hypervolume of the same variants"]) == (1, 1)
    wrong = Policy(rungs=(60,), reduction=4, bracket=8)
    assert float(summarise(curves, wrong, range(5))["reached"]) < 1


def test_readings_that_follow_the_truth_agree_with_it(table: pd.DataFrame) -> None:
    found = {row["reading"]: row["tau"] for row in Curves(table).agreement()}
    assert found["continued_30_accuracy"] == 1
    assert found["continued_60_accuracy"] == -1


def test_the_page_names_the_policies_within_the_goal(table: pd.DataFrame) -> None:
    curves = Curves(table)
    summary = pd.DataFrame([summarise(curves, Policy(), range(3))])
    agreement = pd.DataFrame(curves.agreement())
    earlier = page(summary, agreement, table)
    assert "No policy reaches the hypervolume of full training within 40%" in earlier
    assert NOTE in earlier
    summary["steps to reach it"], summary["high"] = 0.3, np.inf
    text = page(summary, agreement, table.assign(**{RETRY_WEIGHT: SEARCH.retry_recognition_weight}))
    assert NOTE not in text
    assert "Within 40% of the steps in the median order: full training." in text
    assert "In 97.5 % of orders: none." in text
    assert f"to {DASH} |" in text
    assert "| continued_30_accuracy | 8 | 1.00 |" in text


def test_missing_curves_say_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"experiments\.run fidelity_curves makes it"):
        read_curves(tmp_path / "none.csv")
