"""Scores of many variants, each as the network that the proxy trains, on the proxy's canvases.

A variant's network is :class:`search.proxy.network.ProxyNetwork` of the scaled variant, initialised
by the seed as the proxy does; the batch are training canvases of that seed, the same for all
variants, standardised as a whole. Scores that read targets see the classes of the cells.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from torch import nn

from effvit import ModelConfig
from search.proxy.digits import Split, canvases
from search.proxy.network import ProxyNetwork, initialise
from search.proxy.scaling import proxy_config
from search.scores.common import Batch
from search.scores.table import SCORES, compute
from search.workers import prepare_worker

IMAGES = 16
"""Canvases of a batch."""

_CANVAS_SEED = 5  # apart from the proxy's own training canvases of the same seed


@dataclasses.dataclass(frozen=True)
class Scored:
    """Scores of a variant.

    Attributes:
        values: Each score by its name.
        seconds: How long each took, the building of the network and of the batch left out.
        error: Why there are none, empty where there are.
    """

    values: dict[str, float]
    seconds: dict[str, float] = dataclasses.field(compare=False)
    error: str = ""


def score_variant(
    config: ModelConfig, seed: int = 0, names: Sequence[str] = tuple(SCORES), images: int = IMAGES
) -> Scored:
    """Compute scores of one variant; bit for bit as :func:`search.scores.table.compute`.

    Args:
        config: The variant at its design resolution.
        seed: Of initial values, canvases and what a score draws.
        names: Which scores.
        images: Canvases of the batch.

    Raises:
        ConfigError: No such score, or the proxy has no rule that scales the variant.
    """
    return score_network(proxy_network(config, seed), canvas_batch(images, seed), seed, names)


def score_network(
    network: nn.Module, batch: Batch, seed: int = 0, names: Sequence[str] = tuple(SCORES)
) -> Scored:
    """Compute scores of any network on any batch, see :func:`search.scores.table.compute`."""
    values, seconds = {}, {}
    for name in names:
        started = time.perf_counter()
        values[name] = compute(name, network, batch, seed)
        seconds[name] = time.perf_counter() - started
    return Scored(values, seconds)


def proxy_network(config: ModelConfig, seed: int) -> nn.Module:
    """Build and initialise the network that the proxy would train with this seed."""
    with torch.random.fork_rng(devices=[]):
        network = ProxyNetwork(proxy_config(config))
    initialise(network, seed)
    return network


@functools.lru_cache(maxsize=2)
def canvas_batch(images: int, seed: int) -> Batch:
    """Compose training canvases (B, 3, 96, 96) with the targets of their cells (B, 36)."""
    made = canvases(Split.TRAIN, images, seed * 10 + _CANVAS_SEED)
    pixels = torch.from_numpy(made.images).permute(0, 3, 1, 2).float()
    return Batch((pixels - pixels.mean()) / pixels.std(), torch.from_numpy(made.targets))


def score_all(
    configs: Sequence[ModelConfig],
    seed: int = 0,
    names: Sequence[str] = tuple(SCORES),
    images: int = IMAGES,
    workers: int = 1,
) -> Iterator[tuple[int, Scored]]:
    """Compute scores of many variants in worker processes of one thread each.

    Arguments as for :func:`score_variant`. A variant that cannot be scored is a result with an
    ``error``, not the end.

    Yields:
        Index of a variant and its scores, as they finish.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=prepare_worker, initargs=(os.getpid(),)
    ) as pool:
        futures = {
            pool.submit(_scored, config, seed, tuple(names), images): index
            for index, config in enumerate(configs)
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _scored(config: ModelConfig, seed: int, names: tuple[str, ...], images: int) -> Scored:
    try:
        return score_variant(config, seed, names, images)
    except (RuntimeError, MemoryError) as error:  # torch's word for all that goes wrong
        return Scored({}, {}, " ".join(str(error).split()) or type(error).__name__)
