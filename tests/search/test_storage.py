"""The run's folder: held by one process, and a journal that survives being cut off."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from effvit import ConfigError
from search.storage import JOURNAL, lock_folder, open_study, repair_journal

RUN = {"identity": {"seed": 0}}


def begun(folder: Path, run: dict[str, dict[str, int]] = RUN) -> optuna.Study:
    """A study with two finished trials."""
    study, _ = open_study(folder, None, run)
    for number in range(2):
        study.tell(study.ask(), [0.5, 1.0, number])
    return study


# --- the journal --------------------------------------------------------------------------------


def test_sound_journal_is_left_alone(tmp_path: Path) -> None:
    begun(tmp_path)
    before = (tmp_path / JOURNAL).read_bytes()
    study, cut = open_study(tmp_path, None, RUN)
    assert cut == 0
    assert len(study.trials) == 2
    assert (tmp_path / JOURNAL).read_bytes().startswith(before)
    assert repair_journal(tmp_path / "none") == 0


@pytest.mark.parametrize("rest", [b'{"op_code": 4, "work', b"{", b"\x00\x00", b'{"half": \n'])
def test_unfinished_last_line_is_cut_off(tmp_path: Path, rest: bytes) -> None:
    begun(tmp_path)
    path = tmp_path / JOURNAL
    sound = path.read_bytes()
    path.write_bytes(sound + rest)
    study, cut = open_study(tmp_path, None, RUN)
    assert cut == len(rest)
    assert [trial.values for trial in study.trials] == [[0.5, 1.0, 0.0], [0.5, 1.0, 1.0]]
    study.tell(study.ask(), [0.5, 1.0, 2.0])
    assert len(open_study(tmp_path, None, RUN)[0].trials) == 3


def test_journal_cut_at_any_byte_opens_again(tmp_path: Path) -> None:
    begun(tmp_path)
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        study, cut = open_study(tmp_path, None, RUN)
        assert cut == length - (whole[:length].rfind(b"\n") + 1)
        assert len(study.trials) <= 2


def test_damage_before_the_last_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    begun(tmp_path)
    path = tmp_path / JOURNAL
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-5]
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"study\.journal is damaged at line 3"):
        open_study(tmp_path, None, RUN)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", [b"3", b"{}", b'{"op_code": 99, "worker_id": ""}', b"[1]"])
def test_lines_that_are_no_operations_are_an_error(tmp_path: Path, line: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(line + b"\n")
    with pytest.raises(ConfigError, match="cannot use the study"):
        open_study(tmp_path, None, RUN)


def test_locks_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    begun(tmp_path)
    lock = tmp_path / f"{JOURNAL}.lock"
    lock.symlink_to(tmp_path / JOURNAL)
    renamed = tmp_path / f"{JOURNAL}.lock5d1f.rename"
    renamed.symlink_to(tmp_path / "gone")
    study, _ = open_study(tmp_path, None, RUN)  # Optuna alone would wait half a minute
    assert len(study.trials) == 2
    assert not lock.is_symlink()
    assert not renamed.is_symlink()


def test_ctrl_c_waits_until_a_write_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path)
    append = JournalFileBackend.append_logs
    written: list[int] = []

    def interrupted(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        signal.raise_signal(signal.SIGINT)
        append(self, logs)
        written.append(len(logs))

    monkeypatch.setattr(JournalFileBackend, "append_logs", interrupted)
    # Tests that run in the background of a shell are started with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            study.set_user_attr("key", 1)
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert written == [1]
    assert open_study(tmp_path, None, RUN)[0].user_attrs["key"] == 1


# --- whose study it is --------------------------------------------------------------------------


def test_study_of_another_run_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError, match="its study is another run's"):
        open_study(tmp_path, None, {"identity": {"seed": 1}})


def test_study_that_lost_its_trials_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_text("number\n0\n")
    with pytest.raises(ConfigError, match="its study is missing"):
        open_study(tmp_path, None, RUN)


def test_study_of_other_objectives_is_refused(tmp_path: Path) -> None:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / JOURNAL))
    )
    optuna.create_study(storage=storage, study_name="search").ask()
    with pytest.raises(ConfigError, match="another run's"):
        open_study(tmp_path, None, RUN)


def test_database_instead_of_the_journal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    folder = tmp_path / "mine"
    folder.mkdir()
    study, _ = open_study(folder, url, RUN)
    study.tell(study.ask(), [0.5, 1.0, 2.0])
    again, _ = open_study(folder, url, RUN)
    assert [trial.values for trial in again.trials] == [[0.5, 1.0, 2.0]]
    assert not (folder / JOURNAL).exists()


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x", "sqlite:////no/such/folder/x.db"])
def test_unusable_database_is_one_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="cannot use the study in"):
        open_study(tmp_path, url, RUN)


# --- the folder ---------------------------------------------------------------------------------


def held_by_another_process(folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys, pathlib\n"
        "from search.storage import lock_folder\n"
        "with lock_folder(pathlib.Path(sys.argv[1])): print('held')"
    )
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_second_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with lock_folder(folder):
        refused = held_by_another_process(folder)
        assert refused.returncode != 0
        assert f"another run is using {folder}" in refused.stderr
    assert held_by_another_process(folder).stdout == "held\n"


def test_folder_is_freed_when_a_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), lock_folder(tmp_path):
        raise ConfigError("x")
    with lock_folder(tmp_path):
        pass


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is not a folder"), lock_folder(path):
        pass
    assert path.read_text() == "mine"
