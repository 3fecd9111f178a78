"""All experiments in one visible place: what each asks, and where it is."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable
from pathlib import Path

from effvit.config import unknown_name
from experiments.ablation.tables import ABLATIONS

DATA = Path(__file__).parent / "data"
"""Results that travel with the package."""

CACHE = Path("experiment-cache")
"""Where measurements that ablations share are kept unless another folder is given."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line settles for an experiment.

    Attributes:
        out: Folder it writes to, and from which it goes on.
        quick: A few minutes instead of the real thing; not comparable with it.
        seed: Of everything random; the first of several.
        workers: Processes that measure at the same time, one thread each.
        seeds: How many seeds, where an experiment repeats its trainings; None is its own number.
        cache: Folder of measurements that ablations share.
    """

    out: Path
    quick: bool = False
    seed: int = 0
    workers: int = 1
    seeds: int | None = None
    cache: Path = CACHE


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        question: What it asks, in one line.
        where: Its function, as ``"package.module:function"``; imported when it runs.
        arguments: What the function gets besides the options.
    """

    question: str
    where: str
    arguments: tuple[str, ...] = ()

    def run(self, options: Options) -> None:
        """Run it, or go on with it."""
        function: Callable[..., None] = pkgutil.resolve_name(self.where)
        function(options, *self.arguments)


EXPERIMENTS: dict[str, Experiment] = {
    "proxy_ranking": Experiment(
        "Does the search's quick proxy rank variants as a several times longer training does?",
        "experiments.proxy_ranking:run",
    ),
    "proxy_contrasts": Experiment(
        "Which single changes of SepViT-Lite does the proxy tell apart, and which not?",
        "experiments.proxy_contrasts:run",
    ),
    "score_health": Experiment(
        "Is every zero-cost score a finite number for every variant, and what does it cost?",
        "experiments.score_health:run",
    ),
    "latency_claims": Experiment(
        "Do the papers' claims about latency hold on this machine, network against network?",
        "experiments.latency_claims:run",
    ),
    "published_tables": Experiment(
        "Which parameter and MAC figures of the papers' tables are reproduced, which not, and why?",
        "experiments.published_tables:run",
    ),
    **{
        name: Experiment(ablation.question, "experiments.ablation.command:run", (name,))
        for name, ablation in ABLATIONS.items()
    },
}


def experiment(name: str) -> Experiment:
    """Look an experiment up.

    Raises:
        ConfigError: No such experiment; the nearest name is offered.
    """
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
