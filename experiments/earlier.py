"""Kept results whose trainings were repeated as in an earlier version: how to know, what to say."""

from __future__ import annotations

from typing import Final

import pandas as pd

from search.proxy import SEARCH, ProxyRecipe

RETRY_WEIGHT: Final = "retry_recognition_weight"
"""The field of a recipe, and the column of a table, that tells; earlier tables do not have it."""

NOTE: Final = (
    "Trainings that missed the relation were repeated as in an earlier version, which found it "
    "less often then."
)


def is_earlier(recipe: ProxyRecipe) -> bool:
    """Whether a recipe repeats trainings otherwise than that of a search does today."""
    return recipe.retry_recognition_weight != SEARCH.retry_recognition_weight


def has_earlier(rows: pd.DataFrame) -> bool:
    """Whether that holds of any row of a table."""
    if RETRY_WEIGHT not in rows:
        return True
    weights = rows[RETRY_WEIGHT].fillna(ProxyRecipe.retry_recognition_weight)
    return bool((weights != SEARCH.retry_recognition_weight).any())
