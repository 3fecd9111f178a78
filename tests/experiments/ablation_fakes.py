"""What stands for trainings and latency in the tests of ablations: quick, and counted."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence

from rich.console import Console

from effvit import ModelConfig
from effvit.config import Resolution
from effvit.designs.sepvit import VARIANTS, SepViTConfig
from experiments.ablation.definition import Ablation, switch
from experiments.ablation.designs import Path
from experiments.ablation.engine import Instruments, Plan
from experiments.ablation.store import LatencyRatio
from experiments.ablation.subjects import Subject
from search.latency import LatencyProtocol
from search.proxy import ProxyRecipe, ProxyResult
from search.proxy.routing import ROUTING, RoutingResult
from search.workers import Outcome, Trained, TrainingFailure, TrainingTask

LITE = VARIANTS["sepvit_lite"]
PLAN = Plan(ProxyRecipe(name="brief", steps=3), LatencyProtocol(), seeds=(0, 1, 2))

STEPS = Ablation(
    question="Do components help?",
    base=LITE.replace(windows=((7,),) * 4, window_representation="zero"),
    base_label="DSSA",
    factors=(
        switch("GSA", windows=LITE.windows),
        switch("learned token", window_representation="learned"),
    ),
    design=Path(),
)
"""Three networks that differ."""


class StopHere(Exception):  # noqa: N818 - a test's way out
    """Stands for a kill in the middle of trainings."""


@dataclasses.dataclass
class Fakes:
    """Trains and measures nothing, and notes what it was asked for.

    Attributes:
        trained: Variant and seed of every training.
        routed: The same of those on the second task.
        timed: Subjects whose latency was measured.
        workers: Numbers of workers asked for.
        failing: Seeds whose training fails.
        stop_after: Trainings after which it stops dead.
        noisy: Whether latencies are.
    """

    trained: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    routed: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    timed: list[str] = dataclasses.field(default_factory=list)
    workers: list[int] = dataclasses.field(default_factory=list)
    failing: frozenset[int] = frozenset()
    stop_after: int | None = None
    noisy: bool = False

    @property
    def instruments(self) -> Instruments:
        return Instruments(
            pool=self._pool, routing_pool=lambda _: FakeRouters(self), meter=self._meter
        )

    def _pool(self, workers: int) -> Fakes:
        self.workers.append(workers)
        return self

    def __enter__(self) -> Fakes:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        for index, task in enumerate(tasks):
            if self.stop_after is not None and len(self.trained) >= self.stop_after:
                raise StopHere
            self.trained.append((task.config.variant_id, task.seed))
            if task.seed in self.failing:
                yield index, TrainingFailure("loss is nan at step 1 of 3")
            else:
                yield index, Trained(result(task.config, task.seed))

    def _meter(self, protocol: LatencyProtocol, image_size: Resolution) -> Fakes:
        assert protocol.reference
        assert image_size == (224, 224)
        return self

    def measure(self, subject: Subject) -> LatencyRatio:
        self.timed.append(subject.key)
        costs = subject.costs()
        if costs is None or costs.macs > 10**12:
            raise MemoryError("needs about 9.0 GB, 1.0 GB are available")
        ratio = costs.macs / 10**9
        return LatencyRatio(ratio, 0.99 * ratio, 1.01 * ratio, self.noisy, {"device": "fake"})


@dataclasses.dataclass
class FakeRouters:
    """Trains nothing on the second task, and tells the other fakes."""

    fakes: Fakes

    def __enter__(self) -> FakeRouters:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def train(
        self, tasks: Sequence[TrainingTask]
    ) -> Iterator[tuple[int, RoutingResult | TrainingFailure]]:
        for index, task in enumerate(tasks):
            assert task.how == ROUTING
            self.fakes.routed.append((task.config.variant_id, task.seed))
            if task.seed in self.fakes.failing:
                yield index, TrainingFailure("loss is nan at step 9 of 100")
            else:
                yield index, routing_result(task.config, task.seed)


def routing_result(config: ModelConfig, seed: int) -> RoutingResult:
    """0.7, 0.25 more with a learned token."""
    assert isinstance(config, SepViTConfig)
    learned = config.window_representation == "learned"
    return RoutingResult(
        routing=0.7 + 0.25 * learned + seed / 100,
        relation=0.99,
        relation_before=0.98,
        recognition=0.6,
        recipe="routing",
        steps=100,
        seed=seed,
        attempts=1,
        seconds=30.0,
    )


def accuracy(config: ModelConfig, seed: int) -> float:
    """0.5, 0.1 more with GSA, 0.01 more with a learned token, and noise that rows do not share."""
    assert isinstance(config, SepViTConfig)
    grouped = config.windows == LITE.windows
    learned = config.window_representation == "learned"
    noise = (0.0, 0.02, -0.02)[seed % 3] * learned
    return 0.5 + 0.1 * grouped + 0.01 * learned + noise + seed / 100


def result(config: ModelConfig, seed: int) -> ProxyResult:
    return ProxyResult(
        accuracy=accuracy(config, seed),
        relation=0.9,
        recognition=0.4,
        relation_near=0.9,
        relation_far=0.9,
        relation_found=True,
        recipe="brief",
        steps=3,
        seed=seed,
        attempts=1,
        seconds=60.0,
    )


def quiet() -> Console:
    """A console whose output is read from ``file``."""
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
