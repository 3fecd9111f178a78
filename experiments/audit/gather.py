"""One table of an audit: a row a variant, with what training and every proxy say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from effvit import ModelConfig
from experiments.earlier import RETRY_WEIGHT
from experiments.measure import READINGS
from search.scores.table import SCORES
from search.surrogate import LEAST, Encoder, out_of_fold
from spaces.space import Space

KEY = "variant_id"
REFERENCE, SEARCH = "reference", "search"
"""Recipes of the trainings."""

SURROGATE, SURROGATE_JOINT = "surrogate", "surrogate_joint"
"""Columns of its guesses: of the encoding alone, and with what supernet and scores say."""

DESCRIPTION = (
    "label",
    "params",
    "macs",
    "proxy_params",
    "proxy_macs",
    "mixes_windows",
    "config",
)
PLACE = ("cpu", "torch", "threads", "date")


def gather(
    space: Space,
    variants: Mapping[str, ModelConfig],
    trainings: pd.DataFrame,
    scores: pd.DataFrame,
    inherited: pd.DataFrame,
) -> pd.DataFrame:
    """Join what was measured of the variants that have at least one longer training.

    Args:
        space: Where they come from.
        variants: By label, in order.
        trainings: Rows of :func:`experiments.measure.measure_all`.
        scores: Rows with the zero-cost scores; may be empty.
        inherited: Rows with what the supernet says; may be empty.

    Returns:
        A row a variant: its description; ``RECIPE_READING_SEED`` for each training, the share of
        trainings of each recipe that found the relation at once, and their seconds; scores, the
        supernet's readings and the surrogate's guesses, each made without that variant.
    """
    good = trainings[trainings["accuracy"].notna()]
    known = set(good.loc[good["recipe"] == REFERENCE, KEY])
    order = [config.variant_id for config in variants.values() if config.variant_id in known]
    table = good.groupby(KEY)[list(DESCRIPTION)].first().loc[order]
    for recipe, part in good.groupby("recipe", sort=False):
        table = table.join(_of_recipe(str(recipe), part))
    for rows in (scores, inherited):
        if not rows.empty:
            table = table.join(rows.set_index(KEY))
    table.insert(0, "space", space.name)
    table = table.join(_guesses(space, table))
    for name in PLACE:
        table[name] = good[name].iloc[-1]
    whole: pd.DataFrame = table.reset_index()
    return whole


def _of_recipe(recipe: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Columns of the trainings with a recipe."""
    found = rows["relation_found"].astype(bool) & (rows["attempts"] == 1)
    grouped = rows.assign(at_once=found).groupby(KEY)
    columns = {
        f"{recipe}_at_once": grouped["at_once"].mean(),
        f"{recipe}_seconds": grouped["seconds"].mean(),
        f"{recipe}_steps": rows["recipe_settings"]
        .map(lambda text: json.loads(text)["steps"])
        .max(),
        f"{recipe}_{RETRY_WEIGHT}": rows["recipe_settings"]
        .map(lambda text: json.loads(text)[RETRY_WEIGHT])
        .max(),
    }
    for reading in READINGS:
        wide = rows.pivot_table(index=KEY, columns="seed", values=reading)
        columns |= {f"{recipe}_{reading}_{seed}": wide[seed] for seed in wide}
    joined: pd.DataFrame = pd.DataFrame(columns)
    return joined


def _guesses(space: Space, table: pd.DataFrame) -> pd.DataFrame:
    """What the surrogate guesses of each variant, told of the others only."""
    truth = table[reference_columns(table)].mean(axis=1).to_numpy(np.float64)
    guesses: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    if len(truth) >= LEAST:
        configs = [_config(space, text) for text in table["config"]]
        rows = Encoder(space).rows(configs)
        guesses[SURROGATE] = out_of_fold(rows, truth)[0]
        cheap = [name for name in (*_score_columns(), *INHERITED) if name in table]
        if cheap:
            ranks = table[cheap].rank(pct=True).fillna(0.5).to_numpy(np.float64)
            guesses[SURROGATE_JOINT] = out_of_fold(np.hstack([rows, ranks]), truth)[0]
    found: pd.DataFrame = pd.DataFrame(guesses, index=table.index)
    return found


def _config(space: Space, text: str) -> ModelConfig:
    return type(space.unrank(0)).from_dict(json.loads(text))


INHERITED = ("inherited_accuracy", "inherited_log_likelihood")
"""What the supernet says; more is better."""


def _score_columns() -> list[str]:
    return [score_column(name) for name in SCORES]


def score_column(name: str) -> str:
    """Column of a zero-cost score."""
    return f"score_{name}"


def reference_columns(table: pd.DataFrame, reading: str = "accuracy") -> list[str]:
    """Columns of a reading of the longer trainings, of the seeds that all variants have."""
    prefix = f"{REFERENCE}_{reading}_"
    columns = [name for name in table if str(name).startswith(prefix)]
    seeds = [name for name in columns if str(name).removeprefix(prefix).isdigit()]
    return [str(name) for name in seeds if table[name].notna().all()]
