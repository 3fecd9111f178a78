"""Runs to read, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.records import Run, load_run
from tests.reports.sample import plausible_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of 64 trials."""
    return plausible_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def finished_run(finished: Path) -> Run:
    return load_run(finished)
