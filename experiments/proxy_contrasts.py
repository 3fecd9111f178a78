"""Which single changes of SepViT-Lite does the proxy tell apart, and which not?

Each row changes one thing in SepViT-Lite; all rows share seeds, and with them canvases and the
initial values of common tensors, so differences are paired by seed. A difference whose interval
holds 0 is not resolved at this number of seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import stats

from effvit import model_config
from effvit.designs.sepvit import SepViTConfig
from experiments.catalogue import Options
from experiments.measure import Task, measure_all
from search.proxy import SEARCH

RAW, SUMMARY = "proxy_contrasts.csv", "proxy_contrasts_summary.csv"
SEEDS, QUICK_SEEDS, QUICK_STEPS = 5, 2, 4
SCORES = ("accuracy", "relation", "recognition")
BASE = "sepvit_lite"

CHANGES: dict[str, dict[str, Any]] = {
    "zero token instead of learned": {"window_representation": "zero"},
    "average instead of learned token": {"window_representation": "average"},
    "depthwise instead of learned token": {"window_representation": "depthwise"},
    "no pointwise attention": {"window_representation": "none", "pointwise_attention": "off"},
    "no GSA": {"windows": ((7,), (7,), (7,), (7,))},
    "stage 3 of 2 blocks instead of 6": {"depths": (1, 2, 2, 2)},
    "widths doubled": {"widths": (64, 128, 256, 512), "heads": (2, 4, 8, 16)},
    "MLP ratio 2 instead of 4": {"mlp_ratio": 2.0},
}
"""Fields of the configuration that each row sets."""


def run(options: Options) -> None:
    """Measure, summarise, print."""
    rows = measure_all(tasks(options), options.out / RAW, options.workers)
    summary = summarise(rows)
    summary.to_csv(options.out / SUMMARY, index=False, float_format="%.4f")
    show(summary, Console())
    Console().print(f"written: {options.out / RAW}, {options.out / SUMMARY}", soft_wrap=True)


def tasks(options: Options) -> list[Task]:
    """All rows wanted: seed by seed, the base first."""
    recipe = SEARCH
    if options.quick:
        recipe = dataclasses.replace(SEARCH, steps=QUICK_STEPS, evaluation_canvases=20)
    count = QUICK_SEEDS if options.quick else SEEDS
    return [
        Task(label, config, recipe, seed)
        for seed in range(options.seed, options.seed + count)
        for label, config in _variants()
    ]


def _variants() -> Iterator[tuple[str, SepViTConfig]]:
    base = cast("SepViTConfig", model_config(BASE))
    yield BASE, base
    for label, change in CHANGES.items():
        yield label, base.replace(**change)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Difference of each change to the base, paired by seed, with a 95 % Student interval.

    Failed rows (with an ``error``) leave their seed out of their comparison.
    """
    found = []
    for score in SCORES:
        table = rows.pivot_table(index="seed", columns="label", values=score)
        for label in CHANGES:
            difference = (table[label] - table[BASE]).dropna().to_numpy(np.float64)
            mean = float(difference.mean())
            half = _half_interval(difference)
            found.append(
                {
                    "change": label,
                    "score": score,
                    "seeds": len(difference),
                    "base": float(table[BASE].mean()),
                    "difference": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "resolved": abs(mean) > half,
                }
            )
    summary: pd.DataFrame = pd.DataFrame(found)
    return summary


def _half_interval(sample: np.ndarray[Any, Any]) -> float:
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    return float(stats.t.ppf(0.975, len(sample) - 1) * error)


def show(summary: pd.DataFrame, console: Console) -> None:
    """Print the differences, accuracy first."""
    table = Table(box=None, header_style="bold")
    for name in ("change", "score", "difference", "95 % interval", "resolved"):
        table.add_column(name)
    for row in summary.to_dict("records"):
        interval = f"{row['low']:+.3f} to {row['high']:+.3f}"
        answer = "yes" if row["resolved"] else "no"
        table.add_row(row["change"], row["score"], f"{row['difference']:+.3f}", interval, answer)
    console.print(table)
