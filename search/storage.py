"""The run's folder: one process at a time, and a study that survives being cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import filelock
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from effvit import ConfigError

JOURNAL = "study.journal"
STUDY = "search"
DIRECTIONS: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize", "minimize")
"""Of accuracy, MACs and latency."""


def lock_folder(folder: Path) -> filelock.BaseFileLock:
    """Take the folder for this process; the system frees it when the process ends, however.

    Raises:
        ConfigError: Another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ConfigError(
            f"another run is using {folder}; wait for it or choose another --out"
        ) from None
    return lock


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


def open_study(folder: Path, url: str | None) -> tuple[optuna.Study, int]:
    """Open the run's study, or begin it.

    Args:
        folder: The run's folder, locked.
        url: A database for Optuna, such as ``sqlite:///study.db``; a journal in the folder if not
            given.

    Returns:
        The study, and how many bytes of an unfinished journal line were cut off.

    Raises:
        ConfigError: The journal is damaged, or the database cannot be used.
    """
    storage: BaseStorage
    cut = 0
    if url is None:
        path = folder / JOURNAL
        cut = repair_journal(path)
        # Optuna's own lock survives a kill; the folder is ours, so one that lies here is stale.
        path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(path)))
    else:
        try:
            storage = RDBStorage(url)
        except Exception as error:  # the drivers of SQLAlchemy raise what they like
            raise ConfigError(f"cannot use storage {url!r}: {error}") from error
    name = STUDY if url is None else f"{STUDY}:{folder.name}"
    study = optuna.create_study(
        storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
    )
    if tuple(direction.name.lower() for direction in study.directions) != DIRECTIONS:
        raise ConfigError(f"{url or folder} holds another study; choose another --out")
    return study, cut
