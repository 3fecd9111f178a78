"""The page about fidelities: which way to decide how far variants are trained saves steps."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from experiments.ablation.layout import DASH, Table
from experiments.ablation.writers import markdown_table
from experiments.earlier import NOTE, has_earlier

PAGE = "fidelities.md"
GOAL = 0.4
"""Share of the training steps within which the hypervolume of full training is wanted."""

INTRODUCTION = f"""# How far to train

`python -m experiments.run fidelity_curves` trains random SepViT variants in full and measures each
on the way; `fidelity_benchmark` replays on these curves how a search would decide at *rungs* who
goes on. Each policy meets the variants in many random orders. Full training of the first third sets
the hypervolume (accuracy, MACs and latency) to reach; a policy goes on with further variants until
it has as much. "Steps to reach it" is its share of those training steps: median and 95 % range over
orders, {DASH} where too few orders reach it. "Same variants" is what it spends, and keeps of the
hypervolume, without further variants. At 0, MACs and latency alone decide, before any training;
"chance" promotes at random.

Accuracies are the embedded proxy's. A variant at rung 0 is judged by its cost only, so a large
variant is rarely trained there: what that loses is what the last column lacks of 1."""


def page(summary: pd.DataFrame, agreement: pd.DataFrame, curves: pd.DataFrame) -> str:
    """Make the page.

    Args:
        summary: A row a policy.
        agreement: A row a reading, with its rank correlation with full training.
        curves: A row a variant: the learning curves that both are of.

    Returns:
        Markdown.
    """
    parts = list(_parts(summary, agreement))
    if has_earlier(curves):
        parts.insert(1, NOTE)
    return "\n\n".join(parts) + "\n"


def _parts(summary: pd.DataFrame, agreement: pd.DataFrame) -> Iterator[str]:
    yield INTRODUCTION
    policies = tuple(map(_policy, summary.to_dict("records")))
    yield markdown_table(Table("", "", _POLICY_HEADER, policies))
    yield _finding(summary)
    yield "## How early readings rank"
    yield "Kendall's tau with the accuracy after full training, and its bootstrap interval of 95 %:"
    readings = tuple(map(_reading, agreement.to_dict("records")))
    yield markdown_table(Table("", "", _READING_HEADER, readings))


_POLICY_HEADER = (
    "policy",
    "steps to reach it",
    "95 % of orders",
    "orders that reach it",
    "steps, same variants",
    "hypervolume, same variants",
)
_READING_HEADER = ("reading", "variants", "tau", "interval")


def _policy(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    return (
        str(row["policy"]),
        _share(row["steps to reach it"]),
        f"{_share(row['low'])} to {_share(row['high'])}",
        f"{row['reached']:.0%}",
        f"{row['steps for the same variants']:.2f}",
        f"{row['hypervolume of the same variants']:.3f}",
    )


def _reading(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    interval = f"{row['low']:.2f} to {row['high']:.2f}"
    return str(row["reading"]), str(row["variants"]), f"{row['tau']:.2f}", interval


def _share(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else DASH


def _finding(summary: pd.DataFrame) -> str:
    """Which policies keep the goal in the median order, and in nearly all."""
    kept = summary[summary["steps to reach it"] <= GOAL]
    goal = f"{GOAL:.0%} of the steps"
    if kept.empty:
        return f"No policy reaches the hypervolume of full training within {goal}."
    names = "; ".join(kept["policy"])
    safe = kept[kept["high"] <= GOAL]
    inside = "; ".join(safe["policy"]) if len(safe) else "none"
    return f"Within {goal} in the median order: {names}. In 97.5 % of orders: {inside}."
