"""What the sampler benchmark says: means with intervals, tables, verdicts, the figure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.ablation.figures import encode
from experiments.ranking import FloatArray, estimate
from experiments.sampler_benchmark_figure import draw, panels
from experiments.sampler_benchmark_problems import PROBLEMS
from experiments.sampler_benchmark_rivals import RIVALS

BUDGETS = (50, 100, 200, 500, 1000)
FIGURE = "sampler_benchmark"
MARK = "nsga2"
"""The sampler whose mean at the end is the mark to reach."""

COSTS = ("repeated", "invalid", "cpu_ms", "last_cpu_ms")
Row = dict[str, Any]


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, with bootstrap intervals of 95 %.

    Args:
        rows: One row a search.

    Returns:
        One row a problem and sampler: seeds; at each number of evaluations the mean ``hv_N``, with
        ``low_N`` and ``high_N`` at the budgets; ``to_mark``, evaluations at which the mean reaches
        that of NSGA-II at the end; shares of repeated and invalid evaluations; CPU milliseconds of
        an evaluation, of all and of the last ones.
    """
    found = []
    for name, part in rows.groupby("problem", sort=False):
        means = part.groupby("sampler", sort=False).mean(numeric_only=True)
        counts = _counts(means)
        ends = means[f"hv_{counts[-1]}"]
        mark = float(ends.get(MARK, np.nan))
        for sampler, searches in part.groupby("sampler", sort=False):
            row: Row = {"problem": name, "sampler": sampler, "seeds": len(searches)}
            curve = means.loc[sampler, [f"hv_{count}" for count in counts]].to_numpy(np.float64)
            row |= {f"hv_{count}": value for count, value in zip(counts, curve, strict=True)}
            for count in set(counts) & set(BUDGETS):
                sample = searches[f"hv_{count}"].to_numpy(np.float64)
                if not np.isnan(sample).any():
                    interval = estimate(_mean, sample)
                    row |= {f"low_{count}": interval.low, f"high_{count}": interval.high}
            row["to_mark"] = reaches(np.array(counts, np.float64), curve, mark)
            found.append(row | means.loc[sampler, list(COSTS)].to_dict())
    summary: pd.DataFrame = pd.DataFrame(found)
    return summary


def _mean(sample: FloatArray) -> FloatArray:
    mean: FloatArray = sample.mean(axis=-1)
    return mean


def _counts(table: pd.DataFrame) -> list[int]:
    """Numbers of evaluations that any search has, ascending."""
    columns = [name for name in table.columns if str(name).startswith("hv_")]
    return sorted(int(str(name)[3:]) for name in columns if table[name].notna().any())


def reaches(counts: FloatArray, curve: FloatArray, mark: float) -> float:
    """Evaluations at which a rising curve (n,) reaches a mark, interpolated; NaN if it does not."""
    above = np.flatnonzero(curve >= mark)
    if len(above) == 0:
        return float("nan")
    first = int(above[0])
    if first == 0:
        return float(counts[0])
    share = (mark - curve[first - 1]) / (curve[first] - curve[first - 1])
    return float(counts[first - 1] + share * (counts[first] - counts[first - 1]))


def behind(summary: pd.DataFrame, own: str) -> Iterator[str]:
    """Say where a sampler of the workbench is not ahead of all rivals, in words."""
    rivals = [name for name, rival in RIVALS.items() if not rival.own]
    for problem, part in summary.groupby("problem", sort=False):
        table = part.set_index("sampler")
        for count in BUDGETS:
            column = f"hv_{count}"
            if own not in table.index or column not in table:
                continue
            others = table.loc[table.index.isin(rivals), column].dropna()
            ours = float(table.loc[own, column])
            for rival, theirs in others[others >= ours].items():
                yield f"{problem}, {count} evaluations: {own} {ours:.4f}, {rival} {theirs:.4f}"


def marks(part: pd.DataFrame) -> Iterator[str]:
    """Say after how many evaluations a sampler has reached the mark, problem by problem."""
    for row in part.to_dict("records"):
        reached = f"after {row['to_mark']:.0f}" if row["to_mark"] > 0 else "not within its"
        yield (
            f"{row['problem']}: {row['sampler']} reaches what {MARK} has at the end {reached} "
            "evaluations."
        )


# --- the screen ---------------------------------------------------------------------------------


def show(summary: pd.DataFrame, console: Console) -> None:
    """Print a table for each problem, and where the workbench's samplers are not ahead."""
    console.print(
        "Hypervolume as a share of the true front's, means over seeds with 95 % intervals; "
        f"'to mark': evaluations to reach what {MARK} has at the end; 'invalid' breaks a rule."
    )
    for problem, part in summary.groupby("problem", sort=False):
        console.print(f"\n[bold]{problem}[/]: {escape(PROBLEMS[str(problem)].statement)}")
        console.print(_table(part))
    for own in (name for name, rival in RIVALS.items() if rival.own):
        lines = list(behind(summary, own))
        console.print(f"\n{own}: {'not ahead at' if lines else 'ahead of every rival everywhere'}")
        for line in lines:
            console.print(f"  {escape(line)}")


def _table(part: pd.DataFrame) -> Table:
    table = Table(box=None, header_style="bold")
    budgets = [count for count in BUDGETS if f"hv_{count}" in part]
    table.add_column("sampler", no_wrap=True)
    for name in (*map(str, budgets), "to mark", "repeated", "invalid", "CPU ms", "last"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in part.to_dict("records"):
        cells = [share_cell(row, count) for count in budgets]
        mark = "" if np.isnan(row["to_mark"]) else f"{row['to_mark']:.0f}"
        shares = (f"{row[name]:.1%}" for name in ("repeated", "invalid"))
        costs = (f"{row[name]:.1f}" for name in ("cpu_ms", "last_cpu_ms"))
        table.add_row(row["sampler"], *cells, mark, *shares, *costs)
    return table


def share_cell(row: Mapping[Hashable, Any], count: int) -> str:
    """A mean with its interval; nothing where there is none."""
    value = row[f"hv_{count}"]
    if np.isnan(value):
        return ""
    low, high = row[f"low_{count}"], row[f"high_{count}"]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def write_figure(summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw the curves; return the files written."""
    figure = draw(panels(summary))
    paths = []
    for ending in ("svg", "png"):
        path = folder / f"{FIGURE}.{ending}"
        path.write_bytes(encode(figure, ending))
        paths.append(path)
    return paths
