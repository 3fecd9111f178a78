"""The figures of a report as PNG and SVG: thin drawings of :mod:`reports.findings`.

Figures are made without pyplot, so nothing is shared between them, and the same records give the
same bytes. Every distinction of colour is also one of shape or line.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reports import findings
from reports.findings import QUANTITIES, AxisImportance, Plane, Point, Progress
from reports.labels import Box, place_labels
from reports.records import Run
from reports.style import BLUE, FAINT, GRID, INK, MUTED, ORANGE

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 10,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "effvit-workbench",  # stable element names
}

SIZE = (5.0, 4.4)
"""Inches; in print at a width of 8 cm the labels are still 6 points high."""

DPI = 200
MARGIN = 0.012
"""Left edge of title and subtitle, as a share of the figure's width."""

TITLE_WIDTH, SUBTITLE_WIDTH = 56, 92
"""Characters in a line of a figure of width ``SIZE[0]``."""

Y_LABEL_WIDTH = 50
"""Characters in a line of the vertical axis' label."""

LEADER = 1.3
"""A name farther from its point than this many of its heights gets a line to it."""

MAX_BARS = 8
"""Most axes in a panel of the static importance figure."""

MAX_NAMED = 12
"""Most variants of the front that are named in a static figure."""


def figures(run: Run) -> dict[str, Figure]:
    """All figures of a run by file name; without data a figure says so."""
    drawings: dict[str, Callable[[], Figure]] = {
        "accuracy_macs": lambda: draw_plane(findings.accuracy_plane(run, "macs")),
        "accuracy_latency": lambda: draw_plane(findings.accuracy_plane(run, "latency_ms")),
        "accuracy_params": lambda: draw_plane(findings.accuracy_plane(run, "params")),
        "latency_macs": lambda: draw_plane(findings.latency_plane(run)),
        "hypervolume": lambda: draw_progress(findings.progress(run)),
        "importance": lambda: draw_importance(findings.importance(run)),
    }
    return {name: draw() for name, draw in drawings.items()}


def encode(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a ``png`` or ``svg`` file, without a date."""
    buffer = io.BytesIO()
    with mpl.rc_context(dict(STYLE)):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


# --- planes -------------------------------------------------------------------------------------


def draw_plane(plane: Plane) -> Figure:
    """Scatter with the front as a step line, error bars, budgets and the published names."""
    with mpl.rc_context(dict(STYLE)):
        figure, axes = _canvas(plane.title, plane.subtitle)
        _scale(axes, plane)
        _draw_budgets(axes, plane)
        _draw_trials(axes, plane)
        _draw_front(axes, plane)
        _draw_finalists(axes, plane)
        _draw_published(axes, plane.points)
        handles, _ = axes.get_legend_handles_labels()
        if handles:
            figure.legend(loc="outside lower left", ncols=2, columnspacing=1.4, handletextpad=0.5)
        _settle(figure)
        _name_points(figure.dpi, axes, plane)
    return figure


def _canvas(title: str, subtitle: str, rows: int = 1) -> tuple[Figure, Any]:
    """A figure with its title and subtitle, and one axes or a column of them."""
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    heading = _balanced(title, TITLE_WIDTH)
    figure.suptitle(heading, x=MARGIN, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    panels = figure.subplots(rows, 1, sharex=rows > 1)
    top = panels if rows == 1 else panels[0]
    top.set_title(_balanced(subtitle, SUBTITLE_WIDTH), loc="left", fontsize=7.5, color=MUTED, pad=8)
    return figure, panels


def _balanced(text: str, width: int) -> str:
    """Wrap into as few lines as needed, all about equally long."""
    lines = len(textwrap.wrap(text, width))
    narrow = next(w for w in range(1, width + 1) if len(textwrap.wrap(text, w)) <= lines)
    return textwrap.fill(text, narrow)


def _settle(figure: Figure) -> None:
    """Fix the layout and move the subtitle to the left edge, under the title."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    top = figure.axes[0]
    place = top.get_position()
    title = top.set_title(top.get_title(loc="left"), loc="left", fontsize=7.5, color=MUTED, pad=8)
    title.set_x((MARGIN - place.x0) / place.width)


def _scale(axes: Axes, plane: Plane) -> None:
    axes.set_xscale("log")
    axes.set_xlim(plane.x_limits)
    axes.set_ylim(plane.y_limits)
    if plane.y_logarithmic:
        axes.set_yscale("log")
        _logarithmic(axes.yaxis, plane.y, plane.y_limits)
    _logarithmic(axes.xaxis, plane.x, plane.x_limits)
    axes.set_xlabel(plane.x_label)
    axes.set_ylabel(_balanced(plane.y_label, Y_LABEL_WIDTH))


def _logarithmic(axis: Any, column: str, limits: tuple[float, float]) -> None:  # noqa: ANN401 - matplotlib is untyped here
    """Plain tick labels such as ``0.5 G`` instead of powers of ten."""
    quantity = QUANTITIES[column]
    axis.set_major_locator(FixedLocator(findings.log_ticks(*limits)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: quantity.tick(value)))
    axis.set_minor_locator(NullLocator())


def _draw_budgets(axes: Axes, plane: Plane) -> None:
    """Shade what the budgets exclude."""
    style: dict[str, Any] = {"color": ORANGE, "alpha": 0.10, "linewidth": 0, "zorder": 0}
    label = "over budget"
    if plane.x_budget is not None and plane.x_budget < plane.x_limits[1]:
        axes.axvspan(plane.x_budget, plane.x_limits[1], label=label, **style)
        label = ""
    if plane.y_budget is not None and plane.y_budget < plane.y_limits[1]:
        axes.axhspan(plane.y_budget, plane.y_limits[1], label=label, **style)


def _draw_trials(axes: Axes, plane: Plane) -> None:
    """Trials, faint; those without the relation as crosses, at the lower edge if below it."""
    about_accuracy = plane.y == "accuracy"
    low, high = plane.y_limits
    edge = low + 0.02 * (high - low) if about_accuracy else low
    missed = "relation not found (edge: below)" if plane.below else "trial, relation not found"
    found = "trial (search budget, one seed)" if about_accuracy else "trial"
    for kind, marker, width, label in ((True, "o", 0.0, found), (False, "x", 1.0, missed)):
        points = [p for p in plane.trials if p.found is kind and not p.on_front]
        if points:
            axes.scatter(
                [p.x for p in points], [max(p.y, edge) for p in points], s=20, marker=marker,
                color=FAINT, alpha=0.7, label=label, zorder=2, linewidths=width,
            )  # fmt: skip


def _draw_front(axes: Axes, plane: Plane) -> None:
    if not plane.front:
        return
    style = "--" if plane.provisional else "-"
    label = "provisional front" if plane.provisional else "front in this plane"
    xs, ys = [p.x for p in plane.front], [p.y for p in plane.front]
    axes.step(xs, ys, where="post", color=BLUE, linewidth=1.3, linestyle=style, label=label,
              zorder=3)  # fmt: skip
    for p in plane.front if plane.provisional else ():
        axes.scatter([p.x], [p.y], s=26, marker="o" if p.found else "x", color=BLUE, zorder=4)


def _draw_finalists(axes: Axes, plane: Plane) -> None:
    """Finalists with intervals: filled on the front, hollow off it, crosses if not found."""
    kinds = (
        (True, True, "finalist on the front, 95 % interval"),
        (False, True, "finalist, dominated"),
        (True, False, "on the front, relation missed"),
        (False, False, "dominated, relation missed"),
    )
    for on_front, found, label in kinds:
        points = [p for p in plane.finalists if (p.on_front, p.found) == (on_front, found)]
        if points:
            axes.errorbar(
                [p.x for p in points], [p.y for p in points],
                xerr=_reach([(p.x, p.x_low, p.x_high) for p in points]),
                yerr=_reach([(p.y, p.y_low, p.y_high) for p in points]),
                linestyle="none", color=BLUE, markersize=5.5, elinewidth=0.9, markeredgewidth=1.1,
                label=label, zorder=5,
                marker="o" if found else "X", markerfacecolor=BLUE if on_front else "white",
            )  # fmt: skip


def _reach(ends: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    """(2, n) lengths of the bars below and above the values; 0 where there is no interval."""
    lengths = [(max(value - low, 0.0), max(high - value, 0.0)) for value, low, high in ends]
    return [[0.0 if math.isnan(pair[side]) else pair[side] for pair in lengths] for side in (0, 1)]


def _draw_published(axes: Axes, points: Sequence[Point]) -> None:
    known = [p for p in points if p.published]
    if known:
        axes.scatter(
            [p.x for p in known], [p.y for p in known], s=95, facecolors="none", edgecolors=ORANGE,
            linewidths=1.5, label="published variant", zorder=6,
        )  # fmt: skip


def _name_points(dpi: float, axes: Axes, plane: Plane) -> None:
    """Write the names of published variants and of a short front beside their points.

    The layout is settled: places are computed in pixels.
    """
    named = [p for p in plane.points if p.published]
    line = [p for p in plane.front if not p.published]
    named += line if len(line) <= MAX_NAMED else []
    transform = axes.transData
    anchors = [_pixels(transform, p.x, p.y) for p in named]
    texts = [axes.text(p.x, p.y, p.name, **_name_style(p)) for p in named]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width + 4, extent.height + 2) for extent in extents]
    places = place_labels(
        anchors,
        sizes,
        blocked=_markers(dpi, axes, plane),
        light=[_pixels(transform, x, y) for x, y in _ink(plane)],
        bounds=Box(*axes.get_window_extent().extents),
    )
    for text, anchor, box in zip(texts, anchors, places, strict=True):
        if box is None:
            text.remove()
            continue
        text.set_position(_pixels(transform.inverted(), *box.middle))
        end = box.nearest(*anchor)
        if math.dist(anchor, end) > LEADER * box.height:
            ends = zip(
                *(_pixels(transform.inverted(), *place) for place in (anchor, end)), strict=True
            )
            axes.plot(*ends, color=text.get_color(), linewidth=0.7, alpha=0.8, zorder=4)


def _pixels(transform: Any, x: float, y: float) -> tuple[float, float]:  # noqa: ANN401 - a matplotlib transform
    """One place from the transform's input to its output."""
    across, up = transform.transform((x, y))
    return float(across), float(up)


def _markers(dpi: float, axes: Axes, plane: Plane) -> list[Box]:
    """Pixels under the markers of finalists and the rings of published variants."""
    points_to_pixels = dpi / 72
    boxes = []
    for point in plane.points:
        radius = 6.0 if point.published else 3.5 if point in plane.finalists else 0.0
        x, y = _pixels(axes.transData, point.x, point.y)
        reach = radius * points_to_pixels
        if reach:
            boxes.append(Box(x - reach, y - reach, x + reach, y + reach))
    return boxes


def _name_style(point: Point) -> dict[str, Any]:
    colour = ORANGE if point.published else BLUE
    weight = "bold" if point.published else "normal"
    return {
        "color": colour, "fontsize": 8.5, "fontweight": weight, "ha": "center", "va": "center",
        "zorder": 7,
    }  # fmt: skip


def _ink(plane: Plane) -> list[tuple[float, float]]:
    """Places that names should not hide: points, error bars, the front line."""
    places = [(p.x, p.y) for p in plane.points]
    for p in plane.finalists:
        for share in (0.5, 1.0):
            ups = (p.y + share * (end - p.y) for end in (p.y_low, p.y_high))
            places += [(p.x, up) for up in ups if not math.isnan(up)]
            sides = (p.x + share * (end - p.x) for end in (p.x_low, p.x_high))
            places += [(side, p.y) for side in sides if not math.isnan(side)]
    for left, right in zip(plane.front, plane.front[1:], strict=False):
        steps = 8
        ratio, rise = right.x / left.x, right.y - left.y
        places += [(left.x * ratio ** (i / steps), left.y) for i in range(1, steps + 1)]
        places += [(right.x, left.y + rise * i / steps) for i in range(1, steps)]
    return places


# --- the rest -----------------------------------------------------------------------------------


def draw_progress(info: Progress) -> Figure:
    """Hypervolume and size of the front, one above the other."""
    with mpl.rc_context(dict(STYLE)):
        figure, panels = _canvas(info.title, info.subtitle, rows=2)
        rows = (
            ("hypervolume", info.hypervolume, BLUE),
            ("variants on the front", info.front_size, MUTED),
        )
        for axes, (label, values, colour) in zip(panels, rows, strict=True):
            axes.step(info.numbers, values, where="post", color=colour, linewidth=1.6)
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
        panels[1].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        panels[1].set_xlabel("trial")
        _settle(figure)
    return figure


def draw_importance(info: AxisImportance) -> Figure:
    """One panel of horizontal bars per objective, the most important axes on top."""
    with mpl.rc_context(dict(STYLE)):
        figure, panels = _canvas(info.title, info.subtitle, rows=max(1, len(info.panels)))
        column = [panels] if len(info.panels) <= 1 else list(panels)
        bars = sum(min(MAX_BARS, len(pairs)) for _, pairs in info.panels)
        figure.set_size_inches(SIZE[0], max(SIZE[1], 1.4 + 0.17 * bars))
        for axes, (objective, pairs) in zip(column, info.panels, strict=False):
            _draw_bars(axes, pairs[:MAX_BARS])
            hidden = f" ({MAX_BARS} of {len(pairs)} axes)" if len(pairs) > MAX_BARS else ""
            axes.text(
                0.99, 0.05, objective + hidden, transform=axes.transAxes, ha="right",
                fontsize=9, fontweight="bold",
            )  # fmt: skip
        column[-1].set_xlim(left=0)
        column[-1].set_xlabel("importance (share of the objective's variance)")
        _settle(figure)
    return figure


def _draw_bars(axes: Axes, pairs: Sequence[tuple[str, float]]) -> None:
    axes.barh([name for name, _ in pairs], [share for _, share in pairs], color=BLUE, height=0.7)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelsize=8, length=0)
