"""The run's folder: one process at a time, and a study that survives being cut off."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import filelock
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from effvit import ConfigError

JOURNAL = "study.journal"
TRIALS = "trials.csv"
STUDY = "search"
DIRECTIONS: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize", "minimize")
"""Of accuracy, MACs and latency."""


RUN = "run"
"""Attribute of the study: the run that it belongs to."""


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the system frees it when the process ends, however.

    Raises:
        ConfigError: Another process has it, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(folder / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise ConfigError(
            f"another run is using {folder}; wait for it or choose another --out"
        ) from None
    with lock:
        yield


def repair_journal(path: Path) -> int:
    """Cut off a last line that a crash left unfinished.

    Returns:
        Bytes cut off, 0 for a sound journal.

    Raises:
        ConfigError: A line before the last one is unreadable: that is no crash of ours.
    """
    if not path.exists():
        return 0
    data = path.read_bytes()
    lines = data.split(b"\n")
    sound = 0
    for number, line in enumerate(lines[:-1], start=1):
        try:
            json.loads(line)
        except ValueError:
            if number < len(lines) - 1:
                raise ConfigError(
                    f"{path} is damaged at line {number}: restore it, or choose another --out"
                ) from None
            break
        sound += len(line) + 1
    if sound < len(data):
        with path.open("rb+") as file:
            file.truncate(sound)
    return len(data) - sound


def open_study(folder: Path, url: str | None, run: Mapping[str, Any]) -> tuple[optuna.Study, int]:
    """Open the run's study, or begin it.

    Args:
        folder: The run's folder, locked.
        url: A database for Optuna, such as ``sqlite:///study.db``; a journal in the folder if not
            given.
        run: What tells this run from others, as JSON values; kept in the study.

    Returns:
        The study, and how many bytes of an unfinished journal line were cut off.

    Raises:
        ConfigError: The journal is damaged, the database cannot be used, or the study is another
            run's.
    """
    cut = 0
    name = STUDY if url is None else f"{STUDY}:{folder.name}"
    if url is None:
        cut = repair_journal(folder / JOURNAL)
        # Optuna's own lock survives a kill; the folder is ours, so one that lies here is stale.
        for stale in folder.glob(f"{JOURNAL}.lock*"):
            stale.unlink()
    try:
        study = optuna.create_study(
            storage=_storage(folder, url),
            study_name=name,
            directions=DIRECTIONS,
            load_if_exists=True,
        )
    except OSError:
        raise
    except Exception as error:  # the drivers of SQLAlchemy raise what they like
        raise ConfigError(f"cannot use the study in {url or folder / JOURNAL}: {error}") from error
    _claim(study, run, folder)
    return study, cut


def _claim(study: optuna.Study, run: Mapping[str, Any], folder: Path) -> None:
    """Mark a new study as this run's; refuse one that is another run's, or that lost its trials."""
    empty = not study.get_trials(deepcopy=False)
    if RUN not in study.user_attrs and empty and not (folder / TRIALS).exists():
        study.set_user_attr(RUN, dict(run))
    elif study.user_attrs.get(RUN) != run:
        rule = "its study is missing" if empty else "its study is another run's"
        raise ConfigError(
            f"{folder} cannot be resumed: {rule}; restore it, give the --storage it was started "
            "with, or choose another --out"
        )


def _storage(folder: Path, url: str | None) -> BaseStorage:
    if url is None:
        return JournalStorage(_WholeLines(str(folder / JOURNAL)))
    return RDBStorage(url)


class _WholeLines(JournalFileBackend):
    """A journal in which Ctrl-C waits until a write is done.

    In the middle of it, Optuna's lock would be released twice: an error about a file that is gone.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with _ctrl_c_put_off():
            super().append_logs(logs)


@contextlib.contextmanager
def _ctrl_c_put_off() -> Iterator[None]:
    """Let Ctrl-C act afterwards; only the main thread ever hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            signal.raise_signal(signal.SIGINT)
