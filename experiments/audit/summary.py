"""How well each proxy ranks variants as longer training does, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd

from experiments.audit.gather import (
    INHERITED,
    REFERENCE,
    SEARCH,
    SURROGATE,
    SURROGATE_JOINT,
    reference_columns,
    score_column,
)
from experiments.ranking import (
    Estimate,
    FloatArray,
    binned_kendall,
    estimate,
    kendall,
    one_and_the_others,
    pair_by_pair,
    partial_kendall,
    spearman,
    top_regret,
)
from search.proxy.evaluation import RELATION_FOUND
from search.scores.table import SCORES

GROUPS = ("all", "mixing windows")
"""All variants, and those whose distant cells can meet before the last stage."""

LEAST = 6
"""Variants of a group below which nothing is said of it."""

BINS = 3
"""Of MACs, with as many variants each."""

TAU, RHO, FIXED, BINNED, REGRET = STATISTICS = (
    "Kendall's tau",
    "Spearman's rho",
    "partial tau at fixed MACs",
    "tau within MACs bins",
    "top-5 regret",
)
CEILING, AMONG_SEEDS = "another training", "seed with seed"
"""Readings: one longer training against the mean of the others, and against another one."""

BASELINES = {"parameters": "params", "MACs": "macs", "proxy MACs": "proxy_macs"}


FOUND = "relation found, share"
"""Of a recipe: after up to three trainings each."""

COLUMNS = ("space", "group", "n", "kind", "reading", "statistic", "value", "low", "high", "seconds")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a proxy says of all variants, and what it takes.

    Attributes:
        kind: Such as ``training`` or ``baseline``.
        says: (n,); more is better.
        seconds: A variant; NaN where nothing is measured.
    """

    kind: str
    says: FloatArray
    seconds: float


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Say how all proxies rank the variants of a table of :func:`experiments.audit.gather.gather`.

    Returns:
        One row a group, reading and statistic: ``value``, a 95 % interval where there is one,
        seconds a variant. Readings and their kinds as in :func:`readings`; of kind ``noise`` are
        what longer trainings say of each other.
    """
    found: list[dict[str, object]] = []
    mixing = table["mixes_windows"].astype(bool)
    for group, members in zip(GROUPS, (table, table[mixing]), strict=True):
        if len(members) < LEAST:
            continue
        for kind, name, statistic, result, seconds in _rows(members):
            found.append(
                {
                    "space": table["space"].iloc[0],
                    "group": group,
                    "n": len(members),
                    "kind": kind,
                    "reading": name,
                    "statistic": statistic,
                    **dataclasses.asdict(result),
                    "seconds": seconds,
                }
            )
    summary: pd.DataFrame = pd.DataFrame(found, columns=list(COLUMNS))
    return summary


def find(rows: pd.DataFrame, statistic: str) -> Estimate | None:
    """Look a statistic up among the rows of a reading; None if it is not there, or not defined."""
    chosen = rows[(rows["statistic"] == statistic) & rows["value"].notna()]
    if chosen.empty:
        return None
    value, low, high = (float(chosen[name].iloc[0]) for name in ("value", "low", "high"))
    return Estimate(value, low, high)


def _rows(members: pd.DataFrame) -> Iterator[tuple[str, str, str, Estimate, float]]:
    truth = _mean(members, reference_columns(members))
    macs = members["macs"].to_numpy(np.float64)
    for name, reading in readings(members).items():
        known = np.isfinite(reading.says)
        if known.sum() < LEAST:
            continue
        for statistic, result in agreement(reading.says[known], truth[known], macs[known]):
            yield reading.kind, name, statistic, result, reading.seconds
    for name, result in noise(members):
        yield "noise", name, TAU, result, _median(members, f"{REFERENCE}_seconds")
    for recipe, statistic, value in spread(members):
        yield "spread", recipe, statistic, Estimate(value, np.nan, np.nan), np.nan


def readings(members: pd.DataFrame) -> dict[str, Reading]:
    """What each proxy of a table says, by its name."""
    found = {}
    for column in _seeds_of(members, f"{SEARCH}_accuracy_"):
        seed = column.rsplit("_", 1)[1]
        seconds = _median(members, f"{SEARCH}_seconds")
        found[f"short training, seed {seed}"] = Reading(
            "training", _values(members, column), seconds
        )
    for column in INHERITED:
        name = f"supernet, {column.removeprefix('inherited_').replace('_', ' ')}"
        if column in members:
            found[name] = Reading(
                "supernet", _values(members, column), _median(members, "inherited_seconds")
            )
    for name, column in (
        ("surrogate of the encoding", SURROGATE),
        ("surrogate of encoding, scores and supernet", SURROGATE_JOINT),
    ):
        if column in members:
            found[name] = Reading("surrogate", _values(members, column), np.nan)
    for name in SCORES:
        if score_column(name) in members:
            values = _values(members, score_column(name))
            found[name] = Reading("score", values, _median(members, f"seconds_{name}"))
    for name, column in BASELINES.items():
        found[name] = Reading("baseline", _values(members, column), np.nan)
    return found


def agreement(
    values: FloatArray, truth: FloatArray, macs: FloatArray
) -> Iterator[tuple[str, Estimate]]:
    """All statistics of a reading (n,) with accuracies of longer training (n,)."""
    yield TAU, estimate(kendall, values, truth)
    yield RHO, estimate(spearman, values, truth)
    yield FIXED, estimate(partial_kendall, values, truth, macs)
    edges = np.quantile(macs, np.arange(1, BINS) / BINS)
    yield BINNED, estimate(binned_kendall, values, truth, np.digitize(macs, edges).astype(float))
    yield REGRET, estimate(top_regret, values, truth)


def noise(members: pd.DataFrame) -> Iterator[tuple[str, Estimate]]:
    """What longer trainings with several seeds say of each other; nothing for a single seed."""
    seeds = [_values(members, column) for column in reference_columns(members)]
    if len(seeds) > 1:
        yield CEILING, estimate(one_and_the_others, *seeds)
        yield AMONG_SEEDS, estimate(pair_by_pair, *seeds)


def spread(members: pd.DataFrame) -> Iterator[tuple[str, str, float]]:
    """Means and deviations of the readings of each recipe, and how often the relation is found."""
    for recipe in (SEARCH, REFERENCE):
        if f"{recipe}_at_once" not in members:
            continue
        yield recipe, "relation found at once, share", float(members[f"{recipe}_at_once"].mean())
        relations = members[_seeds_of(members, f"{recipe}_relation_")].to_numpy(np.float64)
        yield recipe, FOUND, float((relations >= RELATION_FOUND).mean())
        for reading in ("accuracy", "relation", "recognition", "relation_near", "relation_far"):
            columns = _seeds_of(members, f"{recipe}_{reading}_")
            values = members[columns]
            yield recipe, f"{reading}, mean", float(values.mean(axis=1).mean())
            yield recipe, f"{reading}, sd over variants", float(values.mean(axis=1).std())
            if len(columns) > 1:
                one = float(np.sqrt(values.var(axis=1).mean()))
                yield recipe, f"{reading}, sd of one seed", one


def _seeds_of(members: pd.DataFrame, prefix: str) -> list[str]:
    names = [str(name) for name in members if str(name).startswith(prefix)]
    return [name for name in names if name.removeprefix(prefix).isdigit()]


def _values(members: pd.DataFrame, column: str) -> FloatArray:
    return members[column].to_numpy(np.float64)


def _mean(members: pd.DataFrame, columns: list[str]) -> FloatArray:
    means: FloatArray = members[columns].mean(axis=1).to_numpy(np.float64)
    return means


def _median(members: pd.DataFrame, column: str) -> float:
    return float(members[column].median()) if column in members else float("nan")
