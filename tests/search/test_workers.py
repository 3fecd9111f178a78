"""Training in worker processes: outcomes, and what remains when processes are killed."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from effvit import ConfigError, ModelConfig
from effvit.designs.sepvit import SepViTConfig
from search import workers
from search.proxy import ProxyFailed, ProxyRecipe, evaluate
from search.proxy.evaluation import evaluate_test, train_and_measure
from search.proxy.transfer import TransferRecipe, learn
from search.workers import (
    Outcome,
    Trained,
    TrainingFailure,
    TrainingPool,
    TrainingTask,
    WorkerDied,
    train_insistently,
    trial_scores,
)
from tests.search.fakes import result_of

ROOT = Path(__file__).parents[2]
TINY = SepViTConfig(widths=(32, 64, 128, 256), depths=(1, 1, 1, 1), heads=(1, 2, 4, 8))
BRIEF = ProxyRecipe(name="brief", steps=2, batch=2, evaluation_canvases=4)
DIVERGES = ProxyRecipe(name="diverges", steps=4, batch=2, learning_rate=1e30)
ENDLESS = ProxyRecipe(name="endless", steps=10**6, batch=2, distinct_canvases=8)
PATIENCE = 120.0
"""Seconds after which a test gives up; on a quiet machine things take a few."""


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def workers_of(process: int) -> list[psutil.Process]:
    """Processes that a pool in a process has started, its resource tracker not among them."""
    found = []
    for child in psutil.Process(process).children():
        with contextlib.suppress(psutil.Error):
            if any("spawn_main" in part for part in child.cmdline()):
                found.append(child)
    return found


def busy_seconds(process: psutil.Process) -> float:
    return float(process.cpu_times().user)


# --- one task -----------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    diverging = workers.run_task(TrainingTask(TINY, DIVERGES, seed=0))
    assert isinstance(diverging, TrainingFailure)
    assert diverging.reason.startswith("loss is nan at step")

    def raising(error: Exception) -> Callable[..., NoReturn]:
        def evaluate(*args: object) -> NoReturn:
            raise error

        return evaluate

    for error, reason in [
        (MemoryError(), "out of memory"),
        (RuntimeError("size mismatch\n  at b"), "size mismatch at b"),
    ]:
        monkeypatch.setattr(workers, "train_and_measure", raising(error))
        assert workers.run_task(TrainingTask(TINY, BRIEF, 0)) == TrainingFailure(reason)


def test_a_finalist_that_diverges_on_the_second_task_keeps_its_accuracy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverges(*_: object, **__: object) -> NoReturn:
        raise ProxyFailed("loss is nan at step 0 of 1")

    monkeypatch.setattr(workers, "learn", diverges)
    outcome = workers.run_task(TrainingTask(TINY, BRIEF, seed=0, final=True))
    assert isinstance(outcome, Trained)
    assert outcome.test is not None
    assert outcome.routing is None


def test_a_trial_of_several_tasks_learns_each_from_the_cue_task() -> None:
    alone = workers.run_task(TrainingTask(TINY, BRIEF, seed=0))
    both = workers.run_task(TrainingTask(TINY, BRIEF, seed=0, tasks=("cue", "routing")))
    assert isinstance(alone, Trained)
    assert isinstance(both, Trained)
    assert both.validation == alone.validation
    network = train_and_measure(TINY, BRIEF, 0, 1)[1]
    routing = learn(network, "routing", TransferRecipe.following(BRIEF), 0)
    assert both.further == {"routing": routing}
    scores = trial_scores(both)
    assert scores.accuracy == pytest.approx((alone.validation.accuracy + routing) / 2)
    assert (scores.cue_accuracy, scores.routing) == (alone.validation.accuracy, routing)
    assert (scores.localisation, scores.texture) == (None, None)


def test_errors_of_the_run_itself_are_not_hidden() -> None:
    class Other(ModelConfig):
        family = "other"

    with pytest.raises(ValueError, match="the proxy scales families sepvit"):
        workers.run_task(TrainingTask(Other(), BRIEF, seed=0))


# --- processes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Iterator[TrainingPool]:
    """A pool whose two workers have started and trained."""
    pool = TrainingPool(2)
    with pool:
        assert len(list(pool.train([TrainingTask(TINY, BRIEF, seed) for seed in range(2)]))) == 2
        assert len(workers_of(os.getpid())) == 2
        yield pool


@pytest.mark.slow
def test_outcomes_of_workers_are_those_of_this_process(pool: TrainingPool) -> None:
    tasks = [
        TrainingTask(TINY, BRIEF, seed=5),
        TrainingTask(TINY, DIVERGES, seed=0),
        TrainingTask(TINY, BRIEF, seed=6, final=True),
    ]
    outcomes = dict(pool.train(tasks))
    assert outcomes[0] == Trained(evaluate(TINY, BRIEF, 5))
    assert isinstance(outcomes[1], TrainingFailure)
    validation, test, network = evaluate_test(TINY, BRIEF, 6)
    routing = learn(network, "routing", TransferRecipe.following(BRIEF), 6)
    assert outcomes[2] == Trained(validation, test, routing=routing)
    assert list(pool.train([])) == []


def obey(task: TrainingTask) -> Outcome:
    """What the workers of some tests do: what the recipe is called."""
    if task.recipe.name == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task.recipe.name == "exits":
        os._exit(3)
    if task.recipe.name == "raises":
        raise ConfigError("a rule of the run")
    return Trained(result_of(task.config, task.recipe, task.seed))


def told(*names: str) -> list[TrainingTask]:
    return [TrainingTask(TINY, ProxyRecipe(name=name, steps=1), seed=0) for name in names]


@pytest.mark.slow
def test_a_worker_that_dies_takes_only_its_own_task_along() -> None:
    with TrainingPool(2, obey) as obeying:
        outcomes = dict(obeying.train(told("", "is killed", "", "exits", "")))
        assert [type(outcomes[index]) for index in range(5)] == [
            *(Trained, WorkerDied, Trained, WorkerDied, Trained),
        ]
        assert outcomes[1] == WorkerDied(
            "its training process died: SIGKILL, most likely out of memory"
        )
        assert outcomes[3] == WorkerDied("its training process died: exit code 3")
        for worker in workers_of(os.getpid()):
            worker.kill()  # while it has nothing to do
        wait_until(lambda: not multiprocessing.active_children())  # a signal takes its time
        assert isinstance(dict(obeying.train(told("")))[0], Trained)
        with pytest.raises(ConfigError, match="a rule of the run"):
            list(obeying.train(told("raises")))
        assert isinstance(dict(obeying.train(told("")))[0], Trained)


def test_what_dies_with_a_worker_is_trained_once_more_alone() -> None:
    class Trying:
        def __init__(self) -> None:
            self.tried: list[list[str]] = []

        def train(self, tasks: Sequence[TrainingTask]) -> Iterator[tuple[int, Outcome]]:
            self.tried.append([task.recipe.name for task in tasks])
            for index, task in enumerate(tasks):
                dies = task.recipe.name == "always" or (task.recipe.name == "once" and index)
                yield index, WorkerDied("killed") if dies else obey(task)

    trying = Trying()
    outcomes = dict(train_insistently(trying, told("", "once", "always")))
    assert trying.tried == [["", "once", "always"], ["once"], ["always"]]
    assert [type(outcomes[index]) for index in range(3)] == [Trained, Trained, WorkerDied]


@pytest.mark.slow
def test_a_training_goes_on_in_another_worker_where_it_paused(
    pool: TrainingPool, tmp_path: Path
) -> None:
    recipe = ProxyRecipe(name="rungs", steps=4, batch=2, evaluation_canvases=8)
    memory = tmp_path / "paused" / "0.pt"
    task = TrainingTask(TINY, recipe, seed=3, rung=2, memory=memory)
    paused = dict(pool.train([task]))[0]
    assert isinstance(paused, Trained)
    assert paused.validation.steps == 2
    assert memory.exists()
    whole = Trained(evaluate(TINY, recipe, 3))
    for change in (lambda: None, lambda: memory.write_bytes(b"cut off"), memory.unlink):
        change()
        assert dict(pool.train([dataclasses.replace(task, rung=None)]))[0] == whole


@pytest.mark.slow
def test_leaving_the_pool_ends_training_at_once() -> None:
    before = {child.pid for child in workers_of(os.getpid())}
    with TrainingPool(1) as pool:
        endless = TrainingTask(TINY, ENDLESS, 0)
        outcomes = pool.train([TrainingTask(TINY, BRIEF, 0), endless])
        assert next(outcomes)[0] == 0
        started = [child for child in workers_of(os.getpid()) if child.pid not in before]
        assert len(started) == 1
        start = time.monotonic()
    assert time.monotonic() - start < 10
    assert not psutil.wait_procs(started, timeout=PATIENCE)[1]


PARENT = """
from effvit.designs.sepvit import SepViTConfig
from search.proxy import ProxyRecipe
from search.workers import TrainingPool, TrainingTask

if __name__ == "__main__":
    config = SepViTConfig(widths=(32, 64, 128, 256), depths=(1, 1, 1, 1), heads=(1, 2, 4, 8))
    endless = ProxyRecipe(name="endless", steps=10**6, batch=2, distinct_canvases=8)
    with TrainingPool(2) as pool:
        list(pool.train([TrainingTask(config, endless, seed) for seed in range(2)]))
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own whose pool trains for ever."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(parent: subprocess.Popen[str]) -> None:
    wait_until(lambda: len(workers_of(parent.pid)) == 2)
    children = psutil.Process(parent.pid).children(recursive=True)
    wait_until(lambda: all(busy_seconds(child) > 1 for child in workers_of(parent.pid)))
    parent.kill()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert not alive


@pytest.mark.slow
def test_workers_are_deaf_to_ctrl_c_from_their_birth(parent: subprocess.Popen[str]) -> None:
    """Ctrl-C in a terminal reaches the whole group; only the parent answers, in its own words."""
    wait_until(lambda: len(workers_of(parent.pid)) == 2)
    children = psutil.Process(parent.pid).children(recursive=True)
    os.killpg(parent.pid, signal.SIGINT)  # while workers are still importing
    _, errors = parent.communicate(timeout=PATIENCE)
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert not alive
