"""The sampler benchmark as a page: what was compared, a table a problem, what holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.ablation.layout import DASH, Table
from experiments.ablation.writers import markdown_table
from experiments.sampler_benchmark_figure import draw, panels
from experiments.sampler_benchmark_findings import (
    BUDGETS,
    FIGURE,
    MARK,
    behind,
    marks,
    share_cell,
    summarise,
)
from experiments.sampler_benchmark_problems import PROBLEMS
from experiments.sampler_benchmark_rivals import RIVALS

RAW, PAGE = "sampler_benchmark.csv", "sampler_benchmark.md"

INTRODUCTION = f"""# Samplers compared

`python -m experiments.run sampler_benchmark` searches problems whose true front is known with the
workbench's samplers and with others, and compares the hypervolume found after so many evaluations,
as a share of the true front's: means over seeds with bootstrap intervals of 95 %. Names without
"guarded" are Optuna's samplers as installed, and a plain mutation of non-dominated parents that
remembers what it has seen. A proposal that breaks a rule of the space, or repeats a network, costs
an evaluation like any other. "To mark" is the number of evaluations after which the mean reaches
what {MARK} has at the end of its searches. The samplers are told which objective is in closed form
(MACs); the rivals cannot use it. CPU milliseconds are those of a whole evaluation, Optuna's storage
in memory included, on a machine that others were using."""


def page(rows: pd.DataFrame) -> str:
    """Make the page.

    Args:
        rows: One row a search.

    Returns:
        Markdown.
    """
    return "\n\n".join(_parts(rows, summarise(rows))) + "\n"


def figure(rows: pd.DataFrame) -> Figure:
    """Draw the curves that go with the page."""
    return draw(panels(summarise(rows)))


def _parts(rows: pd.DataFrame, summary: pd.DataFrame) -> Iterator[str]:
    yield INTRODUCTION
    yield f"![Hypervolume over evaluations]({FIGURE}.png)"
    yield _limits(summary)
    for problem, part in summary.groupby("problem", sort=False):
        yield f"## {problem}: {PROBLEMS[str(problem)].statement}"
        yield markdown_table(_table(part))
    yield "## What holds and what does not"
    yield "\n".join(f"- {line}" for line in statements(summary))
    yield _where(rows)


def _limits(summary: pd.DataFrame) -> str:
    """Which searches are shorter or fewer than the others."""
    most = int(summary["seeds"].max())
    shorter = [
        f"{name} to {rival.limit} evaluations"
        for name, rival in RIVALS.items()
        if rival.limit < max(BUDGETS) and name in set(summary["sampler"])
    ]
    fewest = summary.groupby("sampler", sort=False)["seeds"].min()
    fewer = [f"{name} with {count}" for name, count in fewest.items() if count < most]
    text = f"Each sampler searches each problem with {most} seeds"
    text += f" ({', '.join(fewer)})" if fewer else ""
    return text + f". For their cost, {', '.join(shorter)} only." if shorter else text + "."


def _table(part: pd.DataFrame) -> Table:
    budgets = [count for count in BUDGETS if f"hv_{count}" in part]
    header = ("sampler", *map(str, budgets), "to mark", "repeated", "invalid", "CPU ms")
    lines = tuple(
        (
            row["sampler"],
            *(share_cell(row, count) or DASH for count in budgets),
            DASH if np.isnan(row["to_mark"]) else f"{row['to_mark']:.0f}",
            f"{row['repeated']:.1%}",
            f"{row['invalid']:.1%}",
            f"{row['cpu_ms']:.1f}",
        )
        for row in part.to_dict("records")
    )
    return Table("", "", header, lines)


def statements(summary: pd.DataFrame) -> Iterator[str]:
    """What the results say of the workbench's samplers, in sentences."""
    for own in (name for name, rival in RIVALS.items() if rival.own):
        part = summary[summary["sampler"] == own]
        if part.empty:
            continue
        yield f"{own} repeated {part['repeated'].max():.1%} of its evaluations at most."
        yield from marks(part)
        late = list(behind(summary, own))
        if late:
            yield f"{own} is not ahead at: {'; '.join(late)}."
        else:
            yield f"{own} is ahead of every rival at every number of evaluations that both have."


def _where(rows: pd.DataFrame) -> str:
    found = rows.iloc[0]
    return (
        f"Measured on {found['cpu']} with {found['cores']} cores, one thread a search: "
        f"Optuna {found['optuna']}, numpy {found['numpy']}, scikit-learn {found['scikit-learn']}, "
        f"torch {found['torch']}, Python {found['python']}; {str(found['date'])[:10]}."
    )
