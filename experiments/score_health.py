"""Is every zero-cost score a finite number for every variant, and what does it cost?

Random variants of each space that the proxy can scale are scored, each network once, on a small
batch: a score that is no finite number shows there as well, and a thousand variants take an hour of
a core, not four. The summary has, for each space and score, how many values are not finite, how
many differ, quartiles, and seconds a variant.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from effvit import ConfigError, ModelConfig
from experiments.catalogue import Options
from experiments.measure import append_row, finished_rows
from experiments.score_health_page import PAGE, SUMMARY, finding, page
from search.environment import environment
from search.proxy.scaling import proxy_config
from search.records import write_text
from search.scores.many import Scored, score_all
from search.scores.table import SCORES
from spaces import SPACES, get_space

VARIANTS, QUICK_VARIANTS = 250, 8
"""Of each of the four spaces."""

IMAGES = 4
"""Canvases of a batch: as few as ZiCo takes."""

RAW = "score_health.csv"


def run(options: Options) -> None:
    """Score what is missing, summarise, print."""
    console = Console()
    count = QUICK_VARIANTS if options.quick else VARIANTS
    for space in SPACES:
        if not _is_scaled(space):
            console.print(f"left out: the proxy has no rule that scales space {space}")
            continue
        configs = _variants(space, count, options.seed)
        _score(space, configs, options)
    summary = summarise(finished_rows(options.out / RAW))
    summary.to_csv(options.out / SUMMARY, index=False, float_format="%.5g")
    write_text(options.out / PAGE, page(summary))
    show(summary, console)
    console.print(finding(summary), soft_wrap=True)
    written = ", ".join(str(options.out / name) for name in (RAW, SUMMARY, PAGE))
    console.print(f"written: {written}", soft_wrap=True)


def _is_scaled(space: str) -> bool:
    try:
        proxy_config(get_space(space).unrank(0))
    except ConfigError:
        return False
    return True


def _variants(space: str, count: int, seed: int) -> dict[str, ModelConfig]:
    """So many different variants by their name."""
    source, rng = get_space(space), np.random.default_rng(seed)
    found: dict[str, ModelConfig] = {}
    while len(found) < count:
        config = source.sample(rng)
        found[config.variant_id] = config
    return found


def _score(space: str, configs: dict[str, ModelConfig], options: Options) -> None:
    """Score the variants that the file does not hold, appending each row as it is finished."""
    path = options.out / RAW
    rows = finished_rows(path)
    done = set() if rows.empty else set(rows.loc[rows["seed"] == options.seed, "variant_id"])
    missing = {name: config for name, config in configs.items() if name not in done}
    results = score_all(
        list(missing.values()), options.seed, images=IMAGES, workers=options.workers
    )
    names, here = list(missing), environment()
    for index, scored in track(results, f"scoring {space}", total=len(missing)):
        append_row(path, _row(space, names[index], options.seed, scored) | here)


def _row(space: str, variant_id: str, seed: int, scored: Scored) -> dict[str, object]:
    found = scored.values  # noqa: PD011 - not a data frame's
    return {
        "space": space,
        "variant_id": variant_id,
        "seed": seed,
        "images": IMAGES,
        **{name: found.get(name) for name in SCORES},
        **{f"seconds_{name}": _rounded(scored.seconds.get(name)) for name in SCORES},
        "error": scored.error,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a space and score: count, values that are missing or not finite, spread, seconds."""
    found = []
    for space, part in rows.groupby("space", sort=False):
        for name in SCORES:
            values = part[name].to_numpy(np.float64)
            finite = values[np.isfinite(values)]
            low, median, high = (
                np.quantile(finite, [0.25, 0.5, 0.75]) if len(finite) else [np.nan] * 3
            )
            found.append(
                {
                    "space": space,
                    "score": name,
                    "variants": len(values),
                    "not_finite": len(values) - len(finite),
                    "different": len(np.unique(finite)),
                    "low_quartile": low,
                    "median": median,
                    "high_quartile": high,
                    "seconds_median": part[f"seconds_{name}"].median(),
                    "images": part["images"].iloc[0],
                    "cpu": part["cpu"].iloc[0],
                    "torch": part["torch"].iloc[0],
                    "date": part["date"].iloc[-1],
                }
            )
    summary: pd.DataFrame = pd.DataFrame(found)
    return summary


def show(summary: pd.DataFrame, console: Console) -> None:
    """Print what is not finite, and what each score costs."""
    table = Table(box=None, header_style="bold")
    for name in ("space", "score", "not finite", "distinct", "median", "seconds"):
        justify: Literal["left", "right"] = "left" if name in ("space", "score") else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for row in summary.to_dict("records"):
        table.add_row(
            str(row["space"]),
            str(row["score"]),
            f"{row['not_finite']} of {row['variants']}",
            str(row["different"]),
            f"{row['median']:.4g}",
            f"{row['seconds_median']:.3f}",
        )
    console.print(table)
