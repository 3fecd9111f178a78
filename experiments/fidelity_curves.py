"""Learning curves of random SepViT variants: what each rung of fidelity would have known of them.

A row is a variant within a budget of MACs, with its latency as a ratio and what the proxy measured
of it, on a quarter of the canvases: ``continued_S_*`` after S steps of the training in full. For
the first variants there are also ``branched_S_*``, of a copy from there whose rate falls to zero
within a quarter more steps, and ``anew_S_*``, after a training of S steps with the schedule of that
length. ``full_*`` is what a search without rungs records for the trial.

The rows are committed; :mod:`experiments.fidelity_benchmark` replays policies on them in minutes.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from effvit import ModelConfig, model_cost
from experiments.catalogue import Options
from experiments.earlier import RETRY_WEIGHT
from experiments.measure import append_row, finished_rows
from search.latency import LatencyMeter, LatencyProtocol
from search.proxy import SEARCH, ProxyResult, evaluate
from search.proxy.evaluation import RELATION_FOUND, RUNG_SHARE
from search.proxy.feed import validation_canvases
from search.proxy.network import ProxyNetwork
from search.proxy.scaling import proxy_config
from search.proxy.scores import Scores
from search.proxy.scores import measure as scores_of
from search.proxy.training import Training, train
from spaces import get_space

SPACE, MAX_MACS = "sepvit", 1_500_000_000
VARIANTS, QUICK_VARIANTS = 160, 3
RUNGS = (30, 60, 90)
"""Steps, of the 120 of a search's trial, after which the proxy is measured."""

COMPARED, COMPARED_RUNGS = 12, (30,)
"""So many variants are also branched, and trained anew, after these steps."""

BRANCH = 1 / 4
"""Steps of a branch in which the rate falls, as a share of those before it."""

LATENCY = LatencyProtocol(seconds=0.5)
RAW = "fidelity_curves.csv"
SCORES = ("accuracy", "relation", "recognition")
Row = dict[str, Any]


def run(options: Options) -> None:
    """Measure what is missing, row by row; a stop at any time loses one row."""
    torch.set_num_threads(1)
    path = options.out / RAW
    count = QUICK_VARIANTS if options.quick else VARIANTS
    known = finished_rows(path)
    done = set(known["variant_id"]) if len(known) else set()
    chosen = list(enumerate(itertools.islice(_variants(options.seed), count)))
    missing = [(place, config) for place, config in chosen if config.variant_id not in done]
    meter = LatencyMeter(LATENCY, get_space(SPACE).resolution)
    for place, config in track(missing, description="learning curves"):
        compared = COMPARED_RUNGS if place < COMPARED else ()
        append_row(path, measure(config, meter, options.seed, compared))
    Console().print(f"written: {path}", soft_wrap=True)


def _variants(seed: int) -> Iterator[ModelConfig]:
    """Random variants within the budget, each network once."""
    space, rng = get_space(SPACE), np.random.default_rng(seed)
    seen: set[str] = set()
    while True:
        config = space.sample(rng)
        if config.variant_id not in seen and model_cost(config).macs <= MAX_MACS:
            seen.add(config.variant_id)
            yield config


def measure(config: ModelConfig, meter: LatencyMeter, seed: int, compared: Sequence[int]) -> Row:
    """Make the row of a variant; what is not ``compared`` is empty."""
    cost = model_cost(config)
    row: Row = {
        "variant_id": config.variant_id,
        "params": cost.params,
        "macs": cost.macs,
        RETRY_WEIGHT: SEARCH.retry_recognition_weight,
        "latency_ratio": round(meter.measure(config).ratio, 4),
    }
    row |= _training(config, seed, compared)
    for steps in COMPARED_RUNGS:
        scores = _anew(config, steps, seed) if steps in compared else None
        row |= _reading(f"anew_{steps}", scores)
    return row


def _training(config: ModelConfig, seed: int, compared: Sequence[int]) -> Row:
    """Train as a search does, measured on the way; then again, if it has to be, as it does."""
    recipe, row = SEARCH, Row()
    started = time.process_time()
    training = Training(proxy_config(config), recipe, seed)
    aside = 0.0
    for steps in RUNGS:
        training.advance(steps)
        before = time.process_time()
        row |= _reading(f"continued_{steps}", _quick(training.network))
        if steps in COMPARED_RUNGS:
            branched = _branch(config, training, seed) if steps in compared else None
            row |= _reading(f"branched_{steps}", branched)
        aside += time.process_time() - before
    training.advance(recipe.steps)
    scores = scores_of(training.network, validation_canvases(recipe))
    seconds = time.process_time() - started - aside
    attempts, full = 1, _reading("full", scores)
    if scores.relation < RELATION_FOUND:  # as in a search: perhaps again, with other seeds
        result = evaluate(config, recipe, seed)
        attempts, full = result.attempts, _reading("full", result)
    return {**row, **full, "attempts": attempts, "seconds": round(seconds, 2)}


def _branch(config: ModelConfig, training: Training, seed: int) -> Scores:
    """Scores of a copy whose rate falls to zero."""
    more = round(training.step * BRANCH)
    steps = training.step + more
    recipe = dataclasses.replace(
        SEARCH,
        steps=steps,
        warm_up=SEARCH.warm_up * SEARCH.steps / steps,
        warm_down=more / steps,
    )
    branch = Training(proxy_config(config), recipe, seed, copy.deepcopy(training.pause()))
    branch.advance(steps)
    return _quick(branch.network)


def _anew(config: ModelConfig, steps: int, seed: int) -> Scores:
    recipe = dataclasses.replace(SEARCH, steps=steps)
    return _quick(train(proxy_config(config), recipe, seed))


def _quick(network: ProxyNetwork) -> Scores:
    return scores_of(network, validation_canvases(SEARCH, RUNG_SHARE))


def _reading(name: str, scores: Scores | ProxyResult | None) -> Row:
    """Columns of one reading."""
    return {
        f"{name}_{score}": None if scores is None else round(getattr(scores, score), 4)
        for score in SCORES
    }
