"""What accuracies inherited from a supernet are, and how far they can be trusted, for reports.

The figures are read from the committed summaries of the audits, as in
:mod:`search.proxy.statement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.proxy.mean_statement import audited, trained_statement
from search.proxy.statement import ALL, NO_CLAIM, SEVERAL, TAU, order, read_summary
from search.proxy.tasks import CUE

INHERITED = (
    "Here trials are not trained: they inherit their weights from one supernet, which is trained "
    "before on variants of all sizes. Finalists are trained, as described."
)

RESOLVES = (
    "What the supernet has learned to tell apart: how inherited accuracies rank a sample of this "
    "space that was also trained on its own is a part of this run."
)

NOT_MEASURED = (
    "The order of variants of this space: how well inherited accuracies rank them has not been "
    "measured beyond that."
)


def inheriting_statement(space: str, tasks: Sequence[str]) -> dict[str, Any]:
    """Name, description, what the axis resolves and what not, and its measured ranking.

    Args:
        space: Name of the space searched. Of spaces whose supernet was not audited nothing is
            claimed, and their ``ranking`` is None.
        tasks: What accuracy is the mean of; the supernet learned them.
    """
    trained = trained_statement(space, tasks)
    ranked = _ranking(space, tasks, trained["ranking"])
    unresolved = NOT_MEASURED if ranked is None else order(ranked, SEVERAL, "inherited accuracies")
    return trained | {
        "description": f"{trained['description']} {INHERITED}",
        "resolves": [RESOLVES],
        "does_not_resolve": [unresolved, NO_CLAIM],
        "ranking": ranked,
    }


def _ranking(
    space: str, tasks: Sequence[str], trained: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """As that of a trial's training, with the supernet's tau in its place."""
    found = _tau(space, tasks)
    if trained is None or found is None:
        return None
    names = ("kendall_tau", "low", "high")
    reading = f"weights inherited from a supernet, against {SEVERAL} twice as long"
    return {**trained, **dict(zip(names, found, strict=True)), "reading": reading}


def _tau(space: str, tasks: Sequence[str]) -> tuple[float, float, float] | None:
    """Kendall's tau with longer training, and its interval; None where it was not measured."""
    if tuple(tasks) == (CUE,):
        row = read_summary(space).get((ALL, "supernet, accuracy", TAU))
        names = ("value", "low", "high")
    else:
        row = audited(space, tasks)
        names = ("supernet", "supernet_low", "supernet_high")
    if row is None or not row.get(names[0]):
        return None
    value, low, high = (float(row[name]) for name in names)
    return value, low, high
