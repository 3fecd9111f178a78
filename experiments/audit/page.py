"""The page of the audits: a table a space, a figure, and what is claimed and what not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from experiments.ablation.layout import DASH, Table
from experiments.ablation.writers import markdown_table
from experiments.audit.plan import SEARCH_SEEDS
from experiments.audit.summary import AMONG_SEEDS, CEILING, GROUPS, STATISTICS, TAU, find
from search.proxy.statement import SMOOTHED, TRAINED

PAGE, FIGURE = "proxy_audit.md", "proxy_audit.png"

COLUMNS = 2
"""Spaces side by side in the figure."""

INTRODUCTION = """# How far accuracy proxies can be trusted

`python -m experiments.run proxy_audit --space SPACE` trains variants of a space, balanced over
MACs, twice as long as a search does, and asks how well each proxy ranks them in that order.
Intervals are 95 %, of a bootstrap over variants. "At fixed MACs" is Kendall's partial tau; "within
bins" counts only pairs within the same third of MACs; the regret is how far the best of a proxy's
five first variants stays behind the best of all, in accuracy. Surrogates are learned from the other
variants (cross-validated). Smoothed accuracies are those by which a run chooses its finalists:
alike variants share what they reached. How strongly was settled on the audit of `sepvit`; the other
spaces had no part in it. The longer training is a proxy itself, on handwritten digits: nothing here
says how variants rank on ImageNet."""

GLANCE_NOTE = "Kendall's tau with the longer training, of all variants:"
GLANCE = {
    "a trial's training": f"{TRAINED}, seed {SEARCH_SEEDS[0]}",
    "smoothed": f"{TRAINED}, seed {SEARCH_SEEDS[0]}{SMOOTHED}",
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
        share = spread[recipe, "relation found at once, share"]
        near, far = (spread[recipe, f"relation_{where}, mean"] for where in ("near", "far"))
        yield (
            f"Recipe `{recipe}`: accuracy {spread[recipe, 'accuracy, mean']:.3f} (sd over variants "
            f"{spread[recipe, 'accuracy, sd over variants']:.3f}); relation beside the cue "
            f"{near:.3f}, three or more cells away {far:.3f}; recognition "
            f"{spread[recipe, 'recognition, mean']:.3f}; {share:.0%} of the first trainings found "
            "the relation."
        )


def draw(summaries: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw Kendall's tau of every proxy with its interval, and of another training, by space."""
    shown = {space: _taus(summary) for space, summary in summaries.items() if not summary.empty}
    readings = max((len(taus) for taus in shown.values()), default=1)
    columns = min(COLUMNS, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    size = 1.5 + 4.2 * columns, rows * (1.2 + 0.24 * readings)
    figure = Figure(figsize=size, layout="constrained")
    for place, (space, taus) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        y = range(len(taus))[::-1]
        axes.errorbar(
            taus["value"],
            y,
            xerr=[taus["value"] - taus["low"], taus["high"] - taus["value"]],
            fmt="o",
            markersize=4,
            linewidth=1,
            color="C0",
        )
        axes.set_yticks(list(y), taus["reading"], fontsize=8)
        ceiling = summaries[space].query("group == 'all' and reading == @CEILING")
        if not ceiling.empty:
            axes.axvline(ceiling["value"].iloc[0], color="C3", linewidth=1, label=CEILING)
            axes.legend(fontsize=8, loc="lower left")
        axes.axvline(0, color="0.7", linewidth=0.8)
        axes.set_xlim(-1, 1)
        axes.set_xticks((-1, -0.5, 0, 0.5, 1))
        axes.set_xlabel("Kendall's tau with longer training")
        axes.set_title(f"{space}, {summaries[space]['n'].iloc[0]} variants", fontsize=9)
    return figure


def _taus(summary: pd.DataFrame) -> pd.DataFrame:
    part = summary[(summary["group"] == "all") & (summary["statistic"] == TAU)]
    taus: pd.DataFrame = part[part["kind"] != "noise"].dropna(subset=["value"])
    return taus
