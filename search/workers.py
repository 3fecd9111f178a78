"""Training in worker processes: one thread each, so that variants train side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Protocol

import torch

from effvit import ModelConfig
from search.proxy import ProxyFailed, ProxyRecipe, ProxyResult, evaluate, evaluate_test

PARENT_CHECK_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class TrainingTask:
    """A variant to train.

    Attributes:
        config: The variant.
        recipe, seed: How to train it.
        final: Whether to measure it on the test digits as well: for finalists only.
    """

    config: ModelConfig
    recipe: ProxyRecipe
    seed: int
    final: bool = False


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training's scores on validation digits, and on test digits for a finalist."""

    validation: ProxyResult
    test: ProxyResult | None = None


@dataclasses.dataclass(frozen=True)
class TrainingFailure:
    """Why a training gave no result."""

    reason: str


Outcome = Trained | TrainingFailure


def prepare_worker(parent: int) -> None:
    """Run one thread, leave Ctrl-C to the parent, and end with the parent even if it is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _train(task: TrainingTask) -> Outcome:
    try:
        if task.final:
            return Trained(*evaluate_test(task.config, task.recipe, task.seed))
        return Trained(evaluate(task.config, task.recipe, task.seed))
    except ProxyFailed as error:
        return TrainingFailure(str(error))
    except MemoryError:
        return TrainingFailure("out of memory")
    except RuntimeError as error:  # torch's word for all that goes wrong inside a network
        return TrainingFailure(" ".join(str(error).split()))


class Trainer(Protocol):
    """What trains variants."""

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        """Train all tasks; yield the index of each and its outcome, as they finish."""


class TrainingPool:
    """Worker processes that train proxies. Use it as a context."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Spawned, not forked: torch's threads do not survive a fork.
        return ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=prepare_worker,
            initargs=(os.getpid(),),
        )

    def __enter__(self) -> TrainingPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        """End at once, whatever the workers are doing."""
        processes = list(getattr(self._executor, "_processes", None) or {})
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _restart(self) -> None:
        self._stop()
        self._executor = self._start()

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        """Train all tasks.

        A worker that dies (killed by the system for its memory, say) takes the others' work with
        it; what is unfinished then is trained again one by one, and what dies alone has failed.

        Yields:
            Index of a task and its outcome, as they finish.
        """
        done: set[int] = set()
        try:
            for index, outcome in self._train_together(tasks):
                done.add(index)
                yield index, outcome
        except BrokenProcessPool:
            self._restart()
            for index in sorted(set(range(len(tasks))) - done):
                yield index, self._train_alone(tasks[index])

    def _submit(self, task: TrainingTask) -> Future[Outcome]:
        """Hand a task over; a worker that this starts is born deaf to Ctrl-C.

        It inherits that the signal is blocked. For this process it is only put off, not lost.
        """
        resource_tracker.ensure_running()  # starting it later would unblock the signal too early
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._executor.submit(_train, task)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _train_together(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        pending = {self._submit(task): index for index, task in enumerate(tasks)}
        while pending:
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield pending.pop(future), future.result()

    def _train_alone(self, task: TrainingTask) -> Outcome:
        try:
            return self._submit(task).result()
        except BrokenProcessPool:
            self._restart()
            return TrainingFailure("the training process died, most likely out of memory")
