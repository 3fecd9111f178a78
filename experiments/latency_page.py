"""The page about latency: what repeats, what is predicted, which claims hold, what is fast.

Made from the results that travel with the package; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import fast_networks, latency_claims, latency_claims_text
from experiments.ablation.layout import Table
from experiments.ablation.writers import markdown_table
from experiments.latency_claims_figure import draw, panels
from experiments.latency_claims_table import FRONT
from search.latency.predictor import Prediction
from search.latency.repeatability import QUANTITIES, variation
from search.latency.validation import Estimate, Validation, compare

PAGE, FIGURE = "latency.md", "latency_claims"
REPEATS, PREDICTIONS = "latency_repeatability.csv", "latency_prediction_*.csv"

INTRODUCTION = """# Latency

Made by `python -m experiments.run documents` from the results in `experiments/data`. Latencies are
compared as ratios of networks that run in turn; milliseconds are this machine's."""

REPEATING = """\
Each of ten fresh processes measures the network and the reference network. Coefficient of variation
between processes, with its 95 % interval: by the protocol, and of one run each after one warm-up
run each. Busy: another process keeps the second core busy meanwhile.
`python -m search.latency repeatability MODEL --busy 1`."""

PREDICTING = """\
Variants drawn at random that the table does not hold, predicted and measured. Error: median
absolute relative error. Outside the table's range a search measures instead. Intervals are 95 %, of
a bootstrap over variants; covered is the share of variants whose measured ratio lies in its 95 %
prediction interval. A measurement's own 95 % interval is given as half its width, median over
variants: predictions cannot be seen to be much better. Tables were measured on an idle machine;
where variants were measured under load, that counts as error too. Minutes: time to measure the
table. `python -m search.latency build`, then `validate`."""


def page(folder: Path) -> str:
    """Write the page in Markdown from a folder of results; what is missing is left out."""
    parts = [INTRODUCTION]
    for title, blocks in (
        ("Repeatability", _repeatability(folder)),
        ("Prediction", _prediction(folder)),
        ("The papers' claims", _claims(folder)),
        ("Fast networks", _fast(folder)),
    ):
        found = list(blocks)
        parts += [f"## {title}", *found] if found else []
    return "\n\n".join(parts) + "\n"


def measured(folder: Path) -> bool:
    """Whether a folder of results holds anything that the page speaks about."""
    files = (REPEATS, PREDICTIONS, latency_claims.RESULT, fast_networks.RESULT)
    return any(True for name in files for _ in folder.glob(name))


def figures(folder: Path) -> dict[str, Figure]:
    """Draw the figures of the page, by name of the file."""
    path = folder / latency_claims.RESULT
    found = panels(pd.read_csv(path)) if path.exists() else []
    return {FIGURE: draw(found)} if found else {}


def where(rows: pd.DataFrame) -> str:
    """Say on what and when rows were measured."""
    dates = sorted({str(date)[:10] for date in rows["date"]})
    machines = sorted(set(rows["cpu"] + ", " + rows["cores"].astype(str) + " cores"))
    threads = ", ".join(map(str, sorted(set(rows["threads"]))))
    versions = ", ".join(sorted(set(rows["torch"].astype(str))))
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"Measured on {'; '.join(machines)}; threads: {threads}; torch {versions}; {span}."


# --- repeatability ------------------------------------------------------------------------------


def _repeatability(folder: Path) -> Iterator[str]:
    path = folder / REPEATS
    if not path.exists():
        return
    rows = pd.read_csv(path)
    lines = [
        (
            f"`{model}`",
            str(execution),
            "busy" if busy else "idle",
            *(_variation(part[name]) for name in QUANTITIES),
            str(len(part)),
        )
        for (model, execution, busy), part in rows.groupby(
            ["model", "execution", "busy"], sort=False
        )
    ]
    header = ("network", "back end", "second core", *QUANTITIES.values(), "processes")
    yield REPEATING
    yield markdown_table(Table("", "", header, tuple(lines)))
    yield where(rows)


def _variation(values: pd.Series) -> str:
    share, low, high = variation(values.to_list())
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


# --- prediction ---------------------------------------------------------------------------------


def _prediction(folder: Path) -> Iterator[str]:
    tables = [pd.read_csv(path) for path in sorted(folder.glob(PREDICTIONS))]
    if not tables:
        return
    header = (
        "space", "variants", "in the table", "minutes", "outside", "error inside", "error of all",
        "Kendall's tau inside", "tau of all", "covered", "a measurement's own interval",
        "measured under load", "microseconds each",
    )  # fmt: skip
    lines = tuple(_validated(rows, validation_of(rows)) for rows in tables)
    yield PREDICTING
    yield markdown_table(Table("", "", header, lines))
    yield where(pd.concat(tables))


def validation_of(rows: pd.DataFrame) -> Validation:
    """Compare the predictions of kept rows with their measurements."""
    numbers = {name: rows[f"predicted{part}"].to_numpy(np.float64) for name, part in PARTS.items()}
    measured = [f"measured{part}" for part in ("_low", "", "_high")]
    return compare(
        Prediction(**numbers, inside=rows["inside"].to_numpy(np.bool_)),
        rows[measured].to_numpy(np.float64),
    )


PARTS = {"ratio": "", "low": "_low", "high": "_high"}


def _validated(rows: pd.DataFrame, found: Validation) -> tuple[str, ...]:
    first = rows.iloc[0]
    return (
        f"`{first['space']}`",
        str(len(rows)),
        str(first["table_networks"]),
        f"{first['table_seconds'] / 60:.1f}",
        f"{found.outside:.0%}",
        _estimate(found.error, ".1%"),
        _estimate(found.error_all, ".1%"),
        _estimate(found.tau, ".3f"),
        _estimate(found.tau_all, ".3f"),
        f"{found.covered:.0%}",
        f"± {found.noise:.1%}",
        f"{rows['loaded'].mean():.0%}",
        f"{first['microseconds']:.0f}",
    )


def _estimate(found: Estimate, form: str) -> str:
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


# --- claims and fast networks -------------------------------------------------------------------


def _claims(folder: Path) -> Iterator[str]:
    path = folder / latency_claims.RESULT
    if not path.exists():
        return
    rows = pd.read_csv(path)
    claims = rows[rows["group"] != FRONT]
    yield f"{latency_claims_text.CAPTION} `python -m experiments.run latency_claims`."
    yield markdown_table(latency_claims_text.totals_table(claims))
    for group, part in claims.groupby("group", sort=False):
        yield f"### {group}"
        yield markdown_table(latency_claims_text.group_table(part))
        yield "\n".join(f"- Published: {source}" for source in latency_claims_text.sources(part))
    failed = "\n".join(f"- Not measured: {line}" for line in latency_claims_text.failures(rows))
    if failed:
        yield failed
    loaded = latency_claims_text.loaded_rows(rows)
    yield f"{where(rows)} {loaded} of {len(rows)} rows on a loaded machine."
    yield f"![Measured latency against published top-1 accuracy]({FIGURE}.png)"


def _fast(folder: Path) -> Iterator[str]:
    path = folder / fast_networks.RESULT
    if not path.exists():
        return
    rows = pd.read_csv(path)
    table = fast_networks.table(rows)
    yield table.caption
    yield markdown_table(table)
    yield where(rows)
