"""Stand-ins for what takes time, and small spaces: all values are functions of the variant."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from effvit import ModelConfig, model_cost
from search.environment import device_name
from search.latency import Latency, LatencyProtocol
from search.proxy import ProxyRecipe, ProxyResult
from search.quantities import Budgets
from search.records import Scale, TrialRecord
from search.settings import RunSettings
from search.workers import Outcome, Trained, TrainingFailure, TrainingTask
from spaces.axes import Value
from spaces.sepvit import SepViTSpace

ROUTING = 0.875
"""Of every finalist, on the second task; of every variant, on tasks beside the cue task."""

SCALE = Scale(macs_low=1e6, macs_high=1e10, latency_low_ms=0.1, latency_high_ms=1e3)

LITE_ONLY: dict[str, tuple[Value, ...]] = {
    "width_1": (32,),
    "width_2": (64,),
    "width_3": (128,),
    "width_4": (256,),
    "depth_1": (1,),
    "depth_2": (2,),
    "depth_3": (6,),
    "depth_4": (2,),
    "window_size": (7,),
    "group_count": (2,),
    "attention_1": ("dssa",),
    "attention_2": ("alternate",),
    "attention_3": ("alternate",),
    "attention_4": ("dssa",),
    "window_representation": ("learned",),
    "mlp_ratio": (4,),
    "head_width": (32,),
}
"""Values whose only network, at 224 pixels, is SepViT-Lite."""


def small_space(**changes: tuple[Value, ...]) -> SepViTSpace:
    """A space around SepViT-Lite that varies the named axes only."""
    return SepViTSpace(224, {**LITE_ONLY, **changes})


def share(config: ModelConfig, salt: str = "") -> float:
    """A number from 0 to 1 that looks random and depends on the variant alone."""
    return zlib.crc32((config.variant_id + salt).encode()) / 0xFFFFFFFF


def latency_of(config: ModelConfig) -> float:
    """Milliseconds that :class:`FakeMeter` measures."""
    return model_cost(config).macs / 1e8 * (1 + 0.2 * share(config, "latency"))


def result_of(config: ModelConfig, recipe: ProxyRecipe, seed: int, salt: str = "") -> ProxyResult:
    """What :class:`FakePool` measures."""
    return ProxyResult(
        accuracy=0.5 + 0.4 * share(config, f"accuracy{seed}{salt}"),
        relation=0.7,
        recognition=0.6,
        relation_near=0.8,
        relation_far=0.6,
        relation_found=True,
        recipe=recipe.name,
        steps=recipe.steps,
        seed=seed,
        attempts=1,
        seconds=2.0,
    )


class MemoryJournal(BaseJournalBackend):
    """A study's journal without a disk: what survives the objects of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from map(json.loads, self.lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += map(json.dumps, logs)


class FakeMeter:
    """Measures latency without running anything."""

    def __init__(self, fails: Callable[[ModelConfig], bool] = lambda config: False) -> None:
        self._fails = fails
        self.measured: list[str] = []

    def measure(self, config: ModelConfig) -> Latency:
        self.measured.append(config.variant_id)
        if self._fails(config):
            raise RuntimeError("[enforce fail] can't allocate memory\nsecond line")
        ms = latency_of(config)
        return Latency(ms, 0.9 * ms, 1.1 * ms, ms / 10, 9, noisy=False)


class Killed(BaseException):
    """What ends a run in the middle, as a signal would."""


class FakePool:
    """Trains without training.

    Args:
        fails: Which variants fail.
        dies_after: After so many trainings in all, the run is cut off.
    """

    def __init__(
        self,
        fails: Callable[[ModelConfig], bool] = lambda config: False,
        dies_after: int | None = None,
    ) -> None:
        self._fails = fails
        self._dies_after = dies_after
        self.trained: list[str] = []

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        for index, task in enumerate(tasks):
            if len(self.trained) == self._dies_after:
                raise Killed
            self.trained.append(task.config.variant_id)
            yield index, self._outcome(task)

    def _outcome(self, task: TrainingTask) -> Outcome:
        if self._fails(task.config):
            return TrainingFailure("loss is nan at step 3 of 10")
        result = result_of(task.config, task.recipe, task.seed)
        if task.rung is not None:
            return Trained(dataclasses.replace(result, steps=task.rung))
        further = dict.fromkeys(task.tasks[1:], ROUTING)
        if not task.final:
            return Trained(result, further=further)
        test = result_of(task.config, task.recipe, task.seed, "test")
        return Trained(result, test, further, further, None if further else ROUTING)


def run_settings(
    *,
    trials: int = 10,
    sampler: str = "random",
    seed: int = 0,
    workers: int = 2,
    budgets: Budgets | None = None,
    fidelities: str = "full",
    tasks: tuple[str, ...] = ("cue",),
) -> RunSettings:
    """Settings of a run that nothing will train for."""
    return RunSettings(
        space="sepvit",
        resolution=(224, 224),
        seed=seed,
        sampler=sampler,
        budgets=budgets or Budgets(),
        device="cpu",
        threads=1,
        latency=LatencyProtocol(),
        search_recipe=ProxyRecipe(name="search", steps=1 if fidelities == "full" else 100),
        final_recipe=ProxyRecipe(name="full", steps=2),
        trials=trials,
        workers=workers,
        finalists=4,
        final_seeds=3,
        fidelities=fidelities,
        tasks=tasks,
        processor=device_name("cpu"),
    )


def complete_record(
    number: int, accuracy: float, macs: int, latency_ms: float, config: ModelConfig
) -> TrialRecord:
    """Record of a trial that was evaluated."""
    return TrialRecord(
        number=number,
        state="complete",
        variant_id=config.variant_id,
        params=model_cost(config).params,
        macs=macs,
        latency_ms=latency_ms,
        latency_low_ms=0.9 * latency_ms,
        latency_high_ms=1.1 * latency_ms,
        accuracy=accuracy,
        config=config.to_dict(),
    )
