"""``python -m reports.run DIR``: figures and one page from the records of a search run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from reports.figures import encode, figures
from reports.page import render_page
from reports.records import RecordError, load_run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def write_report(directory: Path) -> tuple[str, ...]:
    """Write ``figures/*.png``, ``figures/*.svg`` and ``report.html`` into a run's folder.

    Each file appears complete or not at all, so an interrupted report leaves the last one whole.

    Args:
        directory: The folder of a run, finished or not.

    Returns:
        What was left out of the records, one line each.

    Raises:
        RecordError: A record is missing or broken.
        OSError: The folder cannot be written to.
    """
    run = load_run(directory)
    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in figures(run).items():
        for kind in ("png", "svg"):
            _replace(folder / f"{name}.{kind}", encode(figure, kind))
    _replace(directory / "report.html", render_page(run, str(directory)).encode())
    return run.warnings


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place, then move it there."""
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@app.command()
def main(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a search run, finished or not.")
    ],
) -> None:
    """Turn the records of a search run into figures and one page (report.html)."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        warnings = write_report(directory)
    except (RecordError, OSError) as error:
        _fail(errors, error)
    for warning in warnings:
        errors.print("[yellow]warning:[/]", warning, markup=True)
    print_to = Console(soft_wrap=True, highlight=False)
    print_to.print(f"{directory / 'report.html'}", markup=False)


def _fail(errors: Console, error: Exception) -> NoReturn:
    """Print one line and leave with the code of a user's mistake."""
    errors.print("[bold red]error:[/] ", end="")
    errors.print(" ".join(str(error).split()), markup=False)
    raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
