"""What can be learned from scores, costs and encodings, evaluated on architectures left out.

Ridge regression of the accuracies' ranks on standardised features, its penalty chosen by
leave-one-out errors: ranks are what counts, and a few bad networks do not decide.
Nested cross-validation: predictions of an architecture come from a model that was fitted, and whose
groups of features were chosen, without it. Groups are chosen by an inner cross-validation over the
other architectures. Several shuffles of the outer folds are averaged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.ranking import FloatArray, kendall
from experiments.vit_bench.agreement import ranks

OUTER_FOLDS, INNER_FOLDS, SHUFFLES = 10, 5, 3
PENALTIES = tuple(10.0**power for power in (-1, 0, 1, 2, 3))


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of architectures.

    Attributes:
        columns: (n, k) values.
        groups: Column numbers by the name of their group.
    """

    columns: FloatArray
    groups: Mapping[str, tuple[int, ...]]

    @classmethod
    def join(cls, groups: Mapping[str, FloatArray]) -> Features:
        """Put groups (n, k_i) side by side."""
        ends = np.cumsum([group.shape[1] for group in groups.values()])
        spans = zip(groups.items(), ends, strict=True)
        places = {name: tuple(range(end - group.shape[1], end)) for (name, group), end in spans}
        return cls(np.column_stack(list(groups.values())), places)

    def of(self, names: Sequence[str]) -> FloatArray:
        """Columns of several groups, (n, k)."""
        chosen = [column for name in names for column in self.groups[name]]
        found: FloatArray = self.columns[:, chosen]
        return found


Choices = Sequence[tuple[str, ...]]
"""Sets of groups of features."""


def model() -> Pipeline:
    """Ridge regression on standardised features; its penalty is chosen as it is fitted."""
    return make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))


def best_groups(
    features: Features, truth: FloatArray, rows: Sequence[int], choices: Choices, seed: int
) -> tuple[str, ...]:
    """Choose groups of features by Kendall's tau of predictions of what is left out.

    Args:
        features: Of all architectures.
        truth: (n,) accuracies.
        rows: Architectures that may be looked at.
        choices: What to choose from; of equal ones the first.
        seed: Of the folds.
    """
    if len(choices) == 1:
        return choices[0]
    folds = KFold(INNER_FOLDS, shuffle=True, random_state=seed)
    taus = []
    for names in choices:
        wanted = _ranked(truth[rows])
        predicted = cross_val_predict(model(), features.of(names)[rows], wanted, cv=folds)
        taus.append(float(np.nan_to_num(kendall(predicted, truth[rows]))))
    return choices[int(np.argmax(taus))]


def left_out(
    features: Features, truth: FloatArray, choices: Choices, seed: int
) -> tuple[FloatArray, list[tuple[str, ...]]]:
    """Predict each architecture by models that have not seen it.

    Args:
        features: Of all architectures.
        truth: (n,) accuracies.
        choices: Sets of groups to choose from.
        seed: Of all folds.

    Returns:
        (n,) mean predicted ranks over the shuffles, and the sets that the outer folds chose.
    """
    total = np.zeros(len(truth))
    chosen = []
    for shuffle in range(SHUFFLES):
        folds = KFold(OUTER_FOLDS, shuffle=True, random_state=seed + shuffle)
        for known, unknown in folds.split(features.columns):
            names = best_groups(features, truth, known, choices, seed + shuffle)
            columns = features.of(names)
            fitted = model().fit(columns[known], _ranked(truth[known]))
            total[unknown] += fitted.predict(columns[unknown])
            chosen.append(names)
    return total / SHUFFLES, chosen


def transferred(
    known: Features, truth: FloatArray, unknown: Features, choices: Choices, seed: int
) -> FloatArray:
    """Learn on one slice, with (n,) accuracies, and predict another of the same features.

    Nothing of the other slice's accuracies is read, for the choice of groups neither.
    """
    names = best_groups(known, truth, range(len(truth)), choices, seed)
    fitted = model().fit(known.of(names), _ranked(truth))
    predicted: FloatArray = fitted.predict(unknown.of(names))
    return predicted


def _ranked(truth: FloatArray) -> FloatArray:
    """Ranks of the accuracies (n,) that a model may see."""
    found: FloatArray = ranks(truth[:, None])[:, 0]
    return found
