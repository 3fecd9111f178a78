"""Main effects and interactions of a factorial design, as contrasts of its rows.

For a term of factors f_1, ..., f_t at levels l_1, ..., l_t the contrast weighs row i by

    w_i = prod_j (1 if f_j is at l_j, -1 if f_j is at its base level, else 0) / (sum_i |w_i| / 2)

so that with two levels a main effect is the mean at the level less the mean at the base level, and
an interaction of two is half of what one changes in the other's effect. Contrasts are taken seed by
seed. In a fraction, terms with equal weights (up to sign) cannot be told apart: they are *aliases*.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.ablation.designs import Axes, Setting
from experiments.ablation.significance import Difference, Scores, corrected, difference

Term = tuple[tuple[str, str], ...]
"""Factors of an effect, each with its level."""

Weights = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Effect:
    """An effect on one score, or on an exact cost.

    Attributes:
        term: Factors and levels.
        aliases: Terms that the design cannot tell from it.
        on: The score.
        estimate: Its size; of an exact cost without an interval; None where no seed has all rows.
    """

    term: Term
    aliases: tuple[Term, ...]
    on: str
    estimate: Difference | None


def terms(axes: Axes, order: int) -> list[Term]:
    """All effects of up to ``order`` factors, main effects first, one for each non-base level."""
    return [
        term
        for count in range(1, order + 1)
        for factors in itertools.combinations(axes, count)
        for term in itertools.product(
            *([(name, level) for level in axes[name][1:]] for name in factors)
        )
    ]


def term_name(term: Term, axes: Axes) -> str:
    """A term for readers; the level is left out where there are only two."""
    return " x ".join(name if len(axes[name]) == 2 else f"{name} {level}" for name, level in term)


def weights(settings: Sequence[Setting], axes: Axes, term: Term) -> Weights:
    """Weights (rows,) of a term's contrast; they sum to 0 in a balanced design."""
    signs = np.ones(len(settings))
    for name, level in term:
        at = np.array([setting[name] for setting in settings])
        signs *= (at == level).astype(float) - (at == axes[name][0]).astype(float)
    scaled: Weights = signs / (np.abs(signs).sum() / 2)
    return scaled


def aliased(settings: Sequence[Setting], axes: Axes, order: int) -> dict[Term, tuple[Term, ...]]:
    """Terms that the design tells apart, lowest order first, each with its aliases."""
    found: dict[Term, tuple[Term, ...]] = {}
    known: dict[Term, Weights] = {}
    for term in terms(axes, order):
        vector = weights(settings, axes, term)
        twin = next(
            (t for t, w in known.items() if np.allclose(w, vector) or np.allclose(w, -vector)), None
        )
        if twin is None:
            found[term], known[term] = (), vector
        else:
            found[twin] += (term,)
    return found


def effects(
    settings: Sequence[Setting],
    axes: Axes,
    order: int,
    scores: Mapping[str, Sequence[Scores]],
    costs: Mapping[str, Sequence[int]],
) -> list[Effect]:
    """Estimate all effects of a factorial design.

    Args:
        settings: Its rows.
        axes: Its factors.
        order: Most factors in a term.
        scores: Each score of each row by seed. Seeds that some row lacks are left out.
        costs: Each exact cost of each row.

    Returns:
        Effects score by score, Holm-corrected over the effects on one score, then cost by cost.
    """
    found: list[Effect] = []
    told_apart = aliased(settings, axes, order)
    for on, rows in scores.items():
        seeds = sorted(set.intersection(*(set(row) for row in rows)))
        table = np.array([[row[seed] for seed in seeds] for row in rows])
        estimates = [
            difference((weights(settings, axes, term) @ table).tolist()) if seeds else None
            for term in told_apart
        ]
        pairs = zip(told_apart.items(), corrected(estimates), strict=True)
        found += [Effect(term, aliases, on, estimate) for (term, aliases), estimate in pairs]
    for on, values in costs.items():
        for term, aliases in told_apart.items():
            size = float(weights(settings, axes, term) @ np.array(values, np.float64))
            found.append(Effect(term, aliases, on, Difference(size, None, None, 0)))
    return found
