"""Which axis of accuracy is worth its seconds: the cue task alone, or more of the proxy's tasks?

Variants of a space, those of ``proxy_audit``, are trained on several tasks, SepViTs on all: once as
a trial of a search would be, and twice as long with other seeds. An axis is the mean of some tasks
(:mod:`search.proxy.tasks`). Each is asked how well a trial ranks variants as the longer training of
the same axis does, beside how well another longer training does, a surrogate, and a supernet that
learned the two usual tasks; and how well it ranks them as the longer training of all tasks does,
which no axis but the last one sees whole.

Rows are appended as trainings finish; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pandas as pd
from rich.console import Console

from effvit.config import unknown_name
from experiments.audit.plan import QUICK_STEPS, REFERENCE_SEEDS, Plan, plan
from experiments.audit.supernet import obtain
from experiments.catalogue import Options
from experiments.task_audit_page import REFERENCE, SEARCH, SUPERNET, committed, page, summarise
from experiments.task_trainings import TaskTraining, left_out, measure_tasks
from search.proxy.routing import RoutingRecipe
from search.proxy.tasks import AXES, TASKS, USUAL
from search.proxy.transfer import TransferRecipe
from search.records import write_text
from search.supernet.training import ROUTING_RECIPE
from spaces import SPACES, get_space
from spaces.space import Space

SPACE = "sepvit"
SEARCH_SEED = 0
ALL_TASKS = ("sepvit",)
"""Spaces whose variants are trained on all tasks; those of others on the two of the usual axis."""


def run(options: Options) -> None:
    """Train what is missing, then write the page of the space."""
    name = options.space or SPACE
    if name not in SPACES:
        raise unknown_name("space", name, SPACES)
    path, space = raw(options.out, name), get_space(name)
    audit = plan(space, options.seed, quick=options.quick)
    recipe = supernet_recipe(quick=options.quick)
    planned = [*trainings(audit, space), *inheritances(audit, recipe, options.seed)]
    folder = options.out / f"supernet-cue-routing-{name}"
    supernet = functools.partial(obtain, space, folder, recipe, options.seed)
    rows = measure_tasks(planned, path, options.workers, supernet)
    console = Console(soft_wrap=True)
    for line in left_out(rows):
        console.print(line, markup=False)
    results = {name: summarise(rows, space)}
    summary, text = path.with_name(f"task_audit_{name}_summary.csv"), path.with_suffix(".md")
    committed(results).to_csv(summary, index=False, float_format="%.4f")
    write_text(text, page(results))
    console.print(f"written: {path}, {summary}, {text}")


def raw(folder: Path, space: str) -> Path:
    """Where the trainings of a space are kept."""
    return folder / f"task_audit_{space}.csv"


def kept(folder: Path) -> dict[str, pd.DataFrame]:
    """Trainings that a folder holds, by space."""
    return {
        space: pd.read_csv(raw(folder, space)) for space in SPACES if raw(folder, space).exists()
    }


def trainings(audit: Plan, space: Space) -> list[TaskTraining]:
    """All trainings: a trial's of every variant, then the longer ones, seed by seed."""
    search, reference = (TransferRecipe.following(each) for each in (audit.search, audit.reference))
    assert (search.name, reference.name) == (SEARCH, REFERENCE)
    tasks = TASKS if space.name in ALL_TASKS else AXES[USUAL]
    order = [(search, SEARCH_SEED), *((reference, each) for each in REFERENCE_SEEDS)]
    return [
        TaskTraining(label, config, recipe, each, tasks)
        for recipe, each in order
        for label, config in audit.variants.items()
    ]


def inheritances(audit: Plan, recipe: RoutingRecipe, seed: int) -> list[TaskTraining]:
    """All variants, as they are measured with weights of a supernet."""
    assert recipe.name == SUPERNET
    return [
        TaskTraining(label, config, recipe, seed, AXES[USUAL])
        for label, config in audit.variants.items()
    ]


def supernet_recipe(*, quick: bool) -> RoutingRecipe:
    """How the supernet is trained."""
    if not quick:
        return ROUTING_RECIPE
    cue = dataclasses.replace(ROUTING_RECIPE.cue, steps=QUICK_STEPS)
    return dataclasses.replace(ROUTING_RECIPE, cue=cue, steps=QUICK_STEPS)
