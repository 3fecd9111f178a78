"""Runs that are killed, interrupted or out of space end as if nothing had happened.

The runs are real processes of the real command line; only measuring and training are instant, and
functions of the variant, so that two runs can be compared number by number.
"""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from search.storage import JOURNAL, STUDY
from tests.search.instant_runs import Ending, InstantRuns, Order

pytestmark = pytest.mark.slow

TRIALS = 12
KILLS = 50
TIMES = ("started", "seconds")
"""Columns that differ from run to run."""


@pytest.fixture(scope="module")
def runs() -> Iterator[InstantRuns]:
    with InstantRuns() as runs:
        yield runs


def order(folder: Path, *more: str, **how: Any) -> Order:  # noqa: ANN401 - fields of the order
    arguments = {
        "--out": folder,
        "--trials": TRIALS,
        "--sampler": "evolution",
        "--workers": 1,
        "--threads": 1,
        "--finalists": 3,
        "--final-seeds": 2,
    }
    pairs = tuple(str(part) for pair in arguments.items() for part in pair)
    return Order((*pairs, *more), str(folder), **how)


def lines(folder: Path) -> int:
    path = folder / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def random_moment(
    folder: Path, whole: int, count: int, rng: np.random.Generator
) -> tuple[int, float]:
    """A line of the journal, soon after where it is, and seconds after it: ``count`` fill a run."""
    return lines(folder) + int(rng.integers(2 * whole // count)), float(rng.uniform(0, 0.01))


def whole(ending: Ending) -> Ending:
    assert (ending.code, ending.errors) == (0, ""), ending
    return ending


class Undisturbed:
    """What a run ends with."""

    def __init__(self, folder: Path) -> None:
        self.trials = [
            {name: value for name, value in row.items() if name not in TIMES}
            for row in csv.DictReader((folder / "trials.csv").open(newline=""))
        ]
        self.tables = [
            (folder / name).read_text() for name in ("pareto.csv", "pareto.json", "importance.csv")
        ]
        backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
        study = optuna.load_study(study_name=STUDY, storage=optuna.storages.JournalStorage(backend))
        self.study = [(t.number, t.state, t.params, t.values) for t in study.trials]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Undisturbed) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def undisturbed(runs: InstantRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    whole(runs(order(folder)))
    return folder


def check_the_same(folder: Path, undisturbed: Path) -> None:
    ended = Undisturbed(folder)
    assert ended.trials == Undisturbed(undisturbed).trials
    assert ended == Undisturbed(undisturbed)
    assert {state for _, state, _, _ in ended.study} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert not list(folder.glob(".*.partial"))


def test_an_undisturbed_run_is_repeated_exactly(
    runs: InstantRuns, undisturbed: Path, tmp_path: Path
) -> None:
    whole(runs(order(tmp_path / "run")))
    check_the_same(tmp_path / "run", undisturbed)


def test_a_run_killed_50_times_ends_as_if_it_had_not_been(
    runs: InstantRuns, undisturbed: Path, tmp_path: Path
) -> None:
    rng, kills, runs_begun, most = np.random.default_rng(0), 0, 1, 0
    folder, known = tmp_path / "1", set[tuple[str, str]]()
    while kills < KILLS:
        moment, delay = random_moment(folder, lines(undisturbed), KILLS, rng)
        ending = runs(order(folder, signal=signal.SIGKILL, lines=moment, delay=delay))
        if not ending.code:  # on a busy machine the signal may come too late: then another run
            check_the_same(folder, undisturbed)
            runs_begun += 1
            assert runs_begun <= KILLS / 5, f"{kills} kills in {runs_begun} runs"
            folder, known = tmp_path / str(runs_begun), set()
            continue
        assert ending.code == -signal.SIGKILL, ending
        kills += 1
        if (folder / "trials.csv").exists():
            found = csv.DictReader((folder / "trials.csv").open(newline=""))
            now = {(row["number"], row["accuracy"]) for row in found if row["accuracy"]}
            assert known <= now  # no finished trial is lost
            known, most = now, max(most, len(now))
    assert most >= TRIALS / 2
    whole(runs(order(folder)))
    check_the_same(folder, undisturbed)


def test_a_run_with_rungs_that_is_killed_ends_as_if_it_had_not_been(
    runs: InstantRuns, tmp_path: Path
) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    halving = ("--fidelities", "halving")
    whole(runs(order(undisturbed, *halving)))
    rng = np.random.default_rng(2)
    for _ in range(12):
        moment, delay = random_moment(folder, lines(undisturbed), 12, rng)
        runs(order(folder, *halving, signal=signal.SIGKILL, lines=moment, delay=delay))
    whole(runs(order(folder, *halving)))
    check_the_same(folder, undisturbed)
    assert {row["state"] for row in Undisturbed(folder).trials} == {"complete", "pruned"}
    assert not (folder / "paused").exists()


def test_a_journal_that_was_cut_in_a_line_is_repaired_with_a_message(
    runs: InstantRuns, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    half = lines(undisturbed) // 2
    runs(order(folder, signal=signal.SIGKILL, lines=half))
    journal = folder / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-7])
    rest = len(journal.read_bytes().rpartition(b"\n")[2])
    assert rest
    output = whole(runs(order(folder))).output
    assert f"cut {rest} bytes of an unfinished line off the study" in output
    check_the_same(folder, undisturbed)


def test_ctrl_c_is_one_line_and_nothing_is_lost(
    runs: InstantRuns, undisturbed: Path, tmp_path: Path
) -> None:
    folder, rng = tmp_path / "run", np.random.default_rng(1)
    stopped = 0
    for _ in range(12):
        moment, delay = random_moment(folder, lines(undisturbed), 12, rng)
        # Not before it has begun to write: while modules are imported, Ctrl-C is Python's affair.
        ending = runs(order(folder, signal=signal.SIGINT, lines=moment + 3, delay=delay))
        if ending.code:  # on a busy machine the signal may come too late
            said = "stopped; the same command goes on from here\n"
            assert (ending.code, ending.errors) == (130, said)
            stopped += 1
    assert stopped >= 4
    whole(runs(order(folder)))
    check_the_same(folder, undisturbed)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.8])
def test_a_full_disk_leaves_a_run_that_goes_on(
    runs: InstantRuns, undisturbed: Path, tmp_path: Path, share: float
) -> None:
    folder = tmp_path / "run"
    room = int(share * (undisturbed / JOURNAL).stat().st_size)
    ending = runs(order(folder, largest_file=room))
    assert ending.code == 2
    assert ending.errors.startswith(f"error: no room left in {folder} (File too large)")
    assert ending.errors.count("\n") == 1
    whole(runs(order(folder)))
    check_the_same(folder, undisturbed)


def test_the_front_of_a_killed_run_can_be_built(undisturbed: Path) -> None:
    entries = json.loads((undisturbed / "pareto.json").read_text())
    assert entries
