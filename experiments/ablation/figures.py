"""The figures of a result: plain data first, then thin drawings, made without pyplot.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; every distinction of
colour is also one of shape or line.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.ablation.designs import Path
from experiments.ablation.layout import named_differences
from experiments.ablation.results import ACCURACY, Result, RowResult
from experiments.ablation.significance import Difference
from experiments.ablation.store import ROUTING

BLUE, ORANGE, INK, MUTED, FAINT, GRID = (
    "#0072b2", "#d55e00", "#1b1d21", "#5f6368", "#9aa0a6", "#e3e5e8",
)  # fmt: skip

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "svg.hashsalt": "effvit-workbench",  # stable element names
}

WIDTH, BAR_HEIGHT, MARGINS = 6.4, 0.3, 1.6
"""Inches: of all figures; of a bar; above and below the bars."""

DPI = 160
WIDE = 20
"""Ratio of the highest to the lowest cost above which costs are drawn on a logarithmic axis."""

ONE_PLACE = 0.03
"""Share of the range of both axes below which points are labelled together."""

LABEL_WIDTH = 34
"""Characters in a line of a label."""


class Bar(NamedTuple):
    """A difference or an effect with its interval; no interval from a single seed."""

    name: str
    value: float
    low: float | None
    high: float | None
    significant: bool


class Point(NamedTuple):
    """A row in a plane of cost and benefit, with the interval of the benefit."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None


class Plane(NamedTuple):
    """Rows by cost and benefit.

    Attributes:
        x, y: Labels of the axes.
        points: The rows that have both.
        path: Whether each row builds on the row above.
    """

    x: str
    y: str
    points: tuple[Point, ...]
    path: bool


# --- data ---------------------------------------------------------------------------------------


def bars(result: Result, score: str = ACCURACY) -> tuple[Bar, ...]:
    """Effects on a score; in other designs differences to the first trained row."""
    named = named_differences(result, score, lambda row: row.base[score])
    return tuple(_bar(name, found) for name, found in named)


def _bar(name: str, found: Difference) -> Bar:
    return Bar(name, found.value, found.low, found.high, found.significant)


def plane(result: Result) -> Plane:
    """MACs against proxy accuracy; without accuracies, against speed; empty without both."""
    path = isinstance(result.ablation.design, Path)
    found = _accuracies if result.trained else _speeds
    y = "proxy accuracy" if result.trained else "speed, relative to the first row"
    points = found(result.rows) if result.trained or result.timed else ()
    return Plane("MACs (G)", y, tuple(points), path)


def _accuracies(rows: Sequence[RowResult]) -> list[Point]:
    return [
        Point(row.label, row.macs.value / 1e9, found.value, found.low, found.high)
        for row in rows
        if row.macs.value is not None and (found := row.means[ACCURACY]) is not None
    ]


def _speeds(rows: Sequence[RowResult]) -> list[Point]:
    points = []
    for row in rows:
        if row.macs.value is not None and row.speed is not None:
            speed = row.speed
            points.append(
                Point(row.label, row.macs.value / 1e9, speed.value, speed.low, speed.high)
            )
        elif row.macs.value is not None and row.measured.latency is not None:
            points.append(Point(row.label, row.macs.value / 1e9, 1.0, None, None))
    return points


# --- drawings -----------------------------------------------------------------------------------


def figures(result: Result) -> dict[str, Figure]:
    """All figures of a result that have something to show, by file name."""
    drawn: dict[str, Figure] = {}
    for file, score, words in (
        ("effects", ACCURACY, "proxy accuracy"),
        ("routing", ROUTING, "routing, the second task"),
    ):
        if found := bars(result, score):
            title = f"effect on {words}" if result.effects else f"{words}, to the first trained row"
            drawn[file] = draw_bars(f"{result.name}: {title}", found)
    info = plane(result)
    if len(info.points) > 1:
        drawn["path"] = draw_plane(f"{result.name}: {info.y}, against cost", info)
    return drawn


def encode(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a ``png`` or ``svg`` file, without a date."""
    buffer = io.BytesIO()
    with mpl.rc_context(dict(STYLE)):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def draw_bars(title: str, found: Sequence[Bar]) -> Figure:
    """A dot and its interval for each; filled where significant."""
    with mpl.rc_context(dict(STYLE)):
        figure, axes = _canvas(title, MARGINS + BAR_HEIGHT * len(found))
        axes.axvline(0, color=FAINT, linewidth=1)
        for place, bar in enumerate(found):
            if bar.low is not None and bar.high is not None:
                axes.plot([bar.low, bar.high], [place, place], color=BLUE, linewidth=1.4)
            face = BLUE if bar.significant else "white"
            axes.plot(bar.value, place, "o", color=BLUE, markerfacecolor=face, markersize=6)
        axes.set_yticks(range(len(found)), [_wrapped(bar.name) for bar in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("difference, 95 % interval over seeds; filled: Holm-corrected p below 0.05")
    return figure


def draw_plane(title: str, info: Plane) -> Figure:
    """Numbered rows with their intervals, joined from row to row where each builds on the last."""
    with mpl.rc_context(dict(STYLE)):
        figure, axes = _canvas(title, 3.6 + 0.18 * len(info.points))
        xs, ys = [p.x for p in info.points], [p.y for p in info.points]
        if info.path:
            axes.plot(xs, ys, color=ORANGE, linewidth=1.2, zorder=2)
        for number, point in enumerate(info.points, start=1):
            if point.low is not None and point.high is not None:
                axes.plot([point.x] * 2, [point.low, point.high], color=BLUE, linewidth=1, zorder=3)
            marker = "s" if number == 1 else "o"
            axes.plot(
                point.x, point.y, marker, color=BLUE, markersize=6, zorder=4, linestyle="none",
                label=f"{number}  {_wrapped(point.name)}",
            )  # fmt: skip
        wide = max(xs) > WIDE * min(xs)
        for text, point in numbers(info.points, logarithmic=wide):
            axes.annotate(text, (point.x, point.y), (4, 4), textcoords="offset points",
                          fontsize=8, color=INK, zorder=5)  # fmt: skip
        if wide:
            axes.set_xscale("log")
        axes.set_xlabel(info.x)
        axes.set_ylabel(info.y)
        axes.margins(0.12)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8, handlelength=1)
    return figure


def numbers(points: Sequence[Point], *, logarithmic: bool = False) -> list[tuple[str, Point]]:
    """Numbers of points, counted from 1, each with its place; those of one place are joined.

    Args:
        points: In the order of their numbers.
        logarithmic: Whether ``x`` is drawn on a logarithmic axis.
    """
    xs = [math.log(point.x) if logarithmic else point.x for point in points]
    ys = [point.y for point in points]
    width, height = _span(xs), _span(ys)
    found: dict[int, list[int]] = {}
    for place in range(len(points)):
        for first, others in found.items():
            apart = abs(xs[place] - xs[first]) / width, abs(ys[place] - ys[first]) / height
            if max(apart) < ONE_PLACE:
                others.append(place)
                break
        else:
            found[place] = [place]
    return [
        (", ".join(str(place + 1) for place in others), points[first])
        for first, others in found.items()
    ]


def _span(values: Sequence[float]) -> float:
    """Range of values; 1 where they are all alike."""
    return max(values) - min(values) or 1.0


def _canvas(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(title, 70), x=0.01, ha="left", fontsize=10, fontweight="bold",
                    color=INK)  # fmt: skip
    axes = figure.subplots()
    axes.tick_params(colors=MUTED, labelcolor=INK)
    return figure, axes


def _wrapped(text: str) -> str:
    return textwrap.fill(text, LABEL_WIDTH)
