"""The same as :mod:`search.proxy.statement`, of an accuracy that is the mean of several tasks.

The figures are read from the committed summary of the experiment ``task_audit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.proxy.statement import (
    DESCRIPTION,
    NAME,
    NO_CLAIM,
    SEVERAL,
    committed_rows,
    order,
    statement,
)
from search.proxy.tasks import AXES, CUE, LOCALISATION, ROUTING, TEXTURE

SUMMARY = "task_audit_summary.csv"
"""In ``search/data``; ``python -m experiments.run task_audit`` writes the rows of a space."""

SOURCE = "docs/task_audit.md"

WHAT = {
    ROUTING: "routing: each half of a canvas has a cue, and a cell must match that of the other "
    "half",
    LOCALISATION: "localisation: each cell tells how many rows and columns away the cue is",
    TEXTURE: "texture: each cell tells which of ten gratings it shows, under noise",
}

RESOLVES = (
    "Whether a variant mixes windows at all, and by routing whether windows can hand on different "
    "things: docs/proxy_tasks.md says what each task sees."
)

NOT_MEASURED = (
    "The order of variants of this space: how well this mean ranks them has not been measured; "
    "`python -m experiments.run task_audit --space SPACE` does that."
)


def trained_statement(space: str, tasks: Sequence[str]) -> dict[str, Any]:
    """What the accuracy of trainings on some tasks is: of the cue task alone, or of a mean."""
    return statement(space) if tuple(tasks) == (CUE,) else mean_statement(space, tasks)


def mean_statement(space: str, tasks: Sequence[str]) -> dict[str, Any]:
    """Name, description, what the axis resolves and what not, and its measured ranking.

    Args:
        space: Name of the space searched. Of spaces that were not audited nothing is claimed, and
            their ``ranking`` is None.
        tasks: What accuracy is the mean of, more than one.
    """
    joined = ", ".join(tasks)
    further = "; ".join(WHAT[task] for task in tasks[1:])
    row = audited(space, tasks)
    ranked = None if row is None else _ranking(row)
    return {
        "name": f"the mean of {len(tasks)} tasks: {joined}",
        "accuracy": f"proxy accuracy (mean of {len(tasks)} tasks)",
        "description": (
            f"The cue task, {NAME}: {DESCRIPTION} From there the variant is trained on, "
            f"separately, to {further}. Accuracy is the mean of the tasks' shares of right cells, "
            "each of which the records hold as well."
        ),
        "resolves": [RESOLVES],
        "does_not_resolve": [NOT_MEASURED if ranked is None else order(ranked, SEVERAL), NO_CLAIM],
        "ranking": ranked,
    }


def _ranking(row: dict[str, str]) -> dict[str, str | float]:
    return {
        "kendall_tau": float(row["tau"]),
        "low": float(row["low"]),
        "high": float(row["high"]),
        "variants": int(row["variants"]),
        "reading": f"one training of a trial, against {SEVERAL} twice as long",
        "noise_ceiling": float(row["ceiling"]),
        "macs_tau": float(row["macs"]),
        "source": SOURCE,
    }


def audited(space: str, tasks: Sequence[str]) -> dict[str, str] | None:
    """Row of the summary of an axis in a space; None where it was not measured."""
    found = (row for row in _rows() if row["space"] == space and AXES[row["axis"]] == tuple(tasks))
    return next(found, None)


def _rows() -> tuple[dict[str, str], ...]:
    return committed_rows(SUMMARY)
