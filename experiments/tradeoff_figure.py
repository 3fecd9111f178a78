"""The figures of the trade-off curves, made without pyplot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.ablation.figures import BLUE, FAINT, INK, MUTED, ORANGE, STYLE
from experiments.latency_claims_figure import LOOKS, Panel, panels
from experiments.latency_claims_table import Side
from search.front import non_dominated

COSTS: Mapping[str, str] = {
    "macs": "MACs at the space's resolution",
    "latency_ms": "latency in milliseconds, measured during the search",
}
"""Columns that stand on the horizontal axes, with their titles."""

SIZE = (9.6, 4.4)
"""Inches of a figure with two panels."""


def draw_space(space: str, points: pd.DataFrame) -> Figure:
    """Draw proxy accuracy of the variants of a space, and of its finalists, against both costs."""
    figure, axes = _canvas(f"Space {space}: proxy accuracy on digits, not ImageNet's")
    for column, each in zip(COSTS, axes, strict=True):
        _draw_variants(each, points, column)
    axes[0].set_ylabel("proxy accuracy")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7.5)
    return figure


def _draw_variants(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    trials = points[points["kind"] == "trial"]
    axes.plot(
        trials[cost], trials["accuracy"], ".", color=FAINT, markersize=5,
        label="variants, one short training",
    )  # fmt: skip
    finalists = points[points["kind"] == "finalist"].sort_values(cost)
    published = finalists["published"].notna()
    kinds = (
        (~published, BLUE, "o", "searched, trained anew"),
        (published, ORANGE, "s", "published models by their size, trained anew"),
    )
    for chosen, colour, marker, label in kinds:
        part = finalists[chosen]
        low, high = (part[f"accuracy_{end}"] for end in ("low", "high"))
        reach = [(part["accuracy"] - low).fillna(0.0), (high - part["accuracy"]).fillna(0.0)]
        axes.errorbar(
            part[cost], part["accuracy"], reach, color=colour, marker=marker, markersize=5,
            linestyle="none", elinewidth=1, capsize=2, label=label,
        )  # fmt: skip
    for row in finalists[published].to_dict("records"):
        lowest = row["accuracy"] if pd.isna(row["accuracy_low"]) else row["accuracy_low"]
        _name_below(axes, str(row["published"]).rpartition("_")[2], row[cost], lowest)
    _logarithmic(axes, COSTS[cost])


def draw_published(networks: Mapping[str, Side], latencies: pd.DataFrame) -> Figure:
    """Draw published top-1 of all families against exact MACs and measured latency.

    Args:
        networks: By label, from :func:`experiments.latency_claims_table.networks`.
        latencies: Rows of ``latency_claims``; the first back end and batch among them is drawn.
    """
    figure, (left, right) = _canvas("Published ImageNet-1k top-1, as the papers print it")
    costed = [(side, costs) for side in networks.values() if (costs := side.subject.costs())]
    _draw_families(
        left,
        [side.family for side, _ in costed],
        [costs.macs for _, costs in costed],
        [side.top1 or math.nan for side, _ in costed],
    )
    _logarithmic(left, "MACs at each network's own resolution")
    left.set_ylabel("published top-1 (%)")
    left.legend(loc="lower right", ncols=2, fontsize=7, handlelength=1.2)
    measured: Sequence[Panel] = panels(latencies)[:1]
    for panel in measured:
        points = panel.points
        _draw_families(
            right, [p.family for p in points], [p.ms for p in points], [p.top1 for p in points]
        )
        right.set_title(panel.title, loc="left", fontsize=7.5, color=MUTED)
    _logarithmic(right, "latency in milliseconds, measured here")
    return figure


def _draw_families(
    axes: Axes, families: Sequence[str], costs: Sequence[float], top1: Sequence[float]
) -> None:
    """Points by family, and the front of all of them as a line."""
    x, y, names = np.asarray(costs), np.asarray(top1), np.asarray(families)
    front = np.flatnonzero(non_dominated(np.column_stack([x, -y])))
    front = front[np.argsort(x[front])]
    axes.plot(x[front], y[front], color=FAINT, linewidth=1.2, zorder=1)
    for family, (colour, marker) in LOOKS.items():
        mine = names == family
        if mine.any():
            axes.plot(
                x[mine], y[mine], marker, color=colour, markersize=5, linestyle="none",
                label=family,
            )  # fmt: skip


def _canvas(title: str) -> tuple[Figure, Sequence[Axes]]:
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
        axes: Sequence[Axes] = list(figure.subplots(1, 2, sharey=True))
    return figure, axes


def _logarithmic(axes: Axes, title: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel(f"{title} (logarithmic)", fontsize=8)


def _short(value: float) -> str:
    for limit, unit in ((1e9, " G"), (1e6, " M")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def _name_below(axes: Axes, label: str, x: float, y: float) -> None:
    axes.annotate(
        label, (x, y), (0, -9), textcoords="offset points", fontsize=6.5, color=INK, ha="center"
    )
