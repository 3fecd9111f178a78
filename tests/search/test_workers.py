"""Training in worker processes: outcomes, and what remains when processes are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from effvit import ModelConfig, model_config
from effvit.designs.sepvit import SepViTConfig
from search import workers
from search.proxy import ProxyRecipe, evaluate, evaluate_test
from search.workers import Trained, TrainingFailure, TrainingPool, TrainingTask

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
    diverging = workers._train(TrainingTask(TINY, DIVERGES, seed=0))
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
        monkeypatch.setattr(workers, "evaluate", raising(error))
        assert workers._train(TrainingTask(TINY, BRIEF, 0)) == TrainingFailure(reason)


def test_errors_of_the_run_itself_are_not_hidden() -> None:
    class Other(ModelConfig):
        family = "other"

    with pytest.raises(ValueError, match="the proxy scales families sepvit"):
        workers._train(TrainingTask(Other(), BRIEF, seed=0))


# --- processes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Iterator[TrainingPool]:
    """A pool whose two workers have started and trained."""
    with TrainingPool(2) as pool:
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
    assert outcomes[2] == Trained(*evaluate_test(TINY, BRIEF, 6))
    assert list(pool.train([])) == []


class Killer:
    """Kills one worker of this process in a thread, once all of them are training."""

    def __init__(self, count: int) -> None:
        self._idle = {child.pid: busy_seconds(child) for child in workers_of(os.getpid())}
        self._count = count
        self._thread = threading.Thread(target=self._kill)
        self._thread.start()

    def _kill(self) -> None:
        wait_until(self._all_busy)
        workers_of(os.getpid())[0].kill()

    def _all_busy(self) -> bool:
        found = workers_of(os.getpid())
        return len(found) == self._count and all(
            busy_seconds(child) > self._idle.get(child.pid, 0.0) + 0.3 for child in found
        )

    def join(self) -> None:
        self._thread.join()


@pytest.mark.slow
def test_a_killed_worker_takes_only_its_own_task_along(pool: TrainingPool) -> None:
    """Two tasks are cut off: one is finished after all, the other dies again and has failed."""
    innocent = ProxyRecipe(name="innocent", steps=150, batch=2, evaluation_canvases=4)
    guilty = TrainingTask(model_config("sepvit_lite"), ENDLESS, seed=0)
    killer = Killer(2)
    outcomes = pool.train([TrainingTask(TINY, innocent, seed=0), guilty])
    index, outcome = next(outcomes)
    killer.join()
    assert (index, outcome) == (0, Trained(evaluate(TINY, innocent, 0)))
    killer = Killer(1)
    index, outcome = next(outcomes)
    killer.join()
    assert index == 1
    assert outcome == TrainingFailure("the training process died, most likely out of memory")
    assert list(outcomes) == []
    assert dict(pool.train([TrainingTask(TINY, BRIEF, 0)]))[0] == Trained(evaluate(TINY, BRIEF, 0))


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
