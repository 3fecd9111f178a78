"""The command: files on success, one line and exit code 2 otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports import run
from tests.reports import sample


@pytest.mark.slow  # a whole report is drawn
def test_the_command_writes_figures_and_the_page(tmp_path: Path) -> None:
    sample.write_run(tmp_path, [sample.trial(0)])
    result = CliRunner().invoke(run.app, [str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tmp_path / "report.html")
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"accuracy_macs.png", "accuracy_macs.svg", "importance.svg"} <= figures
    assert len(figures) == 6 * 2  # nothing half-written stays
    again = CliRunner().invoke(run.app, [str(tmp_path)])
    assert again.exit_code == 0


def test_a_trial_cut_short_is_a_warning(tmp_path: Path) -> None:
    sample.write_run(tmp_path, [sample.trial(0), sample.trial(1)])
    path = tmp_path / "trials.csv"
    path.write_text(path.read_text()[:-5])
    result = CliRunner().invoke(run.app, [str(tmp_path)])
    assert result.exit_code == 0
    assert "warning: trials.csv: line 3 was cut short" in result.output


@pytest.mark.parametrize("missing", ["", "settings.json", "trials.csv"])
def test_missing_records_are_one_line_and_code_2(missing: str, tmp_path: Path) -> None:
    folder = tmp_path / ("a folder with quite a long name " * 4)
    if missing:
        sample.write_run(folder, [sample.trial(0)])
        (folder / missing).unlink()
    result = CliRunner().invoke(run.app, [str(folder)])
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1
    assert result.output.startswith("error: ")
    assert (missing or "no folder") in result.output


def test_a_folder_that_cannot_be_written_is_one_line_and_code_2(tmp_path: Path) -> None:
    sample.write_run(tmp_path, [])
    (tmp_path / "figures").write_text("in the way")
    result = CliRunner().invoke(run.app, [str(tmp_path)])
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1


def test_reports_read_records_only() -> None:
    code = (
        "import sys, reports.run;"
        "print({'torch', 'effvit', 'spaces', 'search', 'experiments'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
