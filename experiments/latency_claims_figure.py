"""Measured latency against published accuracy: plain data first, then the drawing.

Accuracies are the papers' top-1 on ImageNet-1K, at each network's own resolution; nothing here was
trained. Families differ in colour and in shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from experiments.ablation.figures import FAINT, INK, MUTED, STYLE, WIDTH
from experiments.latency_claims_table import FRONT
from search.front import non_dominated

LOOKS: Mapping[str, tuple[str, str]] = {
    "SepViT": ("#0072b2", "o"),
    "Swin": ("#d55e00", "s"),
    "Twins-SVT": ("#009e73", "^"),
    "CSWin": ("#cc79a7", "D"),
    "PVTv2": ("#999999", "P"),
    "MobileViT": ("#56b4e9", "v"),
    "MobileViTv2": ("#e69f00", "<"),
    "EfficientViT": ("#000000", "*"),
    "EfficientNet": ("#7a5c00", "X"),
}
"""Colour (after Okabe and Ito) and marker of each family."""

PANEL_HEIGHT, MARGIN = 3.5, 2.0
"""Inches: of a panel; of title and sources."""

LABEL_ANGLE = -25
"""Degrees: names on a rising front do not overlap."""


class Point(NamedTuple):
    """A network.

    Attributes:
        label, family: What it is.
        ms, low, high: Latency in milliseconds with its 95 % interval: the ratio to the reference
            network, times that network's median over all of the panel's measurements.
        top1: Published top-1 on ImageNet-1K in percent.
        source: Publication, version and table of that accuracy.
        front: Whether no other network of the panel is faster and as accurate, or more accurate
            and as fast.
    """

    label: str
    family: str
    ms: float
    low: float
    high: float
    top1: float
    source: str
    front: bool


class Panel(NamedTuple):
    """All networks on one back end, with one batch size."""

    title: str
    points: tuple[Point, ...]


def panels(rows: pd.DataFrame) -> list[Panel]:
    """Make a panel for each device, back end, precision and batch that has networks."""
    chosen = rows[(rows["group"] == FRONT) & rows["error"].isna()]
    found = []
    by = ["device", "backend", "precision", "batch"]
    for (device, backend, precision, batch), part in chosen.groupby(by, sort=False):
        threads = ", ".join(str(number) for number in sorted(set(part["threads"])))
        title = f"{backend} {precision}, batch {batch}, threads: {threads}, {device}"
        found.append(Panel(title, _points(part)))
    return found


def _points(part: pd.DataFrame) -> tuple[Point, ...]:
    reference_ms = float(part["peer_ms"].median())
    ms = reference_ms / part["times_faster"].to_numpy(np.float64)
    top1 = part["ours_published_top1"].to_numpy(np.float64)
    front = non_dominated(np.column_stack([ms, -top1]))
    return tuple(
        Point(
            label=str(row["comparison"]).partition(" / ")[0],
            family=row["ours_family"],
            ms=reference_ms / row["times_faster"],
            low=reference_ms / row["high"],
            high=reference_ms / row["low"],
            top1=row["ours_published_top1"],
            source=row["ours_top1_source"],
            front=on_front,
        )
        for row, on_front in zip(part.to_dict("records"), front.tolist(), strict=True)
    )


def draw(found: Sequence[Panel]) -> Figure:
    """Draw panels below each other; names stand at the networks of the front."""
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(WIDTH, MARGIN + PANEL_HEIGHT * len(found)), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(
            "Measured latency against published ImageNet-1k top-1", x=0.01, ha="left",
            fontsize=10, fontweight="bold", color=INK,
        )  # fmt: skip
        for axes, panel in zip(
            figure.subplots(len(found), squeeze=False)[:, 0], found, strict=True
        ):
            _draw_panel(axes, panel)
        figure.supxlabel(_sources(found), x=0.01, ha="left", fontsize=6, color=MUTED)
        figure.axes[0].legend(loc="lower right", ncols=2, fontsize=8, handlelength=1.2)
    return figure


def _sources(found: Sequence[Panel]) -> str:
    """Where accuracies are printed, a line for each publication and table."""
    families: dict[str, list[str]] = {}
    for point in (point for panel in found for point in panel.points):
        members = families.setdefault(point.source, [])
        if point.family not in members:
            members.append(point.family)
    lines = [f"{', '.join(members)}: {source}" for source, members in families.items()]
    return "\n".join(["Accuracies as published, ImageNet-1k top-1:", *lines])


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize=8, color=MUTED)
    front = sorted((point for point in panel.points if point.front), key=lambda point: point.ms)
    axes.plot(
        [point.ms for point in front], [point.top1 for point in front], color=FAINT, linewidth=1.2,
        zorder=1, label="front of all families",
    )  # fmt: skip
    for family, (colour, marker) in LOOKS.items():
        members = [point for point in panel.points if point.family == family]
        for point in members:
            axes.plot([point.low, point.high], [point.top1] * 2, color=colour, linewidth=1)
        if members:
            axes.plot(
                [point.ms for point in members], [point.top1 for point in members], marker,
                color=colour, markersize=6, linestyle="none", label=family,
            )  # fmt: skip
    for point in front:
        axes.annotate(
            point.label, (point.ms, point.top1), (-2, 4), textcoords="offset points",
            fontsize=6.5, color=INK, ha="right", va="bottom", rotation=LABEL_ANGLE,
            rotation_mode="anchor",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.margins(x=0.16, y=0.12)
    axes.set_xlabel("latency measured here, milliseconds a call (logarithmic)")
    axes.set_ylabel("published top-1 (%)")
