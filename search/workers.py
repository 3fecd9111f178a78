"""Training in worker processes: one thread each, so that variants train side by side.

The workers are watched. One that dies (killed by the system for its memory, say) is replaced, and
what it was doing has failed with a reason; the others do not notice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Protocol

import torch

from effvit import ModelConfig
from search.proxy import ProxyFailed, ProxyRecipe, ProxyResult, evaluate, evaluate_test
from search.rungs import train_to_rung

PARENT_CHECK_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class TrainingTask:
    """A variant to train.

    Attributes:
        config: The variant.
        recipe, seed: How to train it.
        final: Whether to measure it on the test digits as well: for finalists only.
        rung: Steps after which to pause; None to train in full.
        memory: File of a training that pauses, see :mod:`search.rungs`.
    """

    config: ModelConfig
    recipe: ProxyRecipe
    seed: int
    final: bool = False
    rung: int | None = None
    memory: Path | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training's scores on validation digits, and on test digits for a finalist.

    Of one that paused at a rung, the scores are those on a part of the validation canvases.
    """

    validation: ProxyResult
    test: ProxyResult | None = None


@dataclasses.dataclass(frozen=True)
class TrainingFailure:
    """Why a training gave no result."""

    reason: str


class WorkerDied(TrainingFailure):
    """The process that trained was killed, or ended by itself: perhaps not the variant's fault."""


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


def run_task(task: TrainingTask) -> Outcome:
    """Train in this process; what goes wrong with the variant is an outcome."""
    try:
        if task.final:
            return Trained(*evaluate_test(task.config, task.recipe, task.seed))
        if task.memory is None:
            return Trained(evaluate(task.config, task.recipe, task.seed))
        return Trained(train_to_rung(task.config, task.recipe, task.seed, task.rung, task.memory))
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


def train_insistently(
    trainer: Trainer, tasks: Sequence[TrainingTask]
) -> Iterator[tuple[int, Outcome]]:
    """As :meth:`Trainer.train`, but what a dying worker took along is trained again, alone."""
    lost: list[int] = []
    for index, outcome in trainer.train(tasks):
        if isinstance(outcome, WorkerDied):
            lost.append(index)
        else:
            yield index, outcome
    for index in lost:
        for _, outcome in trainer.train([tasks[index]]):
            yield index, outcome


@dataclasses.dataclass(frozen=True)
class _Raised:
    """An error of the worker's code, which is none of the variant's."""

    error: Exception


def _serve(
    tasks: connection.Connection, work: Callable[[TrainingTask], Outcome], parent: int
) -> None:
    """What a worker does: answer tasks until there are no more."""
    prepare_worker(parent)
    answer: Outcome | _Raised
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            task = tasks.recv()
            try:
                answer = work(task)
            except Exception as error:  # noqa: BLE001 - passed on to the parent, which raises it
                answer = _Raised(error)
            tasks.send(answer)


class _Worker:
    """A process, the pipe to it, and the index of the task that it works on."""

    def __init__(self, work: Callable[[TrainingTask], Outcome]) -> None:
        # Spawned, not forked: torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.task: int | None = None
        self._process = context.Process(
            target=_serve, args=(theirs, work, os.getpid()), daemon=True
        )
        with _born_deaf():
            self._process.start()
        theirs.close()

    def begin(self, index: int, task: TrainingTask) -> None:
        """Hand a task over. If the worker is dead, reading the answer will tell."""
        self.task = index
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(task)

    def answer(self) -> Outcome:
        """The outcome of its task, once :attr:`pipe` is ready.

        Raises:
            Exception: What the worker's code raised.
        """
        self.task = None
        try:
            answer: Outcome | _Raised = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return WorkerDied(f"its training process died: {_how(self._process.exitcode)}")
        if isinstance(answer, _Raised):
            raise answer.error
        return answer

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


@contextlib.contextmanager
def _born_deaf() -> Iterator[None]:
    """What is started in here inherits that Ctrl-C is blocked; for this process it is put off."""
    resource_tracker.ensure_running()  # starting it later would unblock the signal too early
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(exit_code: int | None) -> str:
    """How a process ended."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    guess = ", most likely out of memory" if -exit_code == signal.SIGKILL else ""
    return f"{name}{guess}"


class TrainingPool:
    """Worker processes that train proxies, started when there is work. Use it as a context.

    Args:
        workers: How many at most.
        work: What they do with a task; importable by its name.
    """

    def __init__(self, workers: int, work: Callable[[TrainingTask], Outcome] | None = None) -> None:
        self._size = workers
        self._work = work or run_task
        self._workers: list[_Worker] = []

    def __enter__(self) -> TrainingPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End at once, whatever the workers are doing."""
        self._discard(self._workers)

    def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
        """Train all tasks, in this order, as workers become free.

        Yields:
            Index of a task and its outcome, as they finish: :class:`WorkerDied` for what a dying
            worker took along.

        Raises:
            Exception: An error of the run itself, which a worker met.
        """
        waiting = deque(enumerate(tasks))
        try:
            self._hand_out(waiting)
            while busy := [worker for worker in self._workers if worker.task is not None]:
                ready = connection.wait([worker.pipe for worker in busy])
                for worker in (worker for worker in busy if worker.pipe in ready):
                    index = worker.task
                    assert index is not None
                    outcome = worker.answer()
                    self._hand_out(waiting)
                    yield index, outcome
        finally:
            self._discard([worker for worker in self._workers if worker.task is not None])

    def _hand_out(self, waiting: deque[tuple[int, TrainingTask]]) -> None:
        """Give all free workers something to do; replace dead ones, start what is missing."""
        self._discard([w for w in self._workers if w.task is None and not w.alive])
        while waiting:
            free = next((worker for worker in self._workers if worker.task is None), None)
            if free is None:
                if len(self._workers) == self._size:
                    return
                free = _Worker(self._work)
                self._workers.append(free)
            free.begin(*waiting.popleft())

    def _discard(self, workers: Sequence[_Worker]) -> None:
        for worker in list(workers):
            worker.kill()
            self._workers.remove(worker)
