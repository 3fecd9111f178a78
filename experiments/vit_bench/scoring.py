"""Zero-cost scores of the benchmark's architectures, into a CSV that can be resumed.

A network is built for small images, with the classifier that it was trained with, and initialised
by the seed. Its batch are training canvases of that seed, resized, standardised; their classes are
drawn, which at initialisation says as much as true ones would, as no class has a meaning yet.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rich.progress import track

from effvit import ModelConfig, create_model
from experiments.measure import append_row, finished_rows
from experiments.vit_bench.architectures import CLASSES, Architecture
from search.environment import environment
from search.scores.common import Batch
from search.scores.many import Scored, canvas_batch, score_network
from search.scores.table import SCORES
from search.workers import prepare_worker

SIDE = 64
"""Pixels of an image: 4 x 4 patches of AutoFormer's; at 224 scores take ten times as long."""

IMAGES = 4
"""Of a batch: as few as ZiCo takes."""

PARTS_OF_DSS = ("synaptic_diversity", "synaptic_saliency")
COMPUTED = tuple(name for name in SCORES if name != "dss")
KEY = ("architecture", "seed")


def score_missing(
    architectures: Sequence[Architecture], seeds: Sequence[int], path: Path, workers: int
) -> pd.DataFrame:
    """Score what the file does not hold yet, appending each row as it is finished.

    Args:
        architectures: Networks wanted.
        seeds: Of initial values, images, and what a score draws.
        path: CSV file; made if it does not exist.
        workers: Processes of one thread each.

    Returns:
        All rows of the file.
    """
    rows = kept_scores(path)
    done = set(zip(rows["architecture"], rows["seed"], strict=True))
    tasks = [(a, seed) for seed in seeds for a in architectures if (a.name, seed) not in done]
    here = environment()
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=prepare_worker, initargs=(os.getpid(),)
    ) as pool:
        futures = {pool.submit(scored, task[0].config, task[1]): task for task in tasks}
        for future in track(as_completed(futures), "scoring", total=len(tasks)):
            architecture, seed = futures[future]
            append_row(path, _row(architecture.name, seed, future.result()) | here)
    return kept_scores(path)


def kept_scores(path: Path) -> pd.DataFrame:
    """Rows of a file of scores, none if it does not exist yet."""
    rows = finished_rows(path)
    none: pd.DataFrame = pd.DataFrame(columns=[*KEY, *SCORES])
    return none if rows.empty else rows


def scored(config: ModelConfig, seed: int) -> Scored:
    """Compute all scores of one network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_model(config, image_size=(SIDE, SIDE))
    started = time.perf_counter()
    found = score_network(network, batch(seed), seed, COMPUTED)
    values = dict(found.values)
    # By its definition, instead of the same singular values a second time.
    values["dss"] = float(np.logaddexp.reduce([values[part] for part in PARTS_OF_DSS]))
    return Scored(values, {"all": time.perf_counter() - started})


@functools.lru_cache(maxsize=2)
def batch(seed: int) -> Batch:
    """Images (B, 3, 64, 64) and drawn classes (B,), the same for all networks."""
    images = F.interpolate(canvas_batch(IMAGES, seed).images, (SIDE, SIDE), mode="area")
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (IMAGES,), generator=generator)
    return Batch((images - images.mean()) / images.std(), targets)


def _row(name: str, seed: int, found: Scored) -> dict[str, object]:
    values = found.values  # noqa: PD011 - not a data frame's
    seconds = round(found.seconds["all"], 3)
    return {
        "architecture": name,
        "seed": seed,
        **{k: values[k] for k in SCORES},
        "seconds": seconds,
    }


def mean_scores(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Scores of architectures, (architectures, scores): means over the seeds that all have.

    Without such a seed, as while scoring goes on, there are no columns.
    """
    chosen = rows[rows["architecture"].isin(names)]
    counts = chosen.groupby("seed")["architecture"].nunique()
    complete = counts.index[counts == len(names)]
    found: pd.DataFrame = pd.DataFrame(index=list(names))
    if not len(complete):
        return found
    means = chosen[chosen["seed"].isin(complete)].groupby("architecture")[list(SCORES)].mean()
    joined: pd.DataFrame = found.join(means)
    return joined
