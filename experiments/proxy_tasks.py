"""What does each task of the proxy see of a network?

Single changes of SepViT-Lite, each trained with several seeds on the cue task and from there on
each further task: routing, localisation, texture. What is compared are differences seed by seed, so
that the page can say which task sees a change, and how many seeds one would need that none sees.

Rows are appended as trainings finish; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pandas as pd
from rich.console import Console

from effvit import ConfigError, ModelConfig, model_cost
from effvit.designs.sepvit import VARIANTS
from experiments.catalogue import Options
from experiments.measure import append_row, finished_rows
from experiments.progress import progress_bar
from experiments.proxy_tasks_page import FIGURE, PAGE, RAW, draw, page
from search.environment import environment
from search.proxy import SEARCH
from search.proxy.routing import RoutingRecipe
from search.proxy.transfer import TRANSFER, TransferRecipe, TransferResult
from search.records import write_text
from search.workers import (
    TrainingFailure,
    TrainingTask,
    WorkerPool,
    run_transfer_task,
    train_insistently,
)

SEEDS = 5
QUICK_SEEDS = 2
Row = dict[str, Any]

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
    failed = rows["error"].fillna("").astype(bool)
    console = Console(soft_wrap=True)
    for label, reason in zip(rows.loc[failed, "label"], rows.loc[failed, "error"], strict=True):
        console.print(f"left out: {label}: {reason}", markup=False)
    write_text(options.out / PAGE, page(rows))
    draw(rows).savefig(options.out / FIGURE)
    console.print(f"written: {options.out / RAW}, {options.out / PAGE}, {options.out / FIGURE}")


def measure_all(options: Options) -> pd.DataFrame:
    """Train what the file does not hold, appending each row; return all its rows.

    Raises:
        ConfigError: The file holds rows of other settings.
    """
    path = options.out / RAW
    chosen, recipe = networks(), TRANSFER
    count = options.seeds or SEEDS
    if options.quick:
        chosen = {label: chosen[label] for label in QUICK}
        recipe, count = quick_recipe(), QUICK_SEEDS
    seeds = range(options.seed, options.seed + count)
    wanted = [(label, seed) for seed in seeds for label in chosen]
    known = finished_rows(path)
    settings = json.dumps(recipe.to_dict())
    if not known.empty and (known["recipe_settings"] != settings).any():
        raise ConfigError(f"{path} holds rows of other settings; choose another --out")
    done = set() if known.empty else set(zip(known["label"], known["seed"], strict=True))
    missing = [key for key in wanted if key not in done]
    trainings = [TrainingTask(chosen[label], recipe, seed) for label, seed in missing]
    with progress_bar() as progress, WorkerPool(options.workers, run_transfer_task) as pool:
        bar = progress.add_task("", total=len(wanted), completed=len(wanted) - len(missing))
        for index, outcome in train_insistently(pool, trainings):
            append_row(path, record(*missing[index], trainings[index].config, recipe, outcome))
            progress.update(bar, advance=1, description=missing[index][0])
    rows: pd.DataFrame = pd.read_csv(path)
    return rows


def quick_recipe() -> TransferRecipe:
    """A few steps on each task, to see whether all runs."""
    cue = dataclasses.replace(SEARCH, name="quick", steps=2, evaluation_canvases=4)
    routing = RoutingRecipe(name="quick", cue=cue, steps=2, evaluation_canvases=4)
    return TransferRecipe(name="quick", routing=routing, steps=2, evaluation_canvases=4)


def record(
    label: str,
    seed: int,
    config: ModelConfig,
    recipe: TransferRecipe,
    outcome: TransferResult | TrainingFailure,
) -> Row:
    """Make the row of a training; a failure is recorded with its reason."""
    cost = model_cost(config)
    error, result = "", None
    if isinstance(outcome, TrainingFailure):
        error = outcome.reason
    else:
        result = outcome
    return {
        "label": label,
        "seed": seed,
        "variant_id": config.variant_id,
        "params": cost.params,
        "macs": cost.macs,
        "recipe": recipe.name,
        **_scores(result),
        "error": error,
        "config": config.to_json(),
        "recipe_settings": json.dumps(recipe.to_dict()),
        **environment(),
    }


def _scores(result: TransferResult | None) -> Row:
    """Scores of a training, empty where it failed."""
    cue = result.cue if result else None
    return {
        "accuracy": cue.accuracy if cue else None,
        "relation": cue.relation if cue else None,
        "recognition": cue.recognition if cue else None,
        "attempts": cue.attempts if cue else None,
        "routing": result.routing if result else None,
        "localisation": result.localisation if result else None,
        "texture": result.texture if result else None,
        "seconds": round(result.seconds, 2) if result else None,
    }
