"""The figures of a result: plain data first, then thin drawings, made without pyplot.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; every distinction of
colour is also one of shape or line.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

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

WIDTH, BAR_HEIGHT, LINE_HEIGHT, MARGINS = 6.4, 0.3, 0.17, 1.75
"""Inches: of all figures; of a bar, and of a line of its name; above and below the bars."""

TICKS = 6
"""Numbers along the axis of differences, at most: long names leave it half of the width."""

DPI = 160
WIDE = 20
"""Ratio of the highest to the lowest cost above which costs are drawn on a logarithmic axis."""

ONE_PLACE = 0.03
"""Share of the range of both axes below which points are labelled together."""

CHARACTER, LABEL_HEIGHT = 0.02, 0.06
"""Of a number beside a point, as shares of the range of the axes."""

SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Of a point, from the best for its number on."""

LABEL_WIDTH = 34
"""Characters in a line of a label."""


Place: TypeAlias = tuple[float, float]
"""Right and up."""


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
        names = [_wrapped(bar.name) for bar in found]
        lines = 1 + max(name.count("\n") for name in names)
        height = max(BAR_HEIGHT, LINE_HEIGHT * lines)
        figure, axes = _canvas(title, MARGINS + height * len(found))
        axes.axvline(0, color=FAINT, linewidth=1)
        for place, bar in enumerate(found):
            if bar.low is not None and bar.high is not None:
                axes.plot([bar.low, bar.high], [place, place], color=BLUE, linewidth=1.4)
            face = BLUE if bar.significant else "white"
            axes.plot(bar.value, place, "o", color=BLUE, markerfacecolor=face, markersize=6)
        axes.set_yticks(range(len(found)), names)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=TICKS)
        axes.set_xlabel("difference, 95 % interval over seeds\nfilled: Holm-corrected p below 0.05")
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
        places = _places(info.points, logarithmic=wide)
        labels = numbers(info.points, logarithmic=wide)
        at = [places[info.points.index(point)] for _, point in labels]
        chosen = sides([text for text, _ in labels], at, places)
        for (text, point), (right, up) in zip(labels, chosen, strict=True):
            axes.annotate(text, (point.x, point.y), (4 * right, 4 * up), fontsize=8, color=INK,
                          textcoords="offset points", ha="left" if right > 0 else "right",
                          va="bottom" if up > 0 else "top", zorder=5)  # fmt: skip
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
    at = _places(points, logarithmic=logarithmic)
    found: dict[int, list[int]] = {}
    for place in range(len(points)):
        for first, others in found.items():
            if max(abs(a - b) for a, b in zip(at[place], at[first], strict=True)) < ONE_PLACE:
                others.append(place)
                break
        else:
            found[place] = [place]
    return [
        (", ".join(str(place + 1) for place in others), points[first])
        for first, others in found.items()
    ]


def sides(labels: Sequence[str], at: Sequence[Place], points: Sequence[Place]) -> list[Place]:
    """On which side of its point each label goes: where it covers least.

    Args:
        labels: What is written.
        at: Where their points are, as shares of the range of the axes.
        points: Where all points are.

    Returns:
        1 or -1 for right or left, and for above or below; right above where that is free.
    """
    boxes: list[tuple[Place, Place]] = []
    found: list[Place] = []
    for text, (x, y) in zip(labels, at, strict=True):
        width = CHARACTER * (len(text) + 1)
        choices = {}
        for side in SIDES:
            left = x if side[0] > 0 else x - width
            low = y if side[1] > 0 else y - LABEL_HEIGHT
            choices[side] = (left, low), (left + width, low + LABEL_HEIGHT)
        covered = {
            side: sum(_cross(box, other) for other in boxes)
            + sum(_cross(box, (point, point)) for point in points if point != (x, y))
            for side, box in choices.items()
        }
        best = min(SIDES, key=covered.__getitem__)  # the first of equals
        found.append(best)
        boxes.append(choices[best])
    return found


def _cross(one: tuple[Place, Place], other: tuple[Place, Place]) -> bool:
    """Whether two boxes, from their lower left to their upper right corners, have a place both."""
    return all(low < far and near < high for low, high, near, far in zip(*one, *other, strict=True))


def _places(points: Sequence[Point], *, logarithmic: bool) -> list[Place]:
    """Where points are, as shares of the range of the axes, intervals included."""
    xs = [math.log(point.x) if logarithmic else point.x for point in points]
    ends = [end for p in points for end in (p.low, p.y, p.high) if end is not None]
    right = _shares(xs, xs)
    return list(zip(right, _shares([point.y for point in points], ends), strict=True))


def _shares(values: Sequence[float], of: Sequence[float]) -> list[float]:
    """Values as shares of the range of others; 0 where these are all alike."""
    low = min(of)
    span = max(of) - low or 1.0
    return [(value - low) / span for value in values]


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
