"""All experiments in one visible place: what each asks, and where it is."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable
from pathlib import Path

from effvit.config import unknown_name

DATA = Path(__file__).parent / "data"
"""Results that travel with the package."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line settles for an experiment.

    Attributes:
        out: Folder it writes to, and from which it goes on.
        quick: A few minutes instead of the real thing; not comparable with it.
        seed: Of everything random.
        workers: Processes that measure at the same time, one thread each.
    """

    out: Path
    quick: bool = False
    seed: int = 0
    workers: int = 1


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        question: What it asks, in one line.
        where: Its function, as ``"package.module:function"``; imported when it runs.
    """

    question: str
    where: str

    def run(self, options: Options) -> None:
        """Run it, or go on with it."""
        function: Callable[[Options], None] = pkgutil.resolve_name(self.where)
        function(options)


EXPERIMENTS: dict[str, Experiment] = {
    "proxy_ranking": Experiment(
        "Does the search's quick proxy rank variants as a several times longer training does?",
        "experiments.proxy_ranking:run",
    ),
    "proxy_contrasts": Experiment(
        "Which single changes of SepViT-Lite does the proxy tell apart, and which not?",
        "experiments.proxy_contrasts:run",
    ),
}


def experiment(name: str) -> Experiment:
    """Look an experiment up.

    Raises:
        ConfigError: No such experiment; the nearest name is offered.
    """
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
