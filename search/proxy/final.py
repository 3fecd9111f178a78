"""Finalists on the further tasks: measured on validation digits and, once, on test digits."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from search.proxy.digits import Task, held_out_canvases
from search.proxy.evaluation import TEST_SEED
from search.proxy.network import ProxyNetwork
from search.proxy.scores import measure
from search.proxy.tasks import LOCALISATION, ROUTING
from search.proxy.textures import held_out_textures
from search.proxy.training import torch_threads
from search.proxy.transfer import (
    TransferRecipe,
    learn,
    localisation_examples,
    share_right,
    texture_examples,
)


def learn_and_test(
    network: ProxyNetwork,
    tasks: Sequence[str],
    recipe: TransferRecipe,
    seed: int,
    *,
    threads: int = 1,
) -> tuple[dict[str, float], dict[str, float]]:
    """Train a network from the cue task on further tasks, on each from where it is now.

    Args:
        network: It stays as it is.
        tasks: Their names.
        recipe: How to train.
        seed: Of canvases.
        threads: CPU threads.

    Returns:
        Shares of right cells by task: on validation, and on test digits.

    Raises:
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    validation, test = {}, {}
    for task in tasks:
        learned = copy.deepcopy(network)
        validation[task] = learn(learned, task, recipe, seed, threads=threads)
        with torch_threads(threads):
            test[task] = _on_test(learned, task, recipe)
    return validation, test


def _on_test(network: ProxyNetwork, task: str, recipe: TransferRecipe) -> float:
    """Share of right test cells; textures show no digits, theirs are canvases of their own."""
    if task == ROUTING:
        count = recipe.routing.evaluation_canvases
        return measure(network, held_out_canvases(count, TEST_SEED, task=Task.HALVES)).relation
    count = recipe.evaluation_canvases
    if task == LOCALISATION:
        return share_right(network, localisation_examples(held_out_canvases(count, TEST_SEED)))
    return share_right(network, texture_examples(*held_out_textures(count, TEST_SEED)))
