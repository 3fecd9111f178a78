"""What the command lines share: consoles, one-line errors, readable numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

P = ParamSpec("P")
R = TypeVar("R")

BAD_INPUT = 2
"""Exit code for input that breaks a rule."""


def stderr() -> Console:
    """Console for messages; a new one each time, so that redirection is seen."""
    return Console(stderr=True, highlight=False)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a ``ValueError`` or ``OSError`` of a command into one line and exit code 2."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError) as error:
            text = " ".join(str(error).split())
            stderr().print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
            raise typer.Exit(BAD_INPUT) from error

    return wrapper


UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def readable(count: float) -> str:
    """Write a count with three significant digits and a unit, such as ``4.52 G``."""
    for size, unit in UNITS:
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g}"
