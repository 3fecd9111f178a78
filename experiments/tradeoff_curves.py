"""The papers' trade-off curves again: published accuracies, and what a search of each space finds.

Two accuracies that must not be mixed up, on figures of their own. *Published* top-1 on ImageNet-1K
stands against exact MACs and against latency measured by ``latency_claims``. *Proxy* accuracy on
digits stands against MACs and latency of the variants that a search of each space evaluates, with
the published models among them trained alike.

The searches are those of ``python -m search.run``, one folder each, so they go on where they were
stopped; their reports lie beside the results. ``--space`` searches one space only; what is written
covers all spaces whose search is done.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from effvit.config import unknown_name
from experiments.ablation.figures import encode
from experiments.catalogue import DATA, Options
from experiments.earlier import NOTE, RETRY_WEIGHT, has_earlier
from experiments.latency_claims_table import networks
from experiments.tradeoff_figure import COSTS, draw_published, draw_space
from experiments.tradeoff_findings import Finalist, Gain, gain
from search.environment import environment
from search.proxy import ProxyRecipe
from search.proxy.tasks import CUE
from search.records import write_csv, write_text
from spaces import get_space

POINTS = "tradeoff_curves.csv"
PAGE = "tradeoff_curves.md"
LATENCIES = "latency_claims.csv"
SEARCHED = ("sepvit", "mobilevitv2", "efficientvit", "hybrid")
"""Spaces with published models, and with a rule by which the proxy scales them."""

TRIALS, FINALISTS, FINAL_SEEDS = 40, 4, 3
QUICK = {"trials": 6, "finalists": 2, "final_seeds": 2, "steps": 20, "final_steps": 20}
COLUMNS = (
    "space", "kind", "number", "published", "variant_id", "macs", "params", "latency_ms",
    "latency_low_ms", "latency_high_ms", "accuracy", "accuracy_low", "accuracy_high",
    "accuracy_sd", "routing", "tasks", "seeds", "relation_found", RETRY_WEIGHT,
)  # fmt: skip

INTRODUCTION = """# Trade-off curves

Made by `python -m experiments.run tradeoff_curves`; every number below comes from its results,
`experiments/data/tradeoff_curves.csv`.

## Published accuracy

Top-1 on ImageNet-1K as the papers print it; nothing was trained here. MACs are exact, latency was
measured by `latency_claims`.

![Published top-1 against MACs and latency](tradeoff_published.png)

## What a search adds

Proxy accuracy on digits, not ImageNet's. For every budget between the smallest and the largest
published model, the published choice is the largest published model that fits, and the searched
choice the finalist that fits and was best during the search. Both are valued by trainings
afterwards with seeds that the choice has not seen. The gain is the area between the two curves over
the width of the budgets' logarithm; its 95 % interval is over seeds.

Accuracy is of the tasks that the table names, their mean where there are several. Routing is one of
them: each half of a canvas has a cue of its own, and that of the other half counts; chance is 0.5.
Where it is no part of the accuracy, searched finalists that stay behind the published models there
have saved on what the accuracy does not ask for, such as learned window tokens.

"""
COLUMN_TITLES = (
    "space", "accuracy of", "variants", "finalists", "seeds each", "gain over MACs",
    "gain over latency", "routing, searched", "routing, published",
)  # fmt: skip


def run(options: Options) -> None:
    """Search every space as far as it is not done, then write points, figures and a page.

    Raises:
        ConfigError: A space that has no published models, or that the proxy does not scale.
    """
    if options.space is not None and options.space not in SEARCHED:
        raise unknown_name("searched space", options.space, SEARCHED)
    for space in [options.space] if options.space else SEARCHED:
        search(space, options)
    done = [space for space in SEARCHED if (options.out / space / "pareto.csv").exists()]
    points = pd.concat([read(space, options.out / space) for space in done])
    rows = [{**row, **environment("cpu")} for row in points.to_dict("records")]
    write_csv(options.out / POINTS, rows)
    console = Console(highlight=False)
    written = write(points, options.out)
    console.print(_table(points))
    names = ", ".join(str(path) for path in [options.out / POINTS, *written])
    console.print(f"written: {names}", soft_wrap=True)


def search(space: str, options: Options) -> None:
    """Run, or go on with, the search of a space.

    Raises:
        subprocess.CalledProcessError: It failed; what it printed says why.
    """
    subprocess.run(command(space, options), check=True)  # noqa: S603 - our own module


def command(space: str, options: Options) -> list[str]:
    """The command line of the search of a space."""
    seeds = options.seeds or FINAL_SEEDS
    settings: dict[str, int] = {"trials": TRIALS, "finalists": FINALISTS, "final_seeds": seeds}
    if options.quick:
        settings = dict(QUICK)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    return [
        sys.executable, "-m", "search.run", "--space", space, "--out",
        str(options.out / space), "--seed", str(options.seed), "--workers",
        str(options.workers), "--threads", "1", *arguments,
    ]  # fmt: skip


def read(space: str, folder: Path) -> pd.DataFrame:
    """Completed trials and finalists of a run, a row each."""
    trials = pd.read_csv(folder / "trials.csv")
    trials = trials[trials["state"] == "complete"].assign(kind="trial", seeds=1)
    finalists = pd.read_csv(folder / "pareto.csv").assign(kind="finalist")
    finalists["relation_found"] = finalists["found"] == finalists["seeds"]
    both: pd.DataFrame = pd.concat(
        [part.reindex(columns=list(COLUMNS)) for part in (trials, finalists)]
    )
    both["space"] = space
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    both["tasks"] = "+".join(settings["proxy"].get("tasks", [CUE]))
    recipe = settings["proxy"]["search_recipe"]
    both[RETRY_WEIGHT] = recipe.get(RETRY_WEIGHT, ProxyRecipe.retry_recognition_weight)
    return both


def finalists_by(points: pd.DataFrame, cost: str) -> list[Finalist]:
    """Finalists of one space with their accuracy during the search.

    Args:
        points: Rows of one space, from :func:`read` or the committed file.
        cost: ``macs`` or ``latency_ms``.
    """
    trials = points[points["kind"] == "trial"].set_index("number")["accuracy"]
    return [
        Finalist(
            number=int(row["number"]),
            label="" if pd.isna(row["published"]) else str(row["published"]),
            cost=float(row[cost]),
            first=float(trials[row["number"]]),
            accuracy=float(row["accuracy"]),
            sd=None if pd.isna(row["accuracy_sd"]) else float(row["accuracy_sd"]),
            seeds=int(row["seeds"]),
        )
        for row in points[points["kind"] == "finalist"].to_dict("records")
    ]


# --- what is written ----------------------------------------------------------------------------


def write(points: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the figures and the page for points of any age; return what was written."""
    paths = []
    for name, figure in figures(points).items():
        paths.append(folder / f"{name}.png")
        paths[-1].write_bytes(encode(figure, "png"))
    write_text(folder / PAGE, page(points))
    return [*paths, folder / PAGE]


def figures(points: pd.DataFrame) -> dict[str, Figure]:
    """All figures, by name of the file: one of each space, and one of published accuracies."""
    drawn = {f"tradeoff_{space}": draw_space(space, part) for space, part in _by_space(points)}
    published = draw_published(networks(), pd.read_csv(DATA / LATENCIES))
    return {**drawn, "tradeoff_published": published}


def _by_space(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(space, points[points["space"] == space]) for space in points["space"].unique()]


def page(points: pd.DataFrame) -> str:
    """Say in Markdown what the curves show."""
    lines = [f"| {' | '.join(COLUMN_TITLES)} |", "|---" * len(COLUMN_TITLES) + "|"]
    for space, part in _by_space(points):
        kinds = part["kind"].value_counts()
        gains = [gain_text(gain(finalists_by(part, cost))) for cost in COSTS]
        published = part["published"].notna()
        routings = [routing_text(part[~published]), routing_text(part[published])]
        counts = kinds["trial"], kinds["finalist"], int(part["seeds"].max())
        cells = [f"`{space}`", tasks_of(part), *counts, *gains, *routings]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for space, _ in _by_space(points):
        title = f"Proxy accuracy against MACs and latency, space {space}"
        lines += ["", f"### `{space}`", "", f"![{title}](tradeoff_{space}.png)"]
    earlier = f"{NOTE}\n\n" if has_earlier(points) else ""
    return INTRODUCTION + earlier + "\n".join(lines) + "\n"


def tasks_of(points: pd.DataFrame) -> str:
    """What the accuracies of a space are of; an earlier version had the cue task alone."""
    named = points.get("tasks", pd.Series(dtype=str)).dropna().unique()
    return ", ".join(named) if len(named) else CUE


def routing_text(points: pd.DataFrame) -> str:
    """The least and the most that finalists reach on the second task."""
    found = points.loc[points["kind"] == "finalist", "routing"].dropna()
    return f"{found.min():.2f} to {found.max():.2f}" if len(found) else "not measured"


def gain_text(found: Gain | None) -> str:
    """Write a gain with its interval."""
    if found is None:
        return "fewer than two published models"
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _table(points: pd.DataFrame) -> Table:
    table = Table(title="Proxy accuracy that search adds at equal budget", title_justify="left")
    for column in ("space", "published models", "over MACs", "over latency"):
        table.add_column(column)
    for space, part in _by_space(points):
        gains = [gain_text(gain(finalists_by(part, cost))) for cost in COSTS]
        table.add_row(space, str(len(get_space(space).published())), *gains)
    return table
