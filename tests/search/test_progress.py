"""What is shown while a run goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from search import progress as module
from search.progress import Progress
from search.records import TrialRecord
from tests.search.fakes import SCALE, complete_record, small_space

SPACE = small_space(mlp_ratio=(2, 3, 4), depth_3=(4, 6))


def records(count: int) -> list[TrialRecord]:
    """Trials of which each is better, and costs more, than the one before: all on the front."""
    return [
        complete_record(n, 0.5 + 0.01 * n, 10**8 + n * 10**7, 5.0 + n, SPACE.unrank(n % 6))
        for n in range(count)
    ]


def terminal(width: int) -> tuple[Console, io.StringIO]:
    """A terminal without colours, and what is written to it."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, no_color=True, soft_wrap=True)
    return console, screen


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("title", "total"), [("trials", 999), ("finalists", 24)])
def test_live_line_fits_into_the_terminal(width: int, title: str, total: int) -> None:
    console, screen = terminal(width)
    with Progress(console, SCALE, total, records(15), title=title) as progress:
        for record in records(20)[15:]:
            progress.trial(record)
    last = [line for line in screen.getvalue().replace("\r", "\n").split("\n") if title in line][-1]
    assert f"20/{total}" in last
    assert "front 20, hypervolume 0." in last
    assert "left" in last
    assert "…" not in last


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    screen = io.StringIO()
    first, *rest = records(3)
    failed = TrialRecord(number=3, state="failed", reason="loss is nan")
    stopped = TrialRecord(number=4)
    with Progress(Console(file=screen, width=80), SCALE, 8, [first, stopped]) as progress:
        for record in [*rest, failed]:
            progress.trial(record)
    lines = screen.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["trials 2/8", "trials 3/8", "trials 4/8"]
    assert lines[0].startswith("trials 2/8, front 2, hypervolume 0.")
    assert lines[-1].startswith("trials 4/8, front 3, hypervolume 0.")
    assert all("min spent, about" in line and len(line) <= 80 for line in lines)


def test_nothing_is_printed_where_nothing_was_done() -> None:
    screen = io.StringIO()
    with Progress(Console(file=screen), SCALE, 2, records(2)):
        pass
    assert screen.getvalue() == ""


def test_steps_done_earlier_count() -> None:
    screen = io.StringIO()
    with Progress(Console(file=screen), SCALE, 6, title="finalists", done=4) as progress:
        progress.step()
    assert screen.getvalue().startswith("finalists 5/6, ")
