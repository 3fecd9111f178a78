"""Does the search's quick proxy rank variants as a several times longer training does?

Random variants of the space and the published ones are trained with the recipe of a search's
trials, and with the same recipe at several times its steps, each with two seeds that the other does
not use. Compared are the means over seeds, and single seeds (what a trial has), beside what costs
nothing: parameters, MACs, widths. How well two seeds of one recipe agree bounds what any comparison
can show. The longer training is itself a proxy: nothing here says how variants rank on ImageNet.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from effvit import list_models, model_config
from effvit.designs.sepvit import SepViTConfig
from experiments.catalogue import Options
from experiments.measure import Task, measure_all
from experiments.ranking import Estimate, FloatArray, estimate, kendall, partial_kendall, spearman
from search.proxy import SEARCH, ProxyRecipe
from spaces import get_space

VARIANTS = 24
"""Random ones, beside the published."""

REFERENCE = dataclasses.replace(
    SEARCH, name="reference", steps=3 * SEARCH.steps, evaluation_canvases=300
)
"""The longer training."""

SEEDS = {SEARCH.name: (0, 1), REFERENCE.name: (2, 3)}
QUICK_VARIANTS, QUICK_STEPS = 4, 4

RAW, SUMMARY = "proxy_ranking.csv", "proxy_ranking_summary.csv"
BASELINES = ("params", "macs", "width", "blocks", "proxy_macs")
Row = dict[str, Any]


def run(options: Options) -> None:
    """Measure, summarise, print."""
    rows = measure_all(tasks(options), options.out / RAW, options.workers)
    summary = summarise(rows)
    summary.to_csv(options.out / SUMMARY, index=False, float_format="%.4f")
    show(summary, Console())
    Console().print(f"written: {options.out / RAW}, {options.out / SUMMARY}", soft_wrap=True)


# --- what is measured ---------------------------------------------------------------------------


def tasks(options: Options) -> list[Task]:
    """All rows wanted: recipe by recipe, seed by seed, variant by variant."""
    variants = list(_variants(QUICK_VARIANTS if options.quick else VARIANTS, options.seed))
    return [
        Task(label, config, _recipe(recipe, options.quick), seed)
        for recipe in (SEARCH, REFERENCE)
        for seed in SEEDS[recipe.name]
        for label, config in variants
    ]


def _recipe(recipe: ProxyRecipe, quick: bool) -> ProxyRecipe:
    if not quick:
        return recipe
    steps = QUICK_STEPS * recipe.steps // SEARCH.steps
    return dataclasses.replace(recipe, steps=steps, evaluation_canvases=20)


def _variants(count: int, seed: int) -> Iterator[tuple[str, SepViTConfig]]:
    """Published variants, then random ones, each network once."""
    space = get_space("sepvit")
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    published = ((name, model_config(name)) for name in list_models() if name.startswith("sepvit"))
    drawn = ((f"random_{number}", space.sample(rng)) for number in itertools.count())
    for name, config in itertools.chain(published, drawn):
        if len(seen) == count + len(SEPVIT_NAMES):
            return
        if config.variant_id not in seen:
            seen.add(config.variant_id)
            yield name, cast("SepViTConfig", config)


SEPVIT_NAMES = tuple(name for name in list_models() if name.startswith("sepvit"))


# --- what it says -------------------------------------------------------------------------------


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Agreement with the reference and between seeds, for all variants and for those that mix.

    Args:
        rows: The raw rows; failed ones (with an ``error``) leave their variant out.

    Returns:
        One row a group, reading and statistic: ``value``, and a 95 % interval where there is one.
    """
    table = _by_variant(rows)
    groups = {"all": table, "mixing windows": table[table["mixes_windows"]]}
    found: list[Row] = []
    for group, members in groups.items():
        for reading, statistic, result in _agreement(members):
            entry = {"group": group, "n": len(members), "reading": reading, "statistic": statistic}
            found.append(entry | dataclasses.asdict(result))
        for reading, statistic, value in _spread(rows, members):
            entry = {"group": group, "n": len(members), "reading": reading, "statistic": statistic}
            found.append(entry | {"value": value})
    summary: pd.DataFrame = pd.DataFrame(found)
    return summary


def _by_variant(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a variant: its description, and a column ``recipe_seed`` for each accuracy."""
    measured = rows.assign(column=rows["recipe"] + "_" + rows["seed"].astype(str))
    scores = measured.pivot_table(index="variant_id", columns="column", values="accuracy")
    widths = rows[["width_1", "width_2", "width_3", "width_4"]]
    described = rows.assign(width=np.exp(np.log(widths).mean(axis=1)))
    columns = ["mixes_windows", *BASELINES]
    described = described.groupby("variant_id")[columns].first()
    table: pd.DataFrame = described.join(scores, how="inner").dropna()
    return table


def _agreement(table: pd.DataFrame) -> Iterator[tuple[str, str, Estimate]]:
    """Tau and rho of each reading with the reference; tau at fixed cost; seeds with each other."""
    search, reference = (_columns(table, name) for name in SEEDS)
    truth = _mean(table, reference)
    score = _mean(table, search)
    readings = {"search, mean of seeds": score}
    readings |= {column.replace("_", ", seed "): _values(table, column) for column in search}
    readings |= {name: _values(table, name) for name in BASELINES}
    for reading, values in readings.items():
        yield reading, "tau to reference", estimate(kendall, values, truth)
        yield reading, "rho to reference", estimate(spearman, values, truth)
    for fixed in ("macs", "params", "width"):
        given = _values(table, fixed)
        result = estimate(partial_kendall, score, truth, given)
        yield "search, mean of seeds", f"tau to reference at fixed {fixed}", result
    for recipe, columns in zip(SEEDS, (search, reference), strict=True):
        pair = [_values(table, column) for column in columns]
        yield f"{recipe}, seed with seed", "tau", estimate(kendall, *pair)
        yield f"{recipe}, seed with seed", "rho", estimate(spearman, *pair)


def _columns(table: pd.DataFrame, recipe: str) -> list[str]:
    return [f"{recipe}_{seed}" for seed in SEEDS[recipe] if f"{recipe}_{seed}" in table]


def _values(table: pd.DataFrame, column: str) -> FloatArray:
    return table[column].to_numpy(np.float64)


def _mean(table: pd.DataFrame, columns: list[str]) -> FloatArray:
    means: FloatArray = table[columns].mean(axis=1).to_numpy(np.float64)
    return means


def _spread(rows: pd.DataFrame, members: pd.DataFrame) -> Iterator[tuple[str, str, float]]:
    """Spread of one seed and over variants, relation found, attempts, seconds, by recipe."""
    chosen = rows[rows["variant_id"].isin(members.index)]
    for recipe, part in chosen.groupby("recipe", sort=False):
        name = str(recipe)
        for score in ("accuracy", "relation", "recognition"):
            grouped = part.groupby("variant_id")[score]
            yield name, f"{score}, mean", float(grouped.mean().mean())
            yield name, f"{score}, sd over variants", float(grouped.mean().std())
            yield name, f"{score}, sd of one seed", float(np.sqrt(grouped.var().mean()))
        yield name, "relation found, share", float(part["relation_found"].astype(bool).mean())
        yield name, "attempts, mean", float(part["attempts"].mean())
        yield name, "seconds, mean", float(part["seconds"].mean())


def show(summary: pd.DataFrame, console: Console) -> None:
    """Print the summary."""
    for group, part in summary.groupby("group", sort=False):
        table = Table(title=f"{group} (n = {part['n'].iloc[0]})", box=None, header_style="bold")
        for name in ("reading", "statistic", "value", "95 % interval"):
            table.add_column(name, justify="left" if name in ("reading", "statistic") else "right")
        for row in part.to_dict("records"):
            low, high = float(row["low"]), float(row["high"])
            interval = "" if np.isnan(low) else f"{low:+.2f} to {high:+.2f}"
            table.add_row(row["reading"], row["statistic"], f"{row['value']:+.3f}", interval)
        console.print(table)


def committed_summary() -> Path:
    """Path of the summary that travels with the package, where reports of a search read it."""
    return Path(str(resources.files("search"))) / "data" / SUMMARY
