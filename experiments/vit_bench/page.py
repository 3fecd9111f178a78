"""The result as a page of the documentation and its figure, made from the kept table alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.ablation.figures import BLUE, FAINT, INK, MUTED, ORANGE, STYLE, WIDTH
from experiments.vit_bench.agreement import BASELINE

RESULT, PAGE, FIGURE = "vit_bench.csv", "vit_bench.md", "vit_bench.png"
LEARNED, CHOSEN = "learned", "learned: groups chosen by inner folds"
LINE_HEIGHT, MARGINS = 0.16, 1.2
"""Inches: of a reading; above and below a panel."""

INTRODUCTION = """\
# ViT-Bench-101: accuracies that others trained

100 AutoFormer-T and 100 PiT architectures of ViT-Bench-101 (Wei et al., "Auto-Prox", AAAI 2024,
arXiv 2312.09059; Apache-2.0) with the accuracies that its authors trained, beside what this
project reads off a network without training it. This page is made from
`experiments/data/vit_bench.csv`, which `python -m experiments.run vit_bench` measures.

- *tau* is Kendall's tau-b between a reading and the accuracies. *gain* is tau minus that of the
  parameter count, paired. Brackets are 95 % bootstrap intervals over architectures.
- Scores are those of `search/scores`, taken as published: larger is better. They are means over
  seeds of weights and images, on networks at 64 x 64 pixels. A negative tau stays negative:
  turning it round would need the accuracies.
- *learned* readings are ridge regressions of ranks in nested cross-validation: an architecture's
  prediction is made by models that were fitted, and whose groups of features were chosen, without
  it. They need trained architectures of the same slice: nine tenths of it here. Groups are the
  logarithm of the parameters, those of MACs and activations (costs), scores, and the encoding,
  which describes the architecture. The groups that inner folds choose are the combination to
  compare; the fixed ones beside it say what each group holds.
- Regressing the accuracies themselves was tried before ranks, and did worse; so the choice of ranks
  has seen these slices. What it is worth shows on slices that were kept aside.
- *learned on* the other slice: fitted there and applied here, on ranks of what both slices have.
"""

UNSCORED = """\
Zero-cost scores are not in this table, or not of both slices: they take much longer than the rest,
and the command goes on with them where it stopped.
"""


def read(path: Path) -> pd.DataFrame:
    """Read the table as it was written, so that the same file gives the same page."""
    table: pd.DataFrame = pd.read_csv(path, keep_default_na=False)
    return table


def page(table: pd.DataFrame) -> str:
    """The page, in Markdown.

    Args:
        table: From :func:`experiments.vit_bench.command.evaluate`, or its file.
    """
    parts = [INTRODUCTION, "## Is the parameter count beaten?\n"]
    parts.append("\n".join(f"- {sentence}" for sentence in verdicts(table)) + "\n")
    if not table["seeds"].all():
        parts.append(UNSCORED)
    parts.append(f"![Kendall's tau of all readings]({FIGURE})\n")
    for (name, target), part in table.groupby(["slice", "target"], sort=False):
        count, seeds = (part[column].iloc[0] for column in ("architectures", "seeds"))
        parts.append(f"## {name}, {target}\n\n{count} architectures; seeds of scores: {seeds}.\n")
        parts.append(_markdown(part))
        chosen = part.loc[part["reading"] == CHOSEN, "chosen"].iloc[0]
        parts.append(f"What inner folds chose: {chosen}.\n")
    return "\n".join(parts)


def verdicts(table: pd.DataFrame) -> Iterator[str]:
    """One sentence a slice and target: whether the chosen combination beats the baseline."""
    for (name, target), part in table.groupby(["slice", "target"], sort=False):
        rows = part.set_index("reading").to_dict("index")
        row, base = rows[CHOSEN], rows[BASELINE]
        beats = "beats" if float(row["gain_low"]) > 0 else "does not beat"
        yield (
            f"{name}, {target}: the chosen combination, tau {row['tau']:.2f}, {beats} the "
            f"parameter count, {base['tau']:.2f} (gain {_with_interval(row, 'gain')})."
        )


def _markdown(part: pd.DataFrame) -> str:
    lines = ["| reading | tau | gain | rho |", "| --- | ---: | ---: | ---: |"]
    for row in part.to_dict("records"):
        gain = "" if row["reading"] == BASELINE else _with_interval(row, "gain")
        cells = (row["reading"], _with_interval(row, "tau"), gain, f"{row['rho']:+.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _with_interval(row: Mapping[Hashable, Any], name: str) -> str:
    return f"{row[name]:+.2f} [{row[f'{name}_low']:+.2f}, {row[f'{name}_high']:+.2f}]"


def draw(table: pd.DataFrame) -> Figure:
    """Tau of every reading with its interval, a panel for each slice and target."""
    panels = list(table.groupby(["slice", "target"], sort=False))
    heights = [len(part) * LINE_HEIGHT + MARGINS for _, part in panels]
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(panels), squeeze=False, sharex=True, height_ratios=heights)
        for axes, ((name, target), part) in zip(grid[:, 0], panels, strict=True):
            axes.set_title(f"{name}, {target}", loc="left", fontsize=9, color=INK)
            _draw_panel(axes, part.iloc[::-1])
            axes.tick_params(labelbottom=True)  # the last panel's are pages away
        grid[-1, 0].set_xlabel("Kendall's tau with trained accuracy, 95 % interval")
    return figure


def _draw_panel(axes: Axes, part: pd.DataFrame) -> None:
    base = float(part.loc[part["reading"] == BASELINE, "tau"].iloc[0])
    axes.axvline(base, color=FAINT, linestyle="--", linewidth=1)
    axes.axvline(0, color=INK, linewidth=0.6)
    for place, row in enumerate(part.to_dict("records")):
        learned = str(row["reading"]).startswith(LEARNED)
        colour, marker = (ORANGE, "D") if learned else (BLUE, "o")
        axes.plot([row["tau_low"], row["tau_high"]], [place] * 2, color=colour, linewidth=1)
        axes.plot(row["tau"], place, marker, color=colour, markersize=3.5)
    axes.set_yticks(range(len(part)), list(part["reading"]), fontsize=6.5)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.set_ylim(-0.8, len(part) - 0.2)
