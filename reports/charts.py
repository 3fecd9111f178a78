"""The interactive charts of the page as plotly figures: thin drawings of :mod:`reports.findings`.

Colours are the light ones of :mod:`reports.style`; the page exchanges them on a dark screen.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from reports import findings
from reports.findings import QUANTITIES, AxisImportance, Plane, Point, Progress
from reports.records import Finalist, Run, Trial
from reports.style import BLUE, FAINT, GRID, INK, ORANGE, PAPER

Chart = dict[str, Any]
"""A plotly figure as JSON values."""

HOVER_COLUMNS = 46
"""Characters in a line of a hover label, so that it fits a telephone."""


LABEL_COLUMNS = 56
"""Characters in a line of an axis' label."""


def plane_chart(plane: Plane, hovers: Mapping[int, str]) -> Chart:
    """Scatter of all measured variants.

    Args:
        plane: What to draw.
        hovers: Text by trial number, from :func:`hover_texts`.
    """
    figure = go.Figure(layout=_layout())
    _add_budgets(figure, plane)
    for found, symbol, label in (
        (True, "circle", "trial"),
        (False, "x-thin", "relation not found"),
    ):
        points = [p for p in plane.trials if p.found is found and not p.on_front]
        marker = {"color": FAINT, "size": 7, "symbol": symbol, "opacity": 0.8,
                  "line": {"width": 0 if found else 1.5, "color": FAINT}}  # fmt: skip
        _add_points(figure, points, label, marker, hovers, bars=False)
    if plane.front:
        _add_front(figure, plane, hovers)
    for on_front, label in ((True, "finalist on the front"), (False, "finalist, dominated")):
        points = [p for p in plane.finalists if p.on_front is on_front]
        marker = {
            "color": BLUE if on_front else PAPER, "size": 9, "line": {"width": 1.6, "color": BLUE},
            "symbol": ["circle" if p.found else "x" for p in points],
        }  # fmt: skip
        _add_points(figure, points, label, marker, hovers, bars=True)
    _add_published(figure, plane)
    figure.update_xaxes(_axis(plane.x, plane.x_label, plane.x_limits, logarithmic=True))
    figure.update_yaxes(
        _axis(plane.y, plane.y_label, plane.y_limits, logarithmic=plane.y_logarithmic)
    )
    return _json(figure)


def progress_chart(info: Progress) -> Chart:
    """Hypervolume after each trial; hovering also gives the size of the front."""
    figure = go.Figure(layout=_layout())
    figure.add_scatter(
        x=info.numbers, y=info.hypervolume, mode="lines", line={"shape": "hv", "color": BLUE},
        customdata=[None if math.isnan(size) else size for size in info.front_size],
        hovertemplate="trial %{x}<br>hypervolume %{y:.3f}<br>%{customdata} on the front"
        "<extra></extra>",
    )  # fmt: skip
    figure.update_layout(height=320, showlegend=False, margin_t=12)
    figure.update_xaxes(title="trial")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    return _json(figure)


def importance_chart(pairs: Sequence[tuple[str, float]]) -> Chart:
    """Horizontal bars of one panel of :class:`AxisImportance`, the most important axis on top."""
    figure = go.Figure(layout=_layout())
    figure.add_bar(
        x=[share for _, share in pairs], y=[name for name, _ in pairs], orientation="h",
        marker={"color": BLUE}, hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(height=90 + 20 * len(pairs), showlegend=False, bargap=0.35, margin_t=6)
    figure.update_xaxes(title="importance", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    return _json(figure)


def charts(run: Run) -> dict[str, Chart]:
    """All charts of the page by name; those without data are left out."""
    hovers = hover_texts(run)
    planes = [findings.accuracy_plane(run, x) for x in ("macs", "latency_ms", "params")]
    named = {f"accuracy_{plane.x}": plane_chart(plane, hovers) for plane in planes if plane.points}
    latency = findings.latency_plane(run)
    if latency.points:
        named["latency_macs"] = plane_chart(latency, hovers)
    progress = findings.progress(run)
    if progress.numbers:
        named["hypervolume"] = progress_chart(progress)
    info: AxisImportance = findings.importance(run)
    for index, (_, pairs) in enumerate(info.panels):
        named[f"importance_{index}"] = importance_chart(pairs)
    return named


# --- hover texts --------------------------------------------------------------------------------


def hover_texts(run: Run) -> dict[int, str]:
    """What hovering a variant shows, as escaped text with line breaks, by trial number.

    The measures are those of the finalist where the variant is one, the configuration is always
    that of the trial.
    """
    measured: dict[int, Trial | Finalist] = {trial.number: trial for trial in run.trials}
    measured |= {finalist.number: finalist for finalist in run.finalists}
    axes = {trial.number: trial.axes for trial in run.trials}
    return {
        number: "<br>".join(_measures(row) + _settings(axes.get(number, {})))
        for number, row in measured.items()
    }


def _measures(row: Trial | Finalist) -> list[str]:
    name = f"{row.published} (#{row.number})" if row.published else f"#{row.number}"
    low, high = (
        (row.accuracy_low, row.accuracy_high) if isinstance(row, Finalist) else (math.nan, math.nan)
    )
    accuracy = QUANTITIES["accuracy"].interval(row.accuracy, low, high)
    macs, params = QUANTITIES["macs"].text(row.macs), QUANTITIES["params"].text(row.params)
    return [
        f"<b>{html.escape(name)}</b> {html.escape(row.variant_id)}",
        f"accuracy {accuracy}, {_effort(row)}",
        f"{macs} MACs, {params} parameters",
        f"latency {findings.latency_text(row)}" + (", noisy" if _noisy(row) else ""),
    ]


def _effort(row: Trial | Finalist) -> str:
    """What stands behind an accuracy."""
    if isinstance(row, Finalist) and math.isnan(row.found):
        return "one seed" if row.seeds == 1 else f"mean of {row.seeds:.0f} seeds"
    if isinstance(row, Finalist):
        return f"found by {row.found:.0f} of {row.seeds:.0f} seeds"
    return "relation not found" if row.relation_found is False else "one seed"


def _noisy(row: Trial | Finalist) -> bool:
    return isinstance(row, Trial) and row.latency_noisy is True


def _settings(axes: Mapping[str, str]) -> list[str]:
    """The configuration in lines, as many axes on each as fit."""
    lines = [""]
    for name, value in findings.readable_axes(axes):
        entry = f"{name} {value}"
        if lines[-1] and len(lines[-1]) + len(entry) + 3 <= HOVER_COLUMNS:
            lines[-1] += f" | {entry}"
        else:
            lines.append(entry)
    return [html.escape(line) for line in lines] if axes else []


# --- parts of a chart ---------------------------------------------------------------------------


def _layout() -> dict[str, Any]:
    return {
        "template": "none",
        "font": {"color": INK, "size": 13, "family": "system-ui, sans-serif"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 56, "r": 12, "t": 34, "b": 48},  # on top: the tool bar
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": FAINT, "activecolor": BLUE},
        "height": 520,
        "hovermode": "closest",
        "hoverlabel": {
            "align": "left", "bgcolor": PAPER, "bordercolor": FAINT, "namelength": -1,
            "font": {"color": INK, "size": 12},
        },
        "legend": {
            "orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container",
        },
        "xaxis": {"gridcolor": GRID, "zeroline": False, "linecolor": FAINT, "automargin": True},
        "yaxis": {"gridcolor": GRID, "zeroline": False, "linecolor": FAINT, "automargin": True},
    }  # fmt: skip


def _axis(
    column: str, label: str, limits: tuple[float, float], *, logarithmic: bool
) -> dict[str, Any]:
    quantity = QUANTITIES[column]
    text = "<br>".join(map(html.escape, textwrap.wrap(label, LABEL_COLUMNS)))
    if not logarithmic:
        return {"title": {"text": text}, "range": list(limits)}
    ticks = findings.log_ticks(*limits)
    return {
        "title": {"text": text, "standoff": 8},
        "type": "log",
        "range": [math.log10(limit) for limit in limits],
        "tickvals": ticks,
        "ticktext": [quantity.tick(tick) for tick in ticks],
    }


def _add_points(
    figure: go.Figure,
    points: Sequence[Point],
    label: str,
    marker: Mapping[str, Any],
    hovers: Mapping[int, str],
    *,
    bars: bool,
) -> None:
    if not points:
        return
    figure.add_scatter(
        x=[p.x for p in points],
        y=[p.y for p in points],
        error_x=_bars([(p.x, p.x_low, p.x_high) for p in points]) if bars else None,
        error_y=_bars([(p.y, p.y_low, p.y_high) for p in points]) if bars else None,
        mode="markers",
        marker=dict(marker),
        name=label,
        text=[hovers.get(p.number, "") for p in points],
        hovertemplate="%{text}<extra></extra>",
    )


def _bars(ends: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Error bars; of no length where there is no interval."""
    ups = [0.0 if math.isnan(high) else max(high - value, 0.0) for value, _, high in ends]
    downs = [0.0 if math.isnan(low) else max(value - low, 0.0) for value, low, _ in ends]
    return {"array": ups, "arrayminus": downs, "color": BLUE, "thickness": 1, "width": 0,
            "visible": any(ups) or any(downs)}  # fmt: skip


def _add_front(figure: go.Figure, plane: Plane, hovers: Mapping[int, str]) -> None:
    dash = "dash" if plane.provisional else "solid"
    figure.add_scatter(
        x=[p.x for p in plane.front],
        y=[p.y for p in plane.front],
        mode="lines+markers" if plane.provisional else "lines",
        line={"shape": "hv", "color": BLUE, "width": 1.6, "dash": dash},
        marker={
            "color": BLUE,
            "size": 8,
            "symbol": ["circle" if p.found else "x" for p in plane.front],
        },
        name="front so far" if plane.provisional else "front in this plane",
        text=[hovers.get(p.number, "") for p in plane.front],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_published(figure: go.Figure, plane: Plane) -> None:
    """Rings with names; hovering reaches the point inside."""
    points = [p for p in plane.points if p.published]
    # Away from the cloud: latency grows with MACs, and the front is the upper edge of accuracy.
    position = "bottom center" if plane.y == "accuracy" else "top left"
    if points:
        figure.add_scatter(
            x=[p.x for p in points],
            y=[p.y for p in points],
            text=[f"<b>{html.escape(p.name)}</b>" for p in points],
            mode="markers+text",
            textposition=position,
            cliponaxis=False,
            hoverinfo="skip",
            name="published",
            textfont={"color": ORANGE, "size": 12},
            marker={"symbol": "circle-open", "size": 17, "color": ORANGE, "line": {"width": 2}},
        )


def _add_budgets(figure: go.Figure, plane: Plane) -> None:
    style = {"fillcolor": ORANGE, "opacity": 0.1, "line_width": 0, "layer": "below"}
    if plane.x_budget is not None:
        figure.add_vrect(x0=plane.x_budget, x1=100 * plane.x_budget, **style)
    if plane.y_logarithmic and plane.y_budget is not None:
        figure.add_hrect(y0=plane.y_budget, y1=100 * plane.y_budget, **style)


def _json(figure: go.Figure) -> Chart:
    chart: Chart = figure.to_plotly_json()
    return chart
