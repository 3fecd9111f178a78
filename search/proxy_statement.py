"""What the proxy's accuracy axis is and how far it can be trusted, for every report.

The figures are read from the committed summary of the experiment ``proxy_ranking``, so that what a
report claims is what was measured.
"""

from __future__ import annotations

import csv
from importlib import resources
from typing import Any

SUMMARY = "proxy_ranking_summary.csv"
"""In ``search/data``; ``python -m experiments.run proxy_ranking`` writes a new one."""

SOURCE = "experiments/data/proxy_ranking.csv"

NAME = "scattered digits with a remote cue"

DESCRIPTION = (
    "The variant, scaled down to 96 x 96 pixels by a fixed rule of its family that keeps its "
    "depths and how each stage attends, is trained for seconds on canvases of scikit-learn's "
    "handwritten digits. Each of 36 cells shows a digit in one of two colours; a block of cells "
    "elsewhere on the canvas shows which colour counts. A cell's class is its digit if its colour "
    "is the cue's, else background: the relation can only be learned where distant cells "
    "communicate, the digit itself can be recognised locally. This is a proxy accuracy on digits, "
    "not ImageNet's."
)

NO_CLAIM = "What a variant would reach on ImageNet: no such claim is made."

UNRESOLVED_CHOICES = (
    "Single changes of SepViT-Lite (token kind, GSA, depth of stage 3, MLP ratio, doubled widths): "
    "five paired seeds of the search's training resolve none of them in accuracy "
    "(experiments/data/proxy_contrasts_summary.csv)."
)

AUDITED = "sepvit"
"""The space whose variants the audit drew."""

NOT_MEASURED = (
    "The order of variants of this space: how well this accuracy ranks them has not been measured. "
    f"It has for the {AUDITED} space ({SOURCE}), where it hardly ranks variants that relate "
    "distant cells; nothing says that it does better here."
)

Summary = dict[tuple[str, str, str], dict[str, str]]
"""Rows of the summary by group, reading and statistic."""


def statement(space: str) -> dict[str, Any]:
    """Name, description, what the axis resolves and what not, and its measured ranking.

    Args:
        space: Name of the space searched. Of spaces that were not audited nothing is claimed, and
            their ``ranking`` is None.
    """
    stated: dict[str, Any] = {"name": NAME, "description": DESCRIPTION}
    if space != AUDITED:
        return stated | {
            "resolves": [],
            "does_not_resolve": [NOT_MEASURED, NO_CLAIM],
            "ranking": None,
        }
    summary = read_summary()
    return stated | {
        "resolves": [_resolves(summary)],
        "does_not_resolve": [_does_not_resolve(summary), UNRESOLVED_CHOICES, NO_CLAIM],
        "ranking": ranking(summary),
    }


def _resolves(summary: Summary) -> str:
    found = _figure(summary, "search", "relation found, share")
    accuracy = _figure(summary, "search", "accuracy, mean")
    return (
        "Whether a variant mixes windows at all. One that cannot stays near 0.5; of the audited "
        f"ones that can, {found:.0%} of trainings found the relation, with a mean accuracy of "
        f"{accuracy:.2f}."
    )


def _does_not_resolve(summary: Summary) -> str:
    noise = _figure(summary, "search", "accuracy, sd of one seed")
    spread = _figure(summary, "search", "accuracy, sd over variants")
    tau = _figure(summary, "search, mean of seeds", "tau to reference")
    ceiling = _figure(summary, "reference, seed with seed", "tau")
    return (
        "The order of variants that mix windows: the standard deviation of one search training "
        f"({noise:.3f}) is about that over variants ({spread:.3f}), and Kendall's tau of two of "
        f"them with three times longer training is {tau:.2f}. Longer training itself agrees "
        f"between two seeds only with tau {ceiling:.2f}."
    )


def _figure(summary: Summary, reading: str, statistic: str) -> float:
    """Value of a statistic among the audited variants that mix windows."""
    return float(summary["mixing windows", reading, statistic]["value"])


def read_summary() -> Summary:
    """Rows of the committed summary by group, reading and statistic."""
    text = (resources.files("search") / "data" / SUMMARY).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(row["group"], row["reading"], row["statistic"]): row for row in rows}


def ranking(summary: Summary) -> dict[str, str | float]:
    """Kendall's tau of the mean of two search trainings with the reference, over all variants.

    Beside it stand what longer training reaches between its own seeds, and the baselines.
    """
    row = summary["all", "search, mean of seeds", "tau to reference"]
    return {
        "kendall_tau": float(row["value"]),
        "low": float(row["low"]),
        "high": float(row["high"]),
        "variants": int(row["n"]),
        "reading": "mean of two search trainings, against the mean of two three times as long",
        "noise_ceiling": float(summary["all", "reference, seed with seed", "tau"]["value"]),
        "parameters_tau": float(summary["all", "params", "tau to reference"]["value"]),
        "macs_tau": float(summary["all", "macs", "tau to reference"]["value"]),
        "source": SOURCE,
    }
