"""The page about zero-cost scores: whether each is a finite number, its spread, its seconds."""

from __future__ import annotations

import pandas as pd

from experiments.ablation.layout import Table
from experiments.ablation.writers import markdown_table
from experiments.measure import machines
from search.scores.table import SCORES

PAGE, SUMMARY = "score_health.md", "score_health_summary.csv"

INTRODUCTION = """# Is every zero-cost score a number?

`python -m experiments.run score_health` draws random variants of each space that the proxy can
scale, and scores every scaled network once on a batch of {images} canvases. What is not finite, NaN
or infinite, is counted. "Assumed" are directions where this project, not the paper, says that
larger is better; how well scores rank is on [the page of the audit](proxy_audit.md)."""

VALUES = """## Values

Median, and quartiles in brackets: how much a score tells variants of a space apart."""


def page(summary: pd.DataFrame) -> str:
    """Make the page.

    Args:
        summary: From :func:`experiments.score_health.summarise`.

    Returns:
        Markdown.
    """
    images = int(summary["images"].iloc[0])
    parts = [
        INTRODUCTION.format(images=images),
        finding(summary),
        markdown_table(_health(summary)),
        VALUES,
        markdown_table(_values(summary)),
        f"Seconds are medians of one thread. {machines(summary)}.",
    ]
    return "\n\n".join(parts) + "\n"


def finding(summary: pd.DataFrame) -> str:
    """How many values are not finite, of how many."""
    variants = summary.groupby("space")["variants"].first()
    values, broken = int(summary["variants"].sum()), int(summary["not_finite"].sum())
    amount = "All are finite" if not broken else f"{broken:,} are not finite"
    return (
        f"{variants.sum():,} variants of {len(variants)} spaces, {summary['score'].nunique()} "
        f"scores each: {values:,} values. {amount}."
    )


def _health(summary: pd.DataFrame) -> Table:
    spaces = list(summary["space"].unique())
    rows = []
    for name, part in summary.groupby("score", sort=False):
        score, of_space = SCORES[str(name)], part.set_index("space")
        rows.append(
            (
                f"`{name}`",
                score.paper,
                score.direction,
                f"{part['not_finite'].sum()} of {part['variants'].sum():,}",
                f"{part['different'].sum():,}",
                *(f"{of_space.loc[space, 'seconds_median']:.2f}" for space in spaces),
            )
        )
    header = ("score", "paper", "direction", "not finite", "different values")
    seconds = (f"seconds, {space}" for space in spaces)
    return Table(title="", caption="", header=(*header, *seconds), rows=tuple(rows))


def _values(summary: pd.DataFrame) -> Table:
    spaces = list(summary["space"].unique())
    rows = []
    for name, part in summary.groupby("score", sort=False):
        of_space = part.set_index("space").to_dict("index")
        rows.append((f"`{name}`", *(_quartiles(of_space[space]) for space in spaces)))
    return Table(title="", caption="", header=("score", *spaces), rows=tuple(rows))


def _quartiles(row: dict[str, float]) -> str:
    low, median, high = (f"{row[name]:.3g}" for name in ("low_quartile", "median", "high_quartile"))
    return f"{median} ({low} to {high})"
