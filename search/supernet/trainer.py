"""A supernet in the place of training: what a search asks for, and how far to trust it."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from effvit import ConfigError, ModelConfig
from search.proxy import ProxyRecipe, ProxyResult
from search.proxy.evaluation import RELATION_FOUND
from search.proxy.tasks import CUE, ROUTING
from search.records import write_csv
from search.supernet.sampling import BalancedSampler
from search.supernet.supernet import Agreement, Supernet, agreement
from search.workers import (
    Outcome,
    Trained,
    Trainer,
    TrainingFailure,
    TrainingTask,
    train_insistently,
    trial_scores,
)
from spaces.space import Space

SAMPLE = 10
"""Variants that are trained on their own to see how the supernet ranks."""

CHECK = "supernet_check.csv"
"""What they and their inherited weights reach, in the run's folder."""

_SAMPLE_SEED = 101  # apart from the draws that train the supernet


class InheritingTrainer:
    """Measures variants with a supernet's weights instead of training them."""

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        """Measure all variants, in order; see :class:`search.workers.Trainer`."""
        for index, task in enumerate(tasks):
            yield index, self._measure(task)

    def _measure(self, task: TrainingTask) -> Outcome:
        try:
            inherited = self._supernet.score(task.config)
        except MemoryError:
            return TrainingFailure("out of memory")
        except RuntimeError as error:  # torch's word for all that goes wrong inside a network
            return TrainingFailure(" ".join(str(error).split()))
        scores, routing = inherited.scores, inherited.routing
        return Trained(
            ProxyResult(
                accuracy=scores.accuracy,
                relation=scores.relation,
                recognition=scores.recognition,
                relation_near=scores.relation_near,
                relation_far=scores.relation_far,
                relation_found=scores.relation >= RELATION_FOUND,
                recipe="supernet",
                steps=0,
                seed=task.seed,
                attempts=1,
                seconds=inherited.seconds,
            ),
            further={} if routing is None else {ROUTING: routing},
        )


@contextlib.contextmanager
def supernet_progress(console: Console, steps: int) -> Iterator[Callable[[int], None]]:
    """Show how far a training of so many steps is; gives what to call with those done."""
    with RichProgress(
        TextColumn("training the supernet"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=steps, visible=False)
        yield lambda done: bar.update(task, completed=done, visible=True)


def check(
    supernet: Supernet,
    space: Space,
    trainer: Trainer,
    recipe: ProxyRecipe,
    seed: int,
    folder: Path,
    max_macs: float | None = None,
    tasks: tuple[str, ...] = (CUE,),
) -> Agreement:
    """Train a sample of variants on their own, once, and compare with what they inherit.

    Args:
        supernet: The supernet.
        space: Its space.
        trainer: What trains the sample.
        recipe: How.
        seed: Of the sample and of the trainings.
        folder: Where :data:`CHECK` is written, or read if it is there.
        max_macs: Budget of the sample, if any.
        tasks: What accuracy is the mean of; the supernet learned them.

    Raises:
        ConfigError: No variant of the sample has found the relation with inherited weights.
        ValueError: Fewer than two variants of the sample could be trained.
    """
    path = folder / CHECK
    if not path.exists():
        drawn = BalancedSampler(space, _SAMPLE_SEED + seed, max_macs=max_macs)
        sample = list(itertools.islice(drawn, SAMPLE))
        _check_relation(supernet, sample)
        trainings = [TrainingTask(config, recipe, seed, tasks=tasks) for config in sample]
        write_csv(path, _compared(InheritingTrainer(supernet), trainer, trainings))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    inherited, alone = ([float(row[name]) for row in rows] for name in ("inherited", "alone"))
    return agreement(inherited, alone)


def _check_relation(supernet: Supernet, sample: Sequence[ModelConfig]) -> None:
    best = max(supernet.score(config).scores.relation for config in sample)
    if best < RELATION_FOUND:
        raise ConfigError(
            f"the supernet has not learned the relation: the best of {len(sample)} variants "
            f"reaches {best:.2f}, found is {RELATION_FOUND} or more; use --proxy training"
        )


def _compared(
    inheriting: Trainer, trainer: Trainer, trainings: Sequence[TrainingTask]
) -> list[dict[str, object]]:
    """A row for each variant that could be trained: what it inherits, and reaches alone."""
    inherited, alone = (dict(train_insistently(each, trainings)) for each in (inheriting, trainer))
    rows: list[dict[str, object]] = []
    for index, training in enumerate(trainings):
        both = inherited[index], alone[index]
        accuracies = [trial_scores(each).accuracy for each in both if isinstance(each, Trained)]
        if len(accuracies) == len(both):
            names = ("inherited", "alone")
            row = dict(zip(names, accuracies, strict=True))
            rows.append({"variant_id": training.config.variant_id, **row})
    return rows
