"""What a run prints before its first trial and after its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from effvit import ModelConfig
from effvit.console import readable
from search.axis import Axis
from search.engine import Search
from search.settings import RunSettings
from spaces.axes import InvalidVariant
from spaces.space import Space


def announce(
    console: Console,
    settings: RunSettings,
    space: Space,
    axis: Axis,
    folder: Path,
    *,
    resumed: bool,
) -> None:
    """Say what begins, or goes on, and where it is written."""
    height, width = settings.resolution
    console.print(
        f"[bold]{'resuming' if resumed else 'searching'} {space.name}[/] at {height}x{width}: "
        f"{space.size():,} distinct variants"
    )
    console.print(
        f"trials: {settings.trials}, workers: {settings.workers}, "
        f"latency on {settings.device} with threads: {settings.threads}"
    )
    if axis.announcement:
        console.print(escape(axis.announcement))
    else:
        mean = "the mean of tasks " if len(axis.tasks) > 1 else "task "
        console.print(f"accuracy: on embedded digits, {mean}{', '.join(axis.tasks)}")
    console.print(f"sampler: {settings.sampler} ({escape(settings.sampler_reason)})")
    console.print(f"writing to {escape(str(folder))}")


def announce_left_out(console: Console, space: Space, search: Search) -> None:
    """Say which published variants are not searched, and why."""
    for name in space.published():
        if name not in search.published:
            console.print(f"left out: {name} is over the budgets")
    outside = {
        name: config.replace(image_size=space.resolution)
        for name, config in space.family_variants().items()
        if name not in space.published()
    }
    if outside:
        first, config = next(iter(outside.items()))
        height, width = space.resolution
        console.print(
            f"not in the space at {height}x{width}: {', '.join(outside)} "
            f"({first}: {escape(_why_outside(space, config))})"
        )


def _why_outside(space: Space, config: ModelConfig) -> str:
    try:
        space.encode(config)
    except InvalidVariant as error:
        return str(error)
    raise AssertionError("the space contains it")


def print_front(console: Console, settings: RunSettings, rows: list[dict[str, Any]]) -> None:
    """Print the finalists on the front, cheapest first, or why there are none."""
    if not settings.finalists:
        console.print("no front: it is made of finalists, and --finalists is 0")
        return
    if not rows:
        console.print("no front: no variant was evaluated completely, trials.csv says why")
        return
    console.print(
        "[bold]front[/] after training again: trial, variant, cost, proxy accuracy +- sd of seeds"
    )
    for row in rows:
        if row["on_front"]:
            spread = row["accuracy_sd"]
            console.print(
                f"  {row['number']:>4}  {row['published'] or row['variant_id']:<20}"
                f"{readable(row['macs']):>7} MACs {row['latency_ms']:7.1f} ms   "
                f"{row['accuracy']:.3f}" + ("" if spread is None else f" +- {spread:.3f}")
            )
