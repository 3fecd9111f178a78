"""Options that the commands of ``python -m search.latency`` share, and how they are read."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from effvit import ConfigError
from effvit.backends import BACKENDS, Execution, Precision
from effvit.config import unknown_name

FILE_WIDTH = 120
"""Columns of tables that go into a file or a pipe."""

BackendsOption = Annotated[
    str, typer.Option("--backend", help=f"Separated by commas: {', '.join(BACKENDS)}.")
]
PrecisionOption = Annotated[Precision, typer.Option(help="Of weights, images and arithmetic.")]
ChannelsLastOption = Annotated[
    bool, typer.Option("--channels-last", help="Weights and images in channels_last order.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads.", show_default="all cores")
]
DeviceOption = Annotated[str, typer.Option(help="Torch device, such as cpu or cuda:0.")]
BackendOption = Annotated[str, typer.Option(help=f"One of {', '.join(BACKENDS)}.")]
SecondsOption = Annotated[float, typer.Option(min=0.0, help="Time for each measurement.")]
ReferenceOption = Annotated[str, typer.Option(help="The network that runs in turn.")]


def wide_console() -> Console:
    """Console whose tables are not squeezed where nobody watches a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    return console


def read_executions(backends: str, precision: Precision, channels_last: bool) -> list[Execution]:
    """Read names separated by commas; each once.

    Raises:
        ConfigError: An unknown back end.
    """
    names = list(dict.fromkeys(name.strip() for name in backends.split(",")))
    for name in names:
        if name not in BACKENDS:
            raise unknown_name("back end", name, BACKENDS)
    return [Execution(name, precision, channels_last) for name in names]


def read_batches(text: str) -> list[int]:
    """Read batch sizes separated by commas; each once.

    Raises:
        ConfigError: One is no positive integer.
    """
    batches = []
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < 1:
            raise ConfigError(f"batch sizes must be like 1 or 1,16, got {text!r}")
        batches.append(int(part))
    return list(dict.fromkeys(batches))
