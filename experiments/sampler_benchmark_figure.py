"""Curves of the sampler benchmark: plain data first, then the drawing.

Samplers differ in colour and in line; the rivals' guarded versions are in the table only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from experiments.ablation.figures import BLUE, FAINT, INK, MUTED, ORANGE, STYLE, WIDTH
from experiments.sampler_benchmark_problems import PROBLEMS

LOOKS: Mapping[str, tuple[str, str, float]] = {
    "surrogate": (BLUE, "-", 2.0),
    "evolution": (ORANGE, "-", 2.0),
    "mutation": (INK, "--", 1.2),
    "gp": ("#009e73", "-.", 1.2),
    "tpe multivariate": ("#cc79a7", "--", 1.2),
    "tpe": ("#cc79a7", ":", 1.2),
    "nsga2": (MUTED, "-.", 1.2),
    "nsga3": (MUTED, ":", 1.2),
    "random": (FAINT, "-", 1.2),
}
"""Colour (after Okabe and Ito), line and width of the samplers that are drawn."""

TICKS = (25, 50, 100, 200, 500, 1000)
PANEL_HEIGHT, MARGIN, COLUMNS = 2.6, 0.9, 2
"""Inches: of a panel; of title and legend. Panels beside each other."""

LOWEST = 0.5
"""Share of the hypervolume below which curves are cut off; all problems share the axis."""


class Line(NamedTuple):
    """A sampler's curve: evaluations and mean share of the front's hypervolume."""

    sampler: str
    evaluations: tuple[int, ...]
    share: tuple[float, ...]


class Panel(NamedTuple):
    """A problem: its name, what it is, and the curves."""

    problem: str
    statement: str
    lines: tuple[Line, ...]


def panels(summary: pd.DataFrame) -> list[Panel]:
    """Make a panel for each problem of a summary."""
    found = []
    for problem, part in summary.groupby("problem", sort=False):
        rows = part.set_index("sampler")
        lines = tuple(_line(name, rows.loc[name]) for name in LOOKS if name in rows.index)
        found.append(Panel(str(problem), PROBLEMS[str(problem)].statement, lines))
    return found


def _line(sampler: str, row: pd.Series[float]) -> Line:
    points = sorted(
        (int(str(name).removeprefix("hv_")), float(row[name]))
        for name in row.index
        if str(name).startswith("hv_") and not np.isnan(row[name])
    )
    return Line(sampler, tuple(n for n, _ in points), tuple(value for _, value in points))


def draw(found: Sequence[Panel]) -> Figure:
    """Draw panels in two columns, with one legend."""
    with mpl.rc_context(dict(STYLE)):
        height = math.ceil(len(found) / COLUMNS)
        size = (1.25 * WIDTH, MARGIN + PANEL_HEIGHT * height)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(
            "Hypervolume found, as a share of the true front's (means over seeds)",
            x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK,
        )  # fmt: skip
        grid = figure.subplots(height, COLUMNS, squeeze=False, sharey=True).ravel()
        for axes, panel in zip(grid, found, strict=False):
            _draw_panel(axes, panel)
        for axes in grid[len(found) :]:
            axes.set_axis_off()
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=5, fontsize=8)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(f"{panel.problem}: {panel.statement}", loc="left", fontsize=8, color=MUTED)
    for line in panel.lines:
        colour, dashes, width = LOOKS[line.sampler]
        axes.plot(
            line.evaluations, line.share, dashes, color=colour, linewidth=width, label=line.sampler
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(LOWEST, 1.01)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.set_xlabel("evaluations (logarithmic)")
