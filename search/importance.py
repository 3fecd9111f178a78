"""Which axes of a space decide of the objectives."""

from __future__ import annotations

import functools
import warnings

import optuna

from search.settings import OBJECTIVES


def importances(study: optuna.Study) -> list[dict[str, str | float]]:
    """How much each axis decides of each objective, among the trials of this run."""
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < 10:
        return []
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    rows: list[dict[str, str | float]] = []
    for index, (objective, direction) in enumerate(OBJECTIVES.items()):
        sign = 1 if direction == "minimize" else -1  # the evaluator asks what makes a target low
        target = functools.partial(_value, index=index, sign=sign)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is experimental, and how it splits trials
            shares = optuna.importance.get_param_importances(
                study, evaluator=evaluator, target=target
            )
        for axis, share in shares.items():
            rows.append({"objective": objective, "axis": axis, "importance": share})
    return rows


def _value(trial: optuna.trial.FrozenTrial, index: int, sign: int) -> float:
    return sign * float(trial.values[index])
