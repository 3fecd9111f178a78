"""Whole runs in fresh processes: to the end, killed, interrupted, on a full disk, and resumed."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
from optuna.trial import TrialState

import effvit
from reports.records import load_run
from search.settings import SETTINGS
from search.storage import JOURNAL, STUDY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
"""Seconds after which a test gives up; on a quiet machine a run takes less than one minute."""

Row = dict[str, str]


def command(folder: Path, trials: int, *, finalists: int = 1, workers: int = 1) -> list[str]:
    """A run of small networks that are hardly trained."""
    options = {
        "--out": folder,
        "--resolution": 96,
        "--max-params": "5M",
        "--trials": trials,
        "--steps": 1,
        "--final-steps": 1,
        "--finalists": finalists,
        "--final-seeds": 1,
        "--workers": workers,
        "--threads": 1,
    }
    return [
        *(sys.executable, "-m", "search.run"),
        *(str(part) for pair in options.items() for part in pair),
    ]


class Process:
    """A run in a process group of its own, as a terminal starts it."""

    def __init__(self, arguments: list[str], largest_file: int | None = None) -> None:
        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        self._process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509 - this process has no other threads that hold locks
        )
        self.pid = self._process.pid
        self._children: set[psutil.Process] = set()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def children(self) -> set[psutil.Process]:
        """All processes that it was ever seen to have started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._children |= set(psutil.Process(self.pid).children(recursive=True))
        return self._children

    def names(self) -> list[str]:
        """Command lines of the processes that it has started."""
        names = []
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                names.append(" ".join(child.cmdline()))
        return names

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if not self.running:
                raise AssertionError(f"it ended too early: {self._process.communicate()}")
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def end(self, send: Callable[[], None] = lambda: None) -> tuple[int, str, str]:
        """Send a signal, wait for the end, and check that nothing goes on without it."""
        self.children()
        send()
        while self.running:
            self.children()
            time.sleep(0.05)
        output, errors = self._process.communicate(timeout=PATIENCE)
        _, alive = psutil.wait_procs(list(self._children), timeout=30)
        assert not alive
        return self._process.returncode, output, errors


def start_to_end(arguments: list[str]) -> str:
    code, output, errors = Process(arguments).end()
    assert (code, errors) == (0, ""), output
    return output


def rows(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def journal_lines(folder: Path) -> int:
    path = folder / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def study_of(folder: Path, copy: Path) -> optuna.Study:
    """The study as it is, from a copy: opening a journal writes to it."""
    shutil.copy(folder / JOURNAL, copy)
    backend = optuna.storages.journal.JournalFileBackend(str(copy))
    return optuna.load_study(study_name=STUDY, storage=optuna.storages.JournalStorage(backend))


def check_whole(folder: Path, trials: int, scratch: Path) -> list[Row]:
    """All trials that count are there, once, and none is open; returns their rows."""
    counted = [row for row in rows(folder / "trials.csv") if row["state"] != "interrupted"]
    assert len(counted) == len({row["variant_id"] for row in counted}) == trials
    assert [row["published"] for row in counted if row["published"]] == ["sepvit_lite"]
    states = {trial.state for trial in study_of(folder, scratch / "copy").trials}
    assert TrialState.RUNNING not in states
    assert not list(folder.glob(".*.partial"))
    return counted


# --- to the end ---------------------------------------------------------------------------------

TRIALS = 10  # the fewest for which importances are computed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, start_to_end(command(folder, TRIALS, finalists=2, workers=2))


def test_a_run_says_what_it_does(finished: tuple[Path, str]) -> None:
    folder, output = finished
    lines = output.splitlines()
    assert lines[0].startswith("searching sepvit at 96x96: 176,595,741 distinct variants")
    assert "left out: sepvit_base is over the budgets" in lines
    assert any(line.startswith(f"trials {TRIALS}/{TRIALS}, front ") for line in lines)
    assert lines[-1] == f"report: {folder / 'report.html'}"
    assert "Warning" not in output


def test_a_run_writes_its_settings(finished: tuple[Path, str]) -> None:
    settings = json.loads((finished[0] / SETTINGS).read_text())
    assert settings["command"].startswith("python -m search.run --out ")
    assert (settings["trials"], settings["resolution"]) == (TRIALS, [96, 96])
    assert settings["budgets"]["max_params"] == 5_000_000
    assert settings["proxy"]["search_recipe"]["steps"] == 1
    assert settings["environment"]["torch"]


def test_a_run_writes_all_records(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    counted = check_whole(folder, TRIALS, tmp_path)
    assert counted[0]["published"] == "sepvit_lite"
    assert max(int(row["params"]) for row in counted) <= 5_000_000
    run = load_run(folder)
    assert len(run.trials) == TRIALS
    assert run.finalists
    assert {row.objective for row in run.importance} == {"accuracy", "macs", "latency_ms"}
    assert run.warnings == ()


def test_a_run_writes_variants_that_can_be_built(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    entries = json.loads((folder / "pareto.json").read_text())
    assert entries
    for entry in entries:
        model = effvit.create_model(effvit.as_config(entry["config"]))
        assert sum(p.numel() for p in model.parameters()) == entry["params"]


def test_a_run_draws_its_report(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    assert (folder / "report.html").stat().st_size > 10_000
    for kind in ("png", "svg"):
        assert list((folder / "figures").glob(f"*.{kind}"))


def test_the_same_command_only_draws_again(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    (folder / "report.html").unlink()
    kept = ("trials.csv", "pareto.csv", "pareto.json", "importance.csv")
    before = [(folder / name).read_bytes() for name in kept]
    output = start_to_end(command(folder, TRIALS, finalists=2, workers=2))
    assert output.startswith("resuming sepvit")
    assert [(folder / name).read_bytes() for name in kept] == before
    assert (folder / "report.html").exists()
    assert len(study_of(folder, tmp_path / "copy").trials) == TRIALS


# --- stopped ------------------------------------------------------------------------------------


def test_kill_9_at_any_time_loses_nothing(tmp_path: Path) -> None:
    folder, trials = tmp_path / "run", 6
    rng = np.random.default_rng(0)
    known: dict[str, Row] = {}
    for _ in range(3):
        # A trial writes about 24 lines, most of them at once: a kill may be that much late, and
        # three of them still come before the end.
        more = int(rng.integers(2, 24))
        kill_after(Process(command(folder, trials)), folder, journal_lines(folder) + more)
        if (folder / "trials.csv").exists():
            found = {r["number"]: r for r in rows(folder / "trials.csv")}
            known.update({n: row for n, row in found.items() if row["state"] == "complete"})
    start_to_end(command(folder, trials))
    counted = check_whole(folder, trials, tmp_path)
    by_number = {row["number"]: row for row in counted}
    front = ("hypervolume", "front_size")  # of trials that came later, but have lower numbers
    for number, row in known.items():
        assert {k: v for k, v in by_number[number].items() if k not in front} == {
            k: v for k, v in row.items() if k not in front
        }


def kill_after(process: Process, folder: Path, lines: int) -> None:
    """Kill a run as soon as its study has so many lines."""
    process.wait_for(lambda: journal_lines(folder) >= lines)
    code, _, _ = process.end(lambda: os.kill(process.pid, signal.SIGKILL))
    assert code == -signal.SIGKILL


@pytest.mark.parametrize("whom", ["group", "parent"])
def test_ctrl_c_ends_it_in_its_own_words(whom: str, tmp_path: Path) -> None:
    """A terminal sends the signal to the whole group, other programs to the parent alone."""
    folder = tmp_path / "run"
    process = Process(command(folder, 2))
    process.wait_for(lambda: any("spawn_main" in name for name in process.names()))
    send = os.killpg if whom == "group" else os.kill
    code, _, errors = process.end(lambda: send(process.pid, signal.SIGINT))
    assert (code, errors) == (130, "stopped; the same command goes on from here\n")
    assert study_of(folder, tmp_path / "copy").trials[0].params


def test_full_disk_is_one_line_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """A limit on the size of files refuses writes at the same places as a full disk does."""
    folder, trials = tmp_path / "run", 4
    arguments = command(folder, trials, finalists=0)
    process = Process(arguments, largest_file=30_000)  # of about 9 kB a trial
    code, _, errors = process.end()
    assert code == 2
    assert errors.startswith(f"error: no room left in {folder} (File too large)")
    assert errors.count("\n") == 1
    assert not list(folder.glob(".*.partial"))
    before = [row for row in rows(folder / "trials.csv") if row["state"] == "complete"]
    start_to_end(arguments)
    counted = check_whole(folder, trials, tmp_path)
    assert [row["variant_id"] for row in counted[: len(before)]] == [
        r["variant_id"] for r in before
    ]
