"""A supernet in the place of training, and the sample that says how it ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pandas as pd
import pytest

from effvit import ConfigError, ModelConfig, model_cost
from search.proxy import SEARCH
from search.proxy.scores import Scores
from search.supernet.inheriting import Inherited
from search.supernet.supernet import Supernet
from search.supernet.trainer import CHECK, SAMPLE, InheritingTrainer, check
from search.workers import Outcome, Trained, TrainingFailure, TrainingTask, trial_scores
from spaces import get_space
from tests.search.fakes import result_of

SPACE = get_space("mobilevitv2")


class FakeSupernet:
    """Says that accuracy is the number of MACs in units of 10 G; one variant breaks."""

    def __init__(
        self, broken: str = "", relation: float = 0.7, routing: float | None = None
    ) -> None:
        self.broken = broken
        self.relation = relation
        self.routing = routing

    def score(self, config: ModelConfig) -> Inherited:
        if config.variant_id == self.broken:
            raise RuntimeError("a shape\ndoes not fit")
        accuracy = model_cost(config).macs / 1e10
        scores = Scores(accuracy, self.relation, 0.5, 0.8, 0.6)
        return Inherited(
            scores=scores,
            routing=self.routing,
            cross_entropy=1.0,
            trained_share=1.0,
            seconds=0.1,
        )


class FakeTrainer:
    """Trains nothing: accuracy falls with MACs, some variants fail."""

    def __init__(self, failing: int = 0) -> None:
        self.tasks: list[TrainingTask] = []
        self.failing = failing

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        for index, task in enumerate(tasks):
            self.tasks.append(task)
            if index < self.failing:
                yield index, TrainingFailure("loss is nan")
            else:
                result = result_of(task.config, task.recipe, task.seed)
                falling = -model_cost(task.config).macs
                object.__setattr__(result, "accuracy", falling)
                yield index, Trained(result)


def supernet(broken: str = "") -> Supernet:
    return cast("Supernet", FakeSupernet(broken))


def test_inherited_scores_take_the_place_of_a_training() -> None:
    config = SPACE.unrank(5)
    ((index, outcome),) = InheritingTrainer(supernet()).train([TrainingTask(config, SEARCH, 3)])
    assert index == 0
    assert isinstance(outcome, Trained)
    result = outcome.validation
    assert result.accuracy == model_cost(config).macs / 1e10
    assert (result.recipe, result.steps, result.seed) == ("supernet", 0, 3)
    assert result.relation_found
    assert outcome.test is None


def test_what_is_inherited_on_routing_is_a_part_of_the_accuracy() -> None:
    config = SPACE.unrank(5)
    routed = cast("Supernet", FakeSupernet(routing=0.9))
    ((_, outcome),) = InheritingTrainer(routed).train([TrainingTask(config, SEARCH, 3)])
    assert isinstance(outcome, Trained)
    assert outcome.further == {"routing": 0.9}
    expected = (model_cost(config).macs / 1e10 + 0.9) / 2
    assert trial_scores(outcome).accuracy == pytest.approx(expected)


def test_the_sample_is_trained_on_the_tasks_of_the_accuracy(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    check(supernet(), SPACE, trainer, SEARCH, 0, tmp_path, tasks=("cue", "routing"))
    assert {task.tasks for task in trainer.tasks} == {("cue", "routing")}


def test_what_goes_wrong_with_a_variant_is_its_outcome() -> None:
    configs = [SPACE.unrank(0), SPACE.unrank(1)]
    trainer = InheritingTrainer(supernet(broken=configs[0].variant_id))
    first, second = trainer.train([TrainingTask(config, SEARCH, 0) for config in configs])
    assert first == (0, TrainingFailure("a shape does not fit"))
    assert isinstance(second[1], Trained)


def test_the_sample_is_trained_once_and_says_how_the_supernet_ranks(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    found = check(supernet(), SPACE, trainer, SEARCH, 0, tmp_path)
    assert found.kendall_tau == pytest.approx(-1.0)  # the fakes contradict each other
    assert found.variants == len(trainer.tasks) == SAMPLE
    assert len({task.config.variant_id for task in trainer.tasks}) == SAMPLE
    assert check(supernet(), SPACE, trainer, SEARCH, 0, tmp_path) == found
    assert len(trainer.tasks) == SAMPLE


def test_variants_that_cannot_be_trained_are_left_out(tmp_path: Path) -> None:
    found = check(supernet(), SPACE, FakeTrainer(failing=3), SEARCH, 0, tmp_path)
    assert found.variants == SAMPLE - 3
    assert len(pd.read_csv(tmp_path / CHECK)) == SAMPLE - 3


def test_a_supernet_without_the_relation_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    trainer = FakeTrainer()
    blind = cast("Supernet", FakeSupernet(relation=0.52))
    with pytest.raises(
        ConfigError, match=r"best of 10 variants reaches 0\.52, .* --proxy training"
    ):
        check(blind, SPACE, trainer, SEARCH, 0, tmp_path)
    assert trainer.tasks == []
    assert not (tmp_path / CHECK).exists()


def test_the_sample_keeps_the_budget(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    check(supernet(), SPACE, trainer, SEARCH, 0, tmp_path, max_macs=1.5e9)
    assert max(model_cost(task.config).macs for task in trainer.tasks) <= 1.5e9
