"""What the proxy's accuracy axis is and how far it can be trusted, for every report.

The figures are read from the committed summary of the experiment ``proxy_audit``, so that what a
report claims is what was measured.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

SUMMARY = "proxy_audit_summary.csv"
"""In ``search/data``; ``python -m experiments.run proxy_audit`` writes the rows of a space."""

SOURCE = "docs/proxy_audit.md"

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

NOT_MEASURED = (
    "The order of variants of this space: how well this accuracy ranks them has not been measured; "
    "`python -m experiments.run proxy_audit --space SPACE` does that."
)

SEVERAL = "the mean of several"
"""What trials are held against where the longer training has more than one seed."""

ALL, MIXING = "all", "mixing windows"
TAU = "Kendall's tau"

Summary = dict[tuple[str, str, str], dict[str, str]]
"""Rows of a space's summary by group, reading and statistic."""


def statement(space: str) -> dict[str, Any]:
    """Name, description, what the axis resolves and what not, and its measured ranking.

    Args:
        space: Name of the space searched. Of spaces that were not audited nothing is claimed, and
            their ``ranking`` is None.
    """
    stated: dict[str, Any] = {"name": NAME, "description": DESCRIPTION}
    summary = read_summary(space)
    if not summary:
        return stated | {
            "resolves": [],
            "does_not_resolve": [NOT_MEASURED, NO_CLAIM],
            "ranking": None,
        }
    return stated | {
        "resolves": [_resolves(summary)],
        "does_not_resolve": [_does_not_resolve(summary), NO_CLAIM],
        "ranking": ranking(summary),
    }


def _resolves(summary: Summary) -> str:
    found = _figure(summary, "search", "relation found at once, share")
    accuracy = _figure(summary, "search", "accuracy, mean")
    return (
        "Whether a variant mixes windows at all. One that cannot stays near 0.5; of the audited "
        f"ones that can, {found:.0%} of first trainings found the relation, with a mean accuracy "
        f"of {accuracy:.2f}."
    )


def _does_not_resolve(summary: Summary) -> str:
    return order(ranking(summary), _reference_seeds(summary))


def order(ranked: Mapping[str, Any], reference: str, what: str = "a trial's training") -> str:
    """Say how well something ranks similar variants.

    Args:
        ranked: As :func:`ranking` returns it.
        reference: What it is held against, such as ``the mean of several``.
        what: What ranks.
    """
    said = (
        f"The order of similar variants: Kendall's tau of {what} with {reference} "
        f"twice as long is {ranked['kendall_tau']:.2f} (95 % interval {ranked['low']:.2f} to "
        f"{ranked['high']:.2f}, {ranked['variants']} variants)"
    )
    if ranked["noise_ceiling"] is None:
        return f"{said}; how well the longer training agrees with itself has not been measured."
    return f"{said}; another longer training reaches {ranked['noise_ceiling']:.2f}."


def _reference_seeds(summary: Summary) -> str:
    return "one" if _ceiling(summary) is None else SEVERAL


def _trained(summary: Summary) -> str:
    """Name of the reading that is a trial's training."""
    return next(
        reading
        for _, reading, statistic in summary
        if statistic == TAU and reading.startswith("short training")
    )


def _ceiling(summary: Summary) -> float | None:
    row = summary.get((ALL, "another training", TAU))
    return None if row is None else float(row["value"])


def _figure(summary: Summary, reading: str, statistic: str) -> float:
    """Value of a statistic among the audited variants that mix windows, if those are enough."""
    row = summary.get((MIXING, reading, statistic)) or summary[ALL, reading, statistic]
    return float(row["value"])


def _rows() -> tuple[dict[str, str], ...]:
    return committed_rows(SUMMARY)


@functools.cache
def committed_rows(name: str) -> tuple[dict[str, str], ...]:
    """Rows of a summary in ``search/data``."""
    text = (resources.files("search") / "data" / name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def read_summary(space: str) -> Summary:
    """Rows of the committed summary of a space by group, reading and statistic; none if not there.

    A space counts as audited once a trial's training is held against longer ones.
    """
    found = {
        (row["group"], row["reading"], row["statistic"]): row
        for row in _rows()
        if row["space"] == space
    }
    trained = any(reading.startswith("short training") for _, reading, _ in found)
    return found if trained else {}


def ranking(summary: Summary) -> dict[str, str | float | None]:
    """Kendall's tau of a trial's training with the longer ones, over all variants.

    Beside it stand what another longer training reaches, None where there is one only, and the
    baselines.
    """
    row = summary[ALL, _trained(summary), TAU]
    return {
        "kendall_tau": float(row["value"]),
        "low": float(row["low"]),
        "high": float(row["high"]),
        "variants": int(row["n"]),
        "reading": f"one training of a trial, against {_reference_seeds(summary)} twice as long",
        "noise_ceiling": _ceiling(summary),
        "parameters_tau": float(summary[ALL, "parameters", TAU]["value"]),
        "macs_tau": float(summary[ALL, "MACs", TAU]["value"]),
        "source": SOURCE,
    }
