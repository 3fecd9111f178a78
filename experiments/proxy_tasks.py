"""What does each task of the proxy see of a network?

Single changes of SepViT-Lite, each trained with several seeds on the cue task and from there on
each further task: routing, localisation, texture. What is compared are differences seed by seed, so
that the page can say which task sees a change, and how many seeds one would need that none sees.

Rows are appended as trainings finish; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses

import pandas as pd
from rich.console import Console

from effvit import ModelConfig
from effvit.designs.sepvit import VARIANTS
from experiments.catalogue import Options
from experiments.proxy_tasks_page import FIGURE, PAGE, RAW, draw, page
from experiments.task_trainings import TaskTraining, left_out, measure_tasks
from search.proxy import SEARCH
from search.proxy.routing import RoutingRecipe
from search.proxy.transfer import TRANSFER, TransferRecipe
from search.records import write_text

SEEDS = 5
QUICK_SEEDS = 2

BASE = VARIANTS["sepvit_lite"]
UNGROUPED = ((7,),) * 4


def networks() -> dict[str, ModelConfig]:
    """What is trained, by label: SepViT-Lite and what differs from it in one thing, or two.

    Window attention with nothing else that mixes windows is two things away: grouped windows mix
    them as well.
    """
    return {
        "SepViT-Lite": BASE,
        "window attention alone": BASE.replace(windows=UNGROUPED, window_representation="none"),
        "token fixed to zero, no grouped windows": BASE.replace(
            windows=UNGROUPED, window_representation="zero"
        ),
        "no attention among windows": BASE.replace(window_representation="none"),
        "average pooling": BASE.replace(window_representation="average"),
        "token fixed to zero": BASE.replace(window_representation="zero"),
        "no grouped windows": BASE.replace(windows=UNGROUPED),
        "patches that do not overlap": BASE.replace(overlapping_patch_embedding=False),
        "no position encoding": BASE.replace(conditional_position_encoding=False),
        "no inner shortcuts": BASE.replace(inner_shortcuts=False),
        "half the depth": BASE.replace(depths=(1, 1, 3, 1)),
        "twice the depth": BASE.replace(depths=(2, 4, 12, 4)),
        "MLP ratio 2": BASE.replace(mlp_ratio=2.0),
        "twice the width": BASE.replace(
            widths=tuple(2 * width for width in BASE.widths),
            heads=tuple(2 * heads for heads in BASE.heads),
        ),
    }


QUICK = ("SepViT-Lite", "token fixed to zero")


def run(options: Options) -> None:
    """Train what is missing, then write the page and its figure."""
    rows = measure_all(options)
    console = Console(soft_wrap=True)
    for line in left_out(rows):
        console.print(line, markup=False)
    write_text(options.out / PAGE, page(rows))
    draw(rows).savefig(options.out / FIGURE)
    console.print(f"written: {options.out / RAW}, {options.out / PAGE}, {options.out / FIGURE}")


def measure_all(options: Options) -> pd.DataFrame:
    """Train what the file does not hold, appending each row; return all its rows.

    Raises:
        ConfigError: The file holds rows of other settings.
    """
    chosen, recipe = networks(), TRANSFER
    count = options.seeds or SEEDS
    if options.quick:
        chosen = {label: chosen[label] for label in QUICK}
        recipe, count = quick_recipe(), QUICK_SEEDS
    trainings = [
        TaskTraining(label, config, recipe, seed)
        for seed in range(options.seed, options.seed + count)
        for label, config in chosen.items()
    ]
    return measure_tasks(trainings, options.out / RAW, options.workers)


def quick_recipe() -> TransferRecipe:
    """A few steps on each task, to see whether all runs."""
    cue = dataclasses.replace(SEARCH, name="quick", steps=2, evaluation_canvases=4)
    routing = RoutingRecipe(name="quick", cue=cue, steps=2, evaluation_canvases=4)
    return TransferRecipe(name="quick", routing=routing, steps=2, evaluation_canvases=4)
