"""Kept results whose trainings were those of an earlier version: how one knows, and what to say."""

from __future__ import annotations

from typing import Final

import pandas as pd

from search.proxy import SEARCH, ProxyRecipe

FIRST_WEIGHT: Final = "first_recognition_weight"
"""The field of a recipe, and the column of a table, that tells; earlier tables do not have it."""

NOTE: Final = (
    "Trainings were those of an earlier version, in which recognition had its whole weight from "
    "the first step and the relation was missed more often."
)


def is_earlier(recipe: ProxyRecipe) -> bool:
    """Whether a recipe begins otherwise than that of a search does today."""
    return recipe.first_recognition_weight != SEARCH.first_recognition_weight


def has_earlier(rows: pd.DataFrame) -> bool:
    """Whether any row of a table was trained so."""
    if FIRST_WEIGHT not in rows:
        return True
    weights = rows[FIRST_WEIGHT].fillna(ProxyRecipe.first_recognition_weight)
    return bool((weights != SEARCH.first_recognition_weight).any())
