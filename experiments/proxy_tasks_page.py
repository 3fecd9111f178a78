"""What each task of the proxy sees, as a page and its figure, made from the kept rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.ablation.figures import BLUE, FAINT, INK, MUTED, ORANGE, STYLE
from experiments.ablation.layout import Table
from experiments.ablation.significance import (
    MOST_SEEDS,
    Difference,
    corrected,
    mean,
    paired,
    seeds_to_resolve,
)
from experiments.ablation.writers import markdown_table
from search.proxy.evaluation import RELATION_FOUND

RAW, PAGE, FIGURE = "proxy_tasks.csv", "proxy_tasks.md", "proxy_tasks.png"

TASKS = ("accuracy", "relation", "recognition", "routing", "localisation", "texture")
"""Columns of the rows that are compared. The first three are of the cue task."""

BASE = "SepViT-Lite"


class Change(NamedTuple):
    """A change of a network: what it is, and the labels of the rows before and after it."""

    name: str
    before: str
    after: str


CHANGES = (
    Change(
        "attention among windows",
        "window attention alone",
        "token fixed to zero, no grouped windows",
    ),
    Change(
        "attention among windows, beside grouped windows",
        "no attention among windows",
        "token fixed to zero",
    ),
    Change("fixed token instead of pooling", "average pooling", "token fixed to zero"),
    Change("learned token instead of a fixed one", "token fixed to zero", BASE),
    Change("grouped windows", "no grouped windows", BASE),
    Change("overlapping patch embedding", "patches that do not overlap", BASE),
    Change("conditional position encoding", "no position encoding", BASE),
    Change("inner shortcuts", "no inner shortcuts", BASE),
    Change("depth, half to whole", "half the depth", BASE),
    Change("depth, whole to twice", BASE, "twice the depth"),
    Change("MLP ratio, 2 to 4", "MLP ratio 2", BASE),
    Change("width, once to twice", BASE, "twice the width"),
)

INTRODUCTION = """\
# What each task of the proxy sees of a network

Single changes of SepViT-Lite, trained by the proxy with several seeds that all rows share:
`python -m experiments.run proxy_tasks`. Differences are paired by seed; brackets are Student's 95 %
interval, and a difference is **bold** where its Holm-corrected p, down the column, is below 0.05.
All are shares of cells of canvases of validation digits; none is an accuracy on images of things.

- The *cue task* is what a search trains first: *relation*, whether a cell's colour is that of a cue
  elsewhere, and *recognition*, which digit it shows; *accuracy* asks for both.
- From there each network is trained on, separately, to three further tasks. *Routing*: each half
  of the canvas has a cue, and that of the other half counts. *Localisation*: how many rows and
  columns away the cue is, both right. *Texture*: which of ten gratings a cell shows, under noise.
- The accuracy of a search is the mean of accuracy and routing unless `--tasks` says otherwise;
  [what other means are worth](task_audit.md) was measured. What weight each task should have for
  real images is not known here.
"""


def differences(rows: pd.DataFrame) -> dict[str, dict[str, Difference]]:
    """Paired differences by task and by the name of the change, corrected within each task."""
    good = rows[rows["accuracy"].notna()]
    found: dict[str, dict[str, Difference]] = {}
    for task in TASKS:
        by_label = {
            str(label): dict(zip(part["seed"], part[task], strict=True))
            for label, part in good.groupby("label")
        }
        known = [c for c in CHANGES if c.before in by_label and c.after in by_label]
        pairs = corrected([paired(by_label[c.after], by_label[c.before]) for c in known])
        found[task] = {c.name: pair for c, pair in zip(known, pairs, strict=True) if pair}
    return found


def page(rows: pd.DataFrame) -> str:
    """The page, in Markdown."""
    found = differences(rows)
    count = rows["seed"].nunique()
    parts = [
        INTRODUCTION,
        f"![Differences by task]({FIGURE})\n",
        "## What a change does\n",
        markdown_table(_changes(found)) + "\n",
        "## What is seen, and what is not\n",
        "\n".join(f"- {sentence}" for sentence in sentences(found)) + "\n",
        f"## Means over {count} seeds\n",
        markdown_table(_means(rows)) + "\n",
        _how(rows),
    ]
    return "\n".join(parts)


def _changes(found: Mapping[str, Mapping[str, Difference]]) -> Table:
    names = [c.name for c in CHANGES if any(c.name in column for column in found.values())]
    lines = tuple((name, *(_cell(found[task].get(name)) for task in TASKS)) for name in names)
    return Table("", "", ("change", *TASKS), lines)


def _cell(found: Difference | None) -> str:
    if found is None:
        return "—"
    text = f"{found.value:+.3f}"
    text = f"**{text}**" if found.significant else text
    return text if found.low is None else f"{text} [{found.low:+.3f}, {found.high:+.3f}]"


def sentences(found: Mapping[str, Mapping[str, Difference]]) -> Iterator[str]:
    """One a change: which tasks resolve it, in which direction, or what that would take."""
    for change in CHANGES:
        column = {task: pairs[change.name] for task, pairs in found.items() if change.name in pairs}
        if not column:
            continue
        gains = [task for task, pair in column.items() if pair.significant and pair.value > 0]
        losses = [task for task, pair in column.items() if pair.significant and pair.value < 0]
        words = [
            f"{', '.join(names)} {verb}"
            for names, verb in ((gains, "gain"), (losses, "lose"))
            if names
        ]
        yield f"{change.name}: {'; '.join(words) if words else _unresolved(column)}."


def _unresolved(column: Mapping[str, Difference]) -> str:
    """Which task would need the fewest seeds, if mean and spread stayed."""
    needed = {
        task: count
        for task, pair in column.items()
        if (count := seeds_to_resolve(pair)) is not None
    }
    if not needed:
        return f"no task resolves it, nor would {MOST_SEEDS} seeds if mean and spread stayed"
    task = min(needed, key=lambda name: needed[name])
    return (
        f"no task resolves it; {task} ({column[task].value:+.3f}) would by itself with "
        f"{needed[task]} seeds if mean and spread stayed"
    )


def _means(rows: pd.DataFrame) -> Table:
    lines = []
    for label, part in rows[rows["accuracy"].notna()].groupby("label", sort=False):
        means = [mean(part[task].to_list()) for task in TASKS]
        found = part["relation"].ge(RELATION_FOUND)
        at_once, whole = (found & part["attempts"].eq(1)).mean(), found.mean()
        cells = [f"{each.value:.3f}" if each else "—" for each in means]
        costs = (f"{part['macs'].iloc[0] / 1e6:.0f} M", *cells)
        lines.append(
            (
                str(label),
                *costs,
                f"{at_once:.0%}",
                f"{whole:.0%}",
                f"{part['seconds'].median():.0f}",
            )
        )
    header = ("network", "MACs", *TASKS, "found at once", "found", "seconds")
    return Table("", "", header, tuple(lines))


def _how(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    dates = sorted({str(date)[:10] for date in rows["date"]})
    return (
        "MACs of the network itself, which the proxy trains scaled down. Found at once: share of "
        "seeds whose first training on the cue task found the relation; found: whose up to three "
        "trainings did. "
        "Seconds: wall time of all tasks of a seed, the median. "
        f"{first['cpu']}, torch {first['torch']}, {' to '.join(sorted({dates[0], dates[-1]}))}.\n"
    )


# --- the figure ---------------------------------------------------------------------------------

PANELS_ACROSS = 3
READING = "difference with its 95 % interval; diamonds: significant after Holm's correction"
PANEL_WIDTH, LABELS_WIDTH, LINE_HEIGHT, MARGINS = 2.0, 2.4, 0.22, 0.75
"""Inches."""


def draw(rows: pd.DataFrame) -> Figure:
    """Differences with their intervals, a panel a task."""
    found = differences(rows)
    names = [c.name for c in CHANGES if any(c.name in column for column in found.values())]
    down = -(-len(TASKS) // PANELS_ACROSS)
    size = (
        LABELS_WIDTH + PANELS_ACROSS * PANEL_WIDTH,
        down * (len(names) * LINE_HEIGHT + MARGINS),
    )
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=size, layout="constrained", dpi=160)
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, PANELS_ACROSS, squeeze=False, sharey=True)
        for axes, task in zip(grid.flat, TASKS, strict=False):
            axes.set_title(task, loc="left", fontsize=9, color=INK)
            _panel(axes, names[::-1], found[task])
        figure.supxlabel(READING, fontsize=8, color=INK)
    return figure


def _panel(axes: Axes, names: list[str], found: Mapping[str, Difference]) -> None:
    axes.axvline(0, color=FAINT, linewidth=1)
    for place, name in enumerate(names):
        if name not in found:
            continue
        pair = found[name]
        colour, marker = (ORANGE, "D") if pair.significant else (BLUE, "o")
        if pair.low is not None and pair.high is not None:
            axes.plot([pair.low, pair.high], [place] * 2, color=colour, linewidth=1.2)
        axes.plot(pair.value, place, marker, color=colour, markersize=4)
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=4)
    axes.set_ylim(-0.7, len(names) - 0.3)
