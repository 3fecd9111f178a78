"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from search.records import Front, Scale, TrialRecord

PLAIN_SECONDS = 20.0
"""Seconds between lines where there is no terminal."""

BAR_WIDTH = 10
"""Columns; the line fits into 80 with it."""

SPEED_SECONDS = 3600.0
"""The time left is told from the steps of so many last seconds: they come in rounds."""


class Progress:
    """Trials done, size and hypervolume of the front, time left. Use it as a context."""

    def __init__(
        self,
        console: Console,
        scale: Scale,
        total: int,
        before: Iterable[TrialRecord] = (),
        *,
        title: str = "trials",
        done: int = 0,
    ) -> None:
        """Begin.

        Args:
            console: Where to show it.
            scale: Of the front's hypervolume.
            total: Steps in all.
            before: Records of a part that was done earlier.
            title: What a step is.
            done: Steps done earlier, if they are not in ``before``.
        """
        self._console = console
        self._title = title
        self._total = total
        self._front = Front(scale)
        self._done = self._first = done
        for record in before:
            self._count(record)
        self._first = self._done
        self._start = self._last_line = time.monotonic()
        self._printed = self._done
        self._bar = RichProgress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[front]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=SPEED_SECONDS,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            title, total=total, completed=self._done, front=self._front_text()
        )

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if kind is None and not self._console.is_terminal and self._done > self._printed:
            self._print_line()

    def trial(self, record: TrialRecord) -> None:
        """Count a trial that has ended."""
        self._count(record)
        self._show()

    def step(self) -> None:
        """Count a step."""
        self._done += 1
        self._show()

    def _count(self, record: TrialRecord) -> None:
        if record.state != "interrupted":
            self._done += 1
        self._front.add(record)

    def _show(self) -> None:
        self._bar.update(self._task, completed=self._done, front=self._front_text())
        if not self._console.is_terminal and time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._print_line()

    def _front_text(self) -> str:
        if not self._front.numbers:
            return ""
        return f"front {len(self._front.numbers)}, hypervolume {self._front.hypervolume:.3f}"

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        self._printed = self._done
        spent = self._last_line - self._start
        steps = max(1, self._done - self._first)
        left = spent / steps * (self._total - self._done)
        parts = [f"{self._title} {self._done}/{self._total}", self._front_text()]
        parts.append(f"{spent / 60:.1f} min spent, about {left / 60:.1f} min left")
        self._console.print(", ".join(part for part in parts if part))
