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
        space: Space that is studied, where an experiment takes one; None is its own choice.
    """

    out: Path
    quick: bool = False
    seed: int = 0
    workers: int = 1
    seeds: int | None = None
    cache: Path = CACHE
    space: str | None = None


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
    "proxy_audit": Experiment(
        "How well does each accuracy proxy rank variants of a space as longer training does?",
        "experiments.proxy_audit:run",
    ),
    "proxy_tasks": Experiment(
        "Which changes of a network does each of the proxy's tasks see, and which none?",
        "experiments.proxy_tasks:run",
    ),
    "task_audit": Experiment(
        "Which axis ranks best: the cue task alone, or the mean of more of the proxy's tasks?",
        "experiments.task_audit:run",
    ),
    "score_health": Experiment(
        "Is every zero-cost score a finite number for every variant, and what does it cost?",
        "experiments.score_health:run",
    ),
    "fidelity_benchmark": Experiment(
        "Which rungs reach the hypervolume of full training with the fewest training steps?",
        "experiments.fidelity_benchmark:run",
    ),
    "fidelity_curves": Experiment(
        "What do learning curves of variants say after an eighth, a quarter, a half of the steps?",
        "experiments.fidelity_curves:run",
    ),
    "fast_networks": Experiment(
        "How fast are our networks beside the authors' formulation and beside timm's networks?",
        "experiments.fast_networks:run",
    ),
    "vit_bench": Experiment(
        "Do scores, costs or what is learned from them rank networks that others trained?",
        "experiments.vit_bench.command:run",
    ),
    "latency_claims": Experiment(
        "Do the papers' claims about latency hold on this machine, network against network?",
        "experiments.latency_claims:run",
    ),
    "sampler_benchmark": Experiment(
        "Do the workbench's samplers find good fronts with fewer evaluations than general ones?",
        "experiments.sampler_benchmark:run",
    ),
    "tabular_benchmark": Experiment(
        "Latency and proxy accuracy of all networks of a slice: a table that searches replay.",
        "experiments.tabular_benchmark:run",
    ),
    "published_tables": Experiment(
        "Which parameter and MAC figures of the papers' tables are reproduced, which not, and why?",
        "experiments.published_tables:run",
    ),
    "tradeoff_curves": Experiment(
        "What does a search add over the published sizes, in accuracy at equal MACs and latency?",
        "experiments.tradeoff_curves:run",
    ),
    "documents": Experiment(
        "What do the kept results say? Writes the documentation's pages; measures nothing.",
        "experiments.documents:run",
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
