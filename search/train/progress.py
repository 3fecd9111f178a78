"""What a training says while it runs."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 60.0
"""Seconds between lines within an epoch where there is no terminal."""

BAR_WIDTH = 20


class TrainingProgress:
    """A bar on a terminal, and lines. Use it as a context.

    Args:
        console: Where to show it.
        epochs: Epochs in all.
        steps: Steps of an epoch.
        done: Steps done earlier.
    """

    def __init__(self, console: Console, epochs: int, steps: int, done: int = 0) -> None:
        self._console = console
        self._epochs = epochs
        self._steps = steps
        self._first = self._done = done
        self._loss = ""
        self._start = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("epochs", total=epochs * steps, completed=done, loss="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, loss: float | None) -> None:
        """Count a step; ``loss`` is that of the epoch so far, where it is known."""
        self._done += 1
        if loss is not None:
            self._loss = f"loss {loss:.3f}"
        self._bar.update(self._task, completed=self._done, loss=self._loss)
        if self._console.is_terminal or time.monotonic() - self._last_line < PLAIN_SECONDS:
            return
        epoch, step = divmod(self._done, self._steps)
        self._line(f"epoch {epoch + 1}/{self._epochs}", f"step {step}/{self._steps}", self._loss)

    def epoch(self, number: int, loss: float, top1: float | None) -> None:
        """Say how an epoch ended; ``top1`` is of the validation images, if there are any."""
        reached = "" if top1 is None else f"validation {top1:.1%}"
        self._line(f"epoch {number}/{self._epochs}", f"loss {loss:.3f}", reached)

    def _line(self, *parts: str) -> None:
        self._last_line = time.monotonic()
        spent = self._last_line - self._start
        left = spent / max(1, self._done - self._first) * (self._epochs * self._steps - self._done)
        times = f"{duration(spent)} spent, about {duration(left)} left"
        self._console.print(", ".join(part for part in (*parts, times) if part))


def duration(seconds: float) -> str:
    """Write a duration such as ``12 s``, ``3.4 min`` or ``5.6 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
