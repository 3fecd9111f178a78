"""What the proxy's accuracy axis is and how far it can be trusted, for every report."""

from __future__ import annotations

import csv
from importlib import resources
from typing import Any

SUMMARY = "proxy_ranking_summary.csv"

NAME = "scattered digits with a remote cue"

DESCRIPTION = (
    "The variant, scaled down to 96 x 96 pixels by a fixed rule that keeps its depths, pattern, "
    "tokens and window counts, is trained for seconds on canvases of scikit-learn's handwritten "
    "digits. Each of 36 cells shows a digit in one of two colours; a block of cells elsewhere on "
    "the canvas shows which colour counts. A cell's class is its digit if its colour is the "
    "cue's, else background: the relation can only be learned by windows that communicate, the "
    "digit itself can be recognised locally. This is a proxy accuracy on digits, not ImageNet's."
)

RESOLVES: tuple[str, ...] = ()
DOES_NOT_RESOLVE: tuple[str, ...] = ()


def statement() -> dict[str, Any]:
    """Name, description, what the axis resolves and what not, and its measured ranking."""
    return {
        "name": NAME,
        "description": DESCRIPTION,
        "resolves": list(RESOLVES),
        "does_not_resolve": list(DOES_NOT_RESOLVE),
        "ranking": ranking(),
    }


def ranking() -> dict[str, str | float] | None:
    """The committed audit's Kendall tau against longer training; None if there is no audit."""
    path = resources.files("search") / "data" / SUMMARY
    if not path.is_file():
        return None
    return None
