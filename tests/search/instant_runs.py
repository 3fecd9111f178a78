"""Whole runs of the command line that measure and train nothing, each in a process of its own.

``python -m tests.search.instant_runs`` loads everything once. For each line of its input it forks a
process that runs the real command line with the fakes' meter and pool, kills it if asked to, and
answers with a line: a run then starts in milliseconds instead of seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from search import run as command
from search.storage import JOURNAL
from tests.search.fakes import FakeMeter, FakePool

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.0005


@dataclasses.dataclass(frozen=True)
class Order:
    """One run.

    Attributes:
        arguments: Of the command line.
        folder: Where it writes to.
        signal: What ends it; 0 for nothing.
        lines: It is sent once the study's journal has so many lines,
        delay: and so many seconds have passed.
        largest_file: Bytes beyond which writing fails as on a full disk.
    """

    arguments: tuple[str, ...]
    folder: str
    signal: int = 0
    lines: int = 0
    delay: float = 0.0
    largest_file: int | None = None


@dataclasses.dataclass(frozen=True)
class Ending:
    """How it ended: exit code, or the negative signal, and what it printed."""

    code: int
    output: str
    errors: str


class InstantMeter(FakeMeter):
    """Stands in for :class:`search.latency.LatencyMeter`."""

    reference_ms = 10.0

    def __init__(self, *_: object) -> None:
        super().__init__()


class InstantPool(FakePool):
    """Stands in for :class:`search.workers.TrainingPool`."""

    def __init__(self, workers: int) -> None:
        super().__init__()

    def __enter__(self) -> InstantPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class InstantRuns:
    """The process that forks runs, seen from a test. Use it as a context."""

    def __enter__(self) -> InstantRuns:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.search.instant_runs"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.kill()
        self._server.communicate()

    def __call__(self, order: Order) -> Ending:
        """Let it run, until it ends or is ended."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(dataclasses.asdict(order)) + "\n")
        self._server.stdin.flush()
        return Ending(**json.loads(self._server.stdout.readline()))


# --- in the process that forks ------------------------------------------------------------------


def serve() -> None:
    """Answer orders until there are no more."""
    for name, stand_in in (("LatencyMeter", InstantMeter), ("TrainingPool", InstantPool)):
        setattr(command, name, stand_in)
    command._report = lambda folder, console: None
    for line in sys.stdin:
        values: dict[str, Any] = json.loads(line)
        order = Order(**{**values, "arguments": tuple(values["arguments"])})
        print(json.dumps(dataclasses.asdict(_fork(order))), flush=True)


def _fork(order: Order) -> Ending:
    folder = Path(order.folder)
    said = [folder.with_name(f"{folder.name}.{name}") for name in ("output", "errors")]
    child = os.fork()
    if child == 0:
        _run(order, said)
    if order.signal:
        _end(child, order)
    _, status = os.waitpid(child, 0)
    return Ending(os.waitstatus_to_exitcode(status), *(path.read_text() for path in said))


def _run(order: Order, said: Sequence[Path]) -> None:
    """Be the run, then leave without a trace in the process that forked."""
    code = 1
    try:
        for path, stream in zip(said, (1, 2), strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        if order.largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing is an error
            resource.setrlimit(resource.RLIMIT_FSIZE, (order.largest_file, order.largest_file))
        sys.argv = ["search.run", *order.arguments]
        command.app(order.arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - whatever it is belongs to the run
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(child: int, order: Order) -> None:
    """Send the signal when it is time to, unless the run ends before."""
    journal = Path(order.folder) / JOURNAL
    while not _has_lines(journal, order.lines):
        if _ended(child):
            return
        time.sleep(POLL_SECONDS)
    time.sleep(order.delay)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, order.signal)


def _ended(child: int) -> bool:
    """Whether it has ended; its exit code can still be asked for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _has_lines(journal: Path, lines: int) -> bool:
    return lines == 0 or (journal.exists() and journal.read_bytes().count(b"\n") >= lines)


if __name__ == "__main__":
    serve()
