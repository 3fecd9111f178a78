"""The finalists: the front, trained longer with several seeds, and tested once."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import optuna
from scipy import stats

from search.front import hypervolume, non_dominated
from search.proxy.tasks import CUE
from search.records import Front, Scale, TrialRecord
from search.workers import (
    AnyOutcome,
    AnyTrainer,
    TrainingFailure,
    TrainingRecipe,
    TrainingTask,
    train_insistently,
    training_length,
    trial_scores,
)

CONFIDENCE = 0.95


def select_finalists(records: Sequence[TrialRecord], scale: Scale, count: int) -> list[TrialRecord]:
    """Choose the part of the front that keeps most of its hypervolume, one trial after another.

    Args:
        records: All trials.
        scale: How objectives become losses.
        count: How many to choose at most.

    Returns:
        The chosen trials, those that add most first, then the published models among the trials:
        they are compared with the front, so they are trained as long. If the front has fewer than
        ``count``, all of it; none for a ``count`` of 0.
    """
    complete = [record for record in records if record.values is not None]
    losses = {r.number: scale.losses(r.values) for r in complete if r.values is not None}
    mask = non_dominated(list(losses.values()))
    left = [record for record, keep in zip(complete, mask, strict=True) if keep]
    chosen: list[TrialRecord] = []
    while left and len(chosen) < count:
        taken = [losses[record.number] for record in chosen]
        gains = [hypervolume([*taken, losses[r.number]], Front.REFERENCE) for r in left]
        chosen.append(left.pop(max(range(len(left)), key=gains.__getitem__)))
    published = [record for record in complete if record.published and record not in chosen]
    return chosen + published if count else []


@dataclasses.dataclass(frozen=True)
class Score:
    """One training of a finalist: validation scores, and accuracy on the test part.

    Of single tasks, and of parts of them, scores are None where nothing was trained on them.
    """

    accuracy: float
    relation: float | None
    recognition: float | None
    relation_found: bool | None
    test_accuracy: float
    routing: float | None = None
    cue_accuracy: float | None = None
    localisation: float | None = None
    texture: float | None = None


TASK_SCORES = ("cue_accuracy", "routing", "localisation", "texture")
"""Of single tasks."""


class FinalRound:
    """Trains the finalists; what has been trained is kept in the study, so it resumes."""

    def __init__(
        self,
        study: optuna.Study,
        recipe: TrainingRecipe,
        seeds: Sequence[int],
        test_part: str | None = None,
        tasks: tuple[str, ...] = (CUE,),
    ) -> None:
        """Prepare the round.

        Args:
            study: The run's study.
            recipe: How finalists are trained.
            seeds: Each of them is trained with each of these.
            test_part: Name of the data set's test part, where it is not the usual one. It may
                change when a run is resumed, since trials do not depend on it.
            tasks: Those of the embedded ones that accuracy is the mean of.
        """
        self._study = study
        self._recipe = recipe
        self._seeds = tuple(seeds)
        self._test_part = test_part
        self._tasks = tasks

    def missing(self, finalists: Sequence[TrialRecord]) -> list[tuple[TrialRecord, int]]:
        """Pairs of finalist and seed that are not trained yet, the longest first."""
        known = self._study.user_attrs
        pairs = [
            (record, seed)
            for record in finalists
            for seed in self._seeds
            if self._key(record.number, seed) not in known
        ]
        return sorted(pairs, key=lambda pair: -(pair[0].macs or 0))

    def run(
        self,
        finalists: Sequence[TrialRecord],
        pool: AnyTrainer,
        after_training: Callable[[], None],
    ) -> None:
        """Train what is missing. A training that fails is left out of the mean."""
        pairs = self.missing(finalists)
        tasks = [
            TrainingTask(record.model_config, self._recipe, seed, final=True, tasks=self._tasks)
            for record, seed in pairs
        ]
        for index, outcome in train_insistently(pool, tasks):
            record, seed = pairs[index]
            key = self._key(record.number, seed)
            self._study.set_user_attr(key, _as_attribute(outcome))
            after_training()

    def scores(self, record: TrialRecord) -> list[Score]:
        """Scores of a finalist, seed by seed."""
        return [Score(**values) for values in self._kept([record]) if "accuracy" in values]

    def failures(self, finalists: Sequence[TrialRecord]) -> Counter[str]:
        """Reasons of trainings that gave no result, and how often each occurred."""
        return Counter(v["reason"] for v in self._kept(finalists) if "reason" in v)

    def _kept(self, finalists: Sequence[TrialRecord]) -> Iterator[dict[str, Any]]:
        """What the study holds of each training, seed by seed; empty where it has not ended."""
        for record in finalists:
            for seed in self._seeds:
                yield self._study.user_attrs.get(self._key(record.number, seed), {})

    def _key(self, number: int, seed: int) -> str:
        """Attribute of the study that holds what a training reached."""
        key = f"final:{number}:{seed}:{self._recipe.name}:{training_length(self._recipe)}"
        return key if self._test_part is None else f"{key}:{self._test_part}"

    def rows(self, finalists: Sequence[TrialRecord], scale: Scale) -> list[dict[str, Any]]:
        """Rows of ``pareto.csv``, cheapest first; ``on_front`` by the means over seeds."""
        scored = [(record, scores) for record in finalists if (scores := self.scores(record))]
        means = [
            scale.losses((statistics.fmean(s.accuracy for s in scores), *record.values[1:]))
            for record, scores in scored
            if record.values is not None
        ]
        front = non_dominated(means)
        rows = [
            _row(record, scores, bool(keep))
            for (record, scores), keep in zip(scored, front, strict=True)
        ]
        return sorted(rows, key=lambda row: int(row["macs"]))


def _as_attribute(outcome: AnyOutcome) -> dict[str, Any]:
    if isinstance(outcome, TrainingFailure):
        return {"reason": outcome.reason}
    result = trial_scores(outcome)
    assert result.test_accuracy is not None
    kept = {field.name: getattr(result, field.name) for field in dataclasses.fields(Score)}
    return dataclasses.asdict(Score(**kept))


def _row(record: TrialRecord, scores: Sequence[Score], on_front: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(record, name)
        for name in (
            "number",
            "published",
            "variant_id",
            "params",
            "macs",
            "latency_ms",
            "latency_low_ms",
            "latency_high_ms",
            "latency_source",
            "latency_predicted_ms",
        )
    }
    accuracies = [score.accuracy for score in scores]
    row["accuracy"], row["accuracy_sd"] = _mean_sd(accuracies)
    row["accuracy_low"], row["accuracy_high"] = share_interval(accuracies)
    row["relation"], row["relation_sd"] = _mean_sd(_known(score.relation for score in scores))
    row["recognition"], row["recognition_sd"] = _mean_sd(
        _known(score.recognition for score in scores)
    )
    for task in TASK_SCORES:
        row[task], row[f"{task}_sd"] = _mean_sd(_known(getattr(score, task) for score in scores))
    row["seeds"] = len(scores)
    found = _known(score.relation_found for score in scores)
    row["found"] = sum(found) if found else None
    row["test_accuracy"], row["test_accuracy_sd"] = _mean_sd(
        [score.test_accuracy for score in scores]
    )
    row["on_front"] = on_front
    row["config"] = json.dumps(record.config)
    return row


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation; None where there are too few values."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return (statistics.fmean(values) if values else None), spread


def mean_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval of the mean by Student's t; None with a single value."""
    if len(values) < 2:
        return None, None
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * sd / len(values) ** 0.5
    return mean - half, mean + half


def share_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """:func:`mean_interval` of shares, cut to what a share can be: 0 to 1."""
    low, high = mean_interval(values)
    return (low if low is None else max(0.0, low)), (high if high is None else min(1.0, high))


def pareto_entries(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Entries of ``pareto.json``: the rows on the front, each with its configuration."""
    for row in rows:
        if row["on_front"]:
            yield {**row, "config": json.loads(row["config"])}
