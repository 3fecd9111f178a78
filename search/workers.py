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
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection, resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeAlias, TypeVar

import torch

from effvit import ModelConfig
from effvit.config import Resolution
from search.proxy import ProxyFailed, ProxyRecipe, ProxyResult
from search.proxy.evaluation import evaluate_test, train_and_measure
from search.proxy.final import learn_and_test
from search.proxy.network import ProxyNetwork
from search.proxy.routing import RoutingRecipe, RoutingResult, evaluate_routing
from search.proxy.tasks import CUE, LOCALISATION, ROUTING, TEXTURE, combined
from search.proxy.transfer import (
    TransferRecipe,
    TransferResult,
    evaluate_transfer,
    learn,
    learn_all,
)
from search.rungs import read_paused, train_to_rung
from search.train.recipe import Recipe

PARENT_CHECK_SECONDS = 2.0

TrainingRecipe: TypeAlias = ProxyRecipe | Recipe
"""How a search trains: on the embedded task, or on a data set."""


def training_length(recipe: TrainingRecipe) -> int:
    """Steps of a training on the embedded task, epochs of one on a data set."""
    return recipe.steps if isinstance(recipe, ProxyRecipe) else recipe.epochs


RecipeT = TypeVar("RecipeT", ProxyRecipe, RoutingRecipe, TransferRecipe)


@dataclasses.dataclass(frozen=True)
class TrainingTask:
    """A variant to train.

    Attributes:
        config: The variant.
        how, seed: How to train it.
        final: Whether to measure it on the test part as well: for finalists only.
        rung: Steps after which to pause; None to train in full.
        memory: File of a training that pauses, see :mod:`search.rungs`.
        resolution: Height and width of a data set's images in pixels, where they are to be smaller
            than the search's.
        tasks: Those of the embedded ones that accuracy is the mean of, see
            :mod:`search.proxy.tasks`.
    """

    config: ModelConfig
    how: TrainingRecipe | RoutingRecipe | TransferRecipe
    seed: int
    final: bool = False
    rung: int | None = None
    memory: Path | None = None
    resolution: Resolution | None = None
    tasks: tuple[str, ...] = (CUE,)

    @property
    def recipe(self) -> ProxyRecipe:
        """How to train it on the embedded task.

        Raises:
            TypeError: It is to be trained on something else.
        """
        return self.how_of(ProxyRecipe, "the embedded task")

    def how_of(self, kind: type[RecipeT], what: str) -> RecipeT:
        """How to train it, where that is a recipe of a kind.

        Args:
            kind: The kind.
            what: What such recipes are of, for the error.

        Raises:
            TypeError: It is to be trained on something else.
        """
        if not isinstance(self.how, kind):
            raise TypeError(f"recipe {self.how.name} is not of {what}")
        return self.how


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training's scores on validation digits, and for a finalist on test digits.

    Attributes:
        validation, test: Of the cue task. Of a training that paused at a rung, the former is on a
            part of the validation canvases.
        further, further_test: The same of the other tasks that accuracy is the mean of.
        routing: Of a finalist whose accuracy is of the cue task alone: how it does on the second
            task, on validation digits; None where that training diverged.
    """

    validation: ProxyResult
    test: ProxyResult | None = None
    further: Mapping[str, float] = dataclasses.field(default_factory=dict)
    further_test: Mapping[str, float] = dataclasses.field(default_factory=dict)
    routing: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialScores:
    """What a search keeps of a training, whatever it was trained on.

    Attributes:
        accuracy: On the validation part, 0 to 1.
        test_accuracy: On the test part, of a finalist.
        relation, recognition, relation_found: See :class:`search.proxy.ProxyResult`; None where the
            task has no such thing.
        cue_accuracy, routing, localisation, texture: On single tasks of the embedded ones, see
            :mod:`search.proxy.tasks`; None of tasks not trained on. Routing is known of all
            finalists, part of the accuracy or not.
        resolution: Height and width of a data set's images; None for the embedded task.
        steps: Optimiser steps.
        seed: What the training was seeded with.
        attempts: Trainings that it took.
        seconds: Wall time of all of them. Not compared.
    """

    accuracy: float
    test_accuracy: float | None = None
    relation: float | None = None
    recognition: float | None = None
    relation_found: bool | None = None
    cue_accuracy: float | None = None
    routing: float | None = None
    localisation: float | None = None
    texture: float | None = None
    resolution: Resolution | None = None
    steps: int
    seed: int
    attempts: int = 1
    seconds: float = dataclasses.field(compare=False)


def trial_scores(trained: Trained | TrialScores) -> TrialScores:
    """What a search keeps of a training."""
    if isinstance(trained, TrialScores):
        return trained
    result, test = trained.validation, trained.test
    return TrialScores(
        accuracy=combined(result.accuracy, trained.further),
        test_accuracy=None if test is None else combined(test.accuracy, trained.further_test),
        relation=result.relation,
        recognition=result.recognition,
        relation_found=result.relation_found,
        cue_accuracy=result.accuracy,
        routing=trained.further.get(ROUTING, trained.routing),
        localisation=trained.further.get(LOCALISATION),
        texture=trained.further.get(TEXTURE),
        steps=result.steps,
        seed=result.seed,
        attempts=result.attempts,
        seconds=result.seconds,
    )


@dataclasses.dataclass(frozen=True)
class TrainingFailure:
    """Why a training gave no result."""

    reason: str


class WorkerDied(TrainingFailure):
    """The process that trained was killed, or ended by itself: perhaps not the variant's fault."""


SuccessT = TypeVar("SuccessT")
SuccessT_co = TypeVar("SuccessT_co", covariant=True)

Outcome: TypeAlias = Trained | TrainingFailure
"""Of a training on the embedded task."""

AnyOutcome: TypeAlias = Trained | TrialScores | TrainingFailure
"""Of a training on whatever a search trains on."""


def prepare_worker(parent: int) -> None:
    """Run one thread, leave Ctrl-C to the parent, and end with the parent even if it is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def as_outcome(training: Callable[[], SuccessT]) -> SuccessT | TrainingFailure:
    """Train in this process; what goes wrong with the variant is an outcome."""
    try:
        return training()
    except MemoryError:
        return TrainingFailure("out of memory")
    except RuntimeError as error:  # torch's word for all that goes wrong inside a network
        return TrainingFailure(" ".join(str(error).split()))


def run_task(task: TrainingTask) -> Outcome:
    """Train on the embedded task in this process."""
    return as_outcome(lambda: _trained(task))


def _trained(task: TrainingTask) -> Trained:
    further, recipe = task.tasks[1:], TransferRecipe.following(task.recipe)
    if task.final:
        result, test, network = evaluate_test(task.config, task.recipe, task.seed)
        if not further:
            return Trained(result, test, routing=_second_task(network, task))
        scores, on_test = learn_and_test(network, further, recipe, task.seed)
        return Trained(result, test, scores, on_test)
    memory = task.memory
    if memory is not None and task.rung is not None:
        return Trained(train_to_rung(task.config, task.recipe, task.seed, task.rung, memory))
    paused = None if memory is None else read_paused(memory, task.recipe.steps)
    result, network = train_and_measure(task.config, task.recipe, task.seed, 1, paused)
    return Trained(result, further=learn_all(network, further, recipe, task.seed))


def run_routing_task(task: TrainingTask) -> RoutingResult | TrainingFailure:
    """Train on the proxy's second task, after its first one, in this process.

    Raises:
        TypeError: It is to be trained on something else.
    """
    recipe = task.how_of(RoutingRecipe, "the second task")
    return as_outcome(lambda: evaluate_routing(task.config, recipe, task.seed))


def run_transfer_task(task: TrainingTask) -> TransferResult | TrainingFailure:
    """Train on several of the proxy's tasks, after its first one, in this process.

    Raises:
        TypeError: It is to be trained on something else.
    """
    recipe = task.how_of(TransferRecipe, "the further tasks")
    return as_outcome(lambda: evaluate_transfer(task.config, recipe, task.seed, task.tasks))


def _second_task(network: ProxyNetwork, task: TrainingTask) -> float | None:
    """Score of a finalist on the second task; None, and no failure of it all, where it diverges."""
    try:
        return learn(network, ROUTING, TransferRecipe.following(task.recipe), task.seed)
    except ProxyFailed:
        return None


class TrainerOf(Protocol[SuccessT_co]):
    """What trains variants, each to a result of some kind."""

    def train(
        self, tasks: Sequence[TrainingTask]
    ) -> Iterator[tuple[int, SuccessT_co | TrainingFailure]]:
        """Train all tasks; yield the index of each and its outcome, as they finish."""


Trainer: TypeAlias = TrainerOf[Trained]
"""What trains on the embedded task."""

AnyTrainer: TypeAlias = TrainerOf[Trained | TrialScores]
"""What trains on whatever a search trains on."""


def train_insistently(
    trainer: TrainerOf[SuccessT], tasks: Sequence[TrainingTask]
) -> Iterator[tuple[int, SuccessT | TrainingFailure]]:
    """As :meth:`TrainerOf.train`, but what a dying worker took along is trained again, alone."""
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
    tasks: connection.Connection,
    work: Callable[[TrainingTask], SuccessT | TrainingFailure],
    parent: int,
) -> None:
    """What a worker does: answer tasks until there are no more."""
    prepare_worker(parent)
    answer: SuccessT | TrainingFailure | _Raised
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            task = tasks.recv()
            try:
                answer = work(task)
            except Exception as error:  # noqa: BLE001 - passed on to the parent, which raises it
                answer = _Raised(error)
            tasks.send(answer)


class _Worker(Generic[SuccessT]):
    """A process, the pipe to it, and the index of the task that it works on."""

    def __init__(self, work: Callable[[TrainingTask], SuccessT | TrainingFailure]) -> None:
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

    def answer(self) -> SuccessT | TrainingFailure:
        """The outcome of its task, once :attr:`pipe` is ready.

        Raises:
            Exception: What the worker's code raised.
        """
        self.task = None
        try:
            answer: SuccessT | TrainingFailure | _Raised = self.pipe.recv()
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


class WorkerPool(Generic[SuccessT]):
    """Worker processes that train variants, started when there is work. Use it as a context.

    Args:
        workers: How many at most.
        work: What they do with a task; it goes to them pickled.
    """

    def __init__(
        self, workers: int, work: Callable[[TrainingTask], SuccessT | TrainingFailure]
    ) -> None:
        self._size = workers
        self._work = work
        self._workers: list[_Worker[SuccessT]] = []

    def __enter__(self) -> WorkerPool[SuccessT]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End at once, whatever the workers are doing."""
        self._discard(self._workers)

    def train(
        self, tasks: Sequence[TrainingTask]
    ) -> Iterator[tuple[int, SuccessT | TrainingFailure]]:
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

    def _discard(self, workers: Sequence[_Worker[SuccessT]]) -> None:
        for worker in list(workers):
            worker.kill()
            self._workers.remove(worker)


class TrainingPool(WorkerPool[Trained]):
    """Worker processes that train on the embedded task.

    Args:
        workers: How many at most.
        work: What they do with a task; :func:`run_task` if None.
    """

    def __init__(self, workers: int, work: Callable[[TrainingTask], Outcome] | None = None) -> None:
        super().__init__(workers, work or run_task)


class RoutingPool(WorkerPool[RoutingResult]):
    """Worker processes that train on the proxy's second task.

    Args:
        workers: How many at most.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers, run_routing_task)
