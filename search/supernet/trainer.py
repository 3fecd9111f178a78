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
from search.records import write_csv
from search.supernet.sampling import BalancedSampler
from search.supernet.supernet import Agreement, Supernet, agreement
from search.supernet.training import RECIPE
from search.workers import (
    Outcome,
    Trained,
    Trainer,
    TrainingFailure,
    TrainingTask,
    train_insistently,
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
        scores = inherited.scores
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
            )
        )


@contextlib.contextmanager
def supernet_progress(console: Console) -> Iterator[Callable[[int], None]]:
    """Show how far a supernet's training is; gives what to call with the steps done."""
    with RichProgress(
        TextColumn("training the supernet"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=RECIPE.steps, visible=False)
        yield lambda done: bar.update(task, completed=done, visible=True)


def check(
    supernet: Supernet,
    space: Space,
    trainer: Trainer,
    recipe: ProxyRecipe,
    seed: int,
    folder: Path,
    max_macs: float | None = None,
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

    Raises:
        ConfigError: No variant of the sample has found the relation with inherited weights.
        ValueError: Fewer than two variants of the sample could be trained.
    """
    path = folder / CHECK
    if not path.exists():
        drawn = BalancedSampler(space, _SAMPLE_SEED + seed, max_macs=max_macs)
        sample = list(itertools.islice(drawn, SAMPLE))
        _check_relation(supernet, sample)
        write_csv(path, _compared(supernet, sample, trainer, recipe, seed))
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
    supernet: Supernet,
    sample: Sequence[ModelConfig],
    trainer: Trainer,
    recipe: ProxyRecipe,
    seed: int,
) -> list[dict[str, object]]:
    """A row for each variant of a sample that could be trained."""
    tasks = [TrainingTask(config, recipe, seed) for config in sample]
    outcomes = dict(train_insistently(trainer, tasks))
    rows: list[dict[str, object]] = []
    for index, config in enumerate(sample):
        outcome = outcomes[index]
        if isinstance(outcome, Trained):
            inherited = supernet.score(config).scores.accuracy
            row = {"variant_id": config.variant_id, "inherited": inherited}
            rows.append(row | {"alone": outcome.validation.accuracy})
    return rows
