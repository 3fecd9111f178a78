"""How fast a space is counted, sampled and walked: ``python -m spaces.benchmark``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer

from effvit import ConfigError
from spaces import Space, get_space, list_spaces

WALKED = 100
"""Networks whose neighbours are timed: enough for a stable mean, few enough to wait for."""


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def report(space: Space, samples: int, seed: int) -> list[str]:
    """Time a space on one thread.

    Args:
        space: The space; its tables are made again, so that their time counts.
        samples: Networks to draw.
        seed: Of the draws.

    Returns:
        Lines of text, times in the units they name.
    """
    count = _seconds(lambda: type(space)(space.resolution).size())
    rng = np.random.default_rng(seed)
    draw = _seconds(lambda: [space.sample(rng) for _ in range(samples)])
    walked = space.sample_many(rng, WALKED)
    walk = _seconds(lambda: [space.neighbours(config) for config in walked])
    height, width = space.resolution
    return [
        f"space {space.name} at {height} x {width} pixels",
        f"distinct valid networks: {space.size():,} (counted in {count * 1e3:.1f} ms)",
        f"valid samples: {samples / draw:,.0f} a second ({samples:,} drawn in {draw:.2f} s)",
        f"neighbours: {walk / WALKED * 1e3:.2f} ms a network (mean of {WALKED})",
    ]


def main(
    space: Annotated[str, typer.Option(help=f"One of: {', '.join(list_spaces())}.")] = "sepvit",
    resolution: Annotated[str, typer.Option(help="Pixels, such as 224 or 512x2048.")] = "224",
    samples: Annotated[int, typer.Option(min=1, help="Networks to draw.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
) -> None:
    """Time how fast a space is counted, sampled and walked, on one thread."""
    try:
        lines = report(get_space(space, resolution), samples, seed)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    for line in lines:
        typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
