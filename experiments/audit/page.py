"""The page of the audits: a table a space, a figure, and what is claimed and what not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.ablation.layout import DASH, Table
from experiments.ablation.writers import markdown_table
from experiments.audit.plan import SEARCH_SEEDS
from experiments.audit.summary import AMONG_SEEDS, CEILING, FOUND, GROUPS, STATISTICS, TAU, find

PAGE, FIGURE = "proxy_audit.md", "proxy_audit.png"

LABELS, PANEL, ROW, MARGINS = 2.6, 1.9, 0.22, 1.1
"""Inches of the figure: width of the names and of a space; height of a row, and beside the rows."""

INTRODUCTION = """# How far accuracy proxies can be trusted

`python -m experiments.run proxy_audit --space SPACE` trains variants of a space, balanced over
MACs, twice as long as a search does, and asks how well each proxy ranks them in that order.
Intervals are 95 %, of a bootstrap over variants. "At fixed MACs" is Kendall's partial tau; "within
bins" counts only pairs within the same third of MACs; the regret is how far the best of a proxy's
five first variants stays behind the best of all, in accuracy. Surrogates are learned from the other
variants (cross-validated). The longer training is a proxy itself, on handwritten digits: nothing
here says how variants rank on ImageNet."""

GLANCE_NOTE = "Kendall's tau with the longer training, of all variants:"
GLANCE = {
    "a trial's training": f"short training, seed {SEARCH_SEEDS[0]}",
    "supernet": "supernet, log likelihood",
    "surrogate": "surrogate of the encoding",
    "another longer training": CEILING,
    "MACs": "MACs",
    "parameters": "parameters",
}
"""Readings that open the page, by the words of its header."""

CEILING_NOTE = {
    CEILING: "One longer training against the mean of the others: what noise allows a single "
    "training to reach",
    AMONG_SEEDS: "One longer training against another",
}
ONE_SEED = (
    "One seed of the longer training is finished, so that its own noise is not known: no proxy can "
    "be compared with what noise allows."
)


def page(summaries: Mapping[str, pd.DataFrame]) -> str:
    """Write the page in Markdown from summaries by space."""
    parts = [INTRODUCTION]
    if known := {space: each for space, each in summaries.items() if not each.empty}:
        parts += ["## At a glance", GLANCE_NOTE, markdown_table(_glance(known))]
    parts.append(f"![Kendall's tau of the proxies]({FIGURE})")
    for space, summary in summaries.items():
        parts.append(f"## {space}")
        parts += _section(summary)
    return "\n\n".join(parts) + "\n"


def _glance(summaries: Mapping[str, pd.DataFrame]) -> Table:
    """What matters most of each space, all variants together."""
    rows = []
    for space, summary in summaries.items():
        every = summary[summary["group"] == GROUPS[0]]
        cells = [_cell(every[every["reading"] == name], TAU) for name in GLANCE.values()]
        rows.append((f"`{space}`", str(every["n"].iloc[0]), *cells))
    return Table(title="", caption="", header=("space", "variants", *GLANCE), rows=tuple(rows))


def _section(summary: pd.DataFrame) -> Iterator[str]:
    if summary.empty:
        yield "Too few variants are trained to say anything."
        return
    for group in GROUPS:
        part = summary[summary["group"] == group]
        if part.empty:
            continue
        title = {"all": "All variants", "mixing windows": "Variants whose distant cells can meet"}
        yield f"### {title[group]}: {part['n'].iloc[0]}"
        yield markdown_table(_table(part))
        yield "\n".join(f"- {line}" for line in _noise(part))


def _table(part: pd.DataFrame) -> Table:
    ranked = part[part["statistic"].isin(STATISTICS) & (part["kind"] != "noise")]
    rows = []
    for reading, own in ranked.groupby("reading", sort=False):
        cells = [_cell(own, name) for name in STATISTICS]
        seconds = float(own["seconds"].iloc[0])
        rows.append((str(reading), *cells, DASH if pd.isna(seconds) else f"{seconds:.2g}"))
    header = ("proxy", *STATISTICS, "seconds a variant")
    return Table(title="", caption="", header=header, rows=tuple(rows))


def _cell(rows: pd.DataFrame, statistic: str) -> str:
    figure = find(rows, statistic)
    return DASH if figure is None else f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def _noise(part: pd.DataFrame) -> Iterator[str]:
    """What training says of itself."""
    noise = part[part["kind"] == "noise"]
    for reading, note in CEILING_NOTE.items():
        own = noise[noise["reading"] == reading]
        if not own.empty:
            yield f"{note}: tau {_cell(own, TAU)}."
    if noise.empty:
        yield ONE_SEED
    spread = part[part["kind"] == "spread"].set_index(["reading", "statistic"])["value"]
    for recipe in ("search", "reference"):
        if (recipe, "accuracy, mean") not in spread.index:
            continue
        at_once, found = (spread[recipe, name] for name in ("relation found at once, share", FOUND))
        near, far = (spread[recipe, f"relation_{where}, mean"] for where in ("near", "far"))
        yield (
            f"Recipe `{recipe}`: accuracy {spread[recipe, 'accuracy, mean']:.3f} (sd over variants "
            f"{spread[recipe, 'accuracy, sd over variants']:.3f}); relation beside the cue "
            f"{near:.3f}, three or more cells away {far:.3f}; recognition "
            f"{spread[recipe, 'recognition, mean']:.3f}; {at_once:.0%} of the first trainings "
            f"found the relation, {found:.0%} within three."
        )


def draw(summaries: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw Kendall's tau of every proxy with its interval, and of another training, by space."""
    shown = {space: _taus(summary) for space, summary in summaries.items() if not summary.empty}
    readings = list(dict.fromkeys(name for taus in shown.values() for name in taus["reading"]))
    size = LABELS + PANEL * max(1, len(shown)), MARGINS + ROW * max(1, len(readings))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, max(1, len(shown)), sharey=True, squeeze=False)[0]
    for axes, (space, taus) in zip(panels, shown.items(), strict=False):
        _draw_panel(axes, taus, readings)
        every = summaries[space].query("group == 'all' and reading == @CEILING")
        if not every.empty:
            axes.axvline(every["value"].iloc[0], color="C3", linewidth=1, label=CEILING)
        axes.set_title(f"{space}, {summaries[space]['n'].iloc[0]} variants", fontsize=9)
    panels[0].set_yticks(range(len(readings)), readings, fontsize=8)
    panels[0].set_ylim(len(readings) - 0.5, -0.5)
    figure.supxlabel("Kendall's tau with longer training, 95 % intervals", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", fontsize=8)
    return figure


def _draw_panel(axes: Axes, taus: pd.DataFrame, readings: Sequence[str]) -> None:
    """Draw the taus of a space, each in the row of its reading."""
    axes.errorbar(
        taus["value"],
        [readings.index(name) for name in taus["reading"]],
        xerr=[taus["value"] - taus["low"], taus["high"] - taus["value"]],
        fmt="o",
        markersize=4,
        linewidth=1,
        color="C0",
    )
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.set_xlim(-1, 1)
    axes.set_xticks((-1, -0.5, 0, 0.5, 1), ("-1", "-.5", "0", ".5", "1"), fontsize=8)


def _taus(summary: pd.DataFrame) -> pd.DataFrame:
    part = summary[(summary["group"] == "all") & (summary["statistic"] == TAU)]
    taus: pd.DataFrame = part[part["kind"] != "noise"].dropna(subset=["value"])
    return taus
