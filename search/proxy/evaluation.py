"""The accuracy proxy: train a scaled variant on embedded digits for seconds, measure what it does.

One run trains the variant (:mod:`search.proxy.network`) on canvases of digits
(:mod:`search.proxy.digits`) whose cells it must classify: which digit, if its colour is the cue's,
else background. Two things are learned at once, and reported apart. The *relation*, whether a cell
matches the cue, needs windows to communicate. The *recognition* of the digit does not. ``accuracy``
is the share of cells where both are right; see :class:`ProxyResult`.

What makes short runs tell variants apart:

- Every cell is supervised, in two terms: match or not (binary cross entropy of background against
  all digits), and the digit's class in all cells, matching or not.
- Cues are filled blocks, in the first part of the training large ones: without that, whether a run
  finds the relation at all depends on the seed.
- All variants of one seed see the same canvases in the same order, and share the initial values of
  the tensors they share.
- The learning rate falls linearly to zero.
- What misses the relation is trained again, with another seed, and then begins with the relation:
  see :class:`search.proxy.training.Beginning`.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Final

from effvit.config import ModelConfig
from search.proxy.digits import held_out_canvases
from search.proxy.feed import validation_canvases
from search.proxy.network import ProxyNetwork
from search.proxy.recipe import FULL, SEARCH, ProxyRecipe
from search.proxy.scaling import cells_meet, proxy_config
from search.proxy.scores import Scores, measure
from search.proxy.training import Paused, Training, memory_errors, torch_threads, train

MAX_ATTEMPTS = 3
"""Runs of one evaluation, each with a seed of its own, until the relation is found."""

RELATION_FOUND = 0.6
"""Relation from which it counts as found. Chance is 0.5, and stuck runs stay within 0.05 of it."""

RUNG_SHARE = 1 / 4
"""Share of the evaluation's canvases that an unfinished training is measured on."""

TEST_SEED: Final = 2
"""Of the canvases that finalists are tested on."""

_ATTEMPT_SEEDS: Final = 7919  # seeds of later attempts: seed + attempt * this


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxyResult:
    """What a run measured, on cells of canvases with 2 x 2 cues.

    Attributes:
        accuracy: Share of cells with a right decision on match or background and, where the cell
            matches, the right digit. Knowing every digit but never the relation gives 0.5; knowing
            the relation but guessing digits gives 0.55.
        relation: Share of cells with a right decision on match or background; 0.5 is chance.
        recognition: Share of matching cells with the right digit, whatever the decision on match;
            0.1 is chance. Needs no communication between windows.
        relation_near, relation_far: The relation of cells beside the cue, and of those three or
            more cells away from it: what neighbours hand on, and what has to come from afar.
        relation_found: Whether the relation was found, see :data:`RELATION_FOUND`.
        recipe: Name of the recipe.
        steps: Optimiser steps of each attempt.
        seed: Seed that was asked for.
        attempts: Runs that it took; more than one where the relation was not found before. The
            best of them is reported.
        seconds: Wall time of all attempts, composition of canvases included. Not compared.
    """

    accuracy: float
    relation: float
    recognition: float
    relation_near: float
    relation_far: float
    relation_found: bool
    recipe: str
    steps: int
    seed: int
    attempts: int
    seconds: float = dataclasses.field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)


def evaluate(
    config: ModelConfig,
    recipe: ProxyRecipe = SEARCH,
    seed: int = 0,
    *,
    threads: int = 1,
    paused: Paused | None = None,
) -> ProxyResult:
    """Train a variant and measure it on canvases of the validation digits.

    The same arguments give the same result, bit for bit, on one machine. Where the relation is not
    found although the variant can communicate between windows, training is repeated with another
    seed, beginning with the relation, at most :data:`MAX_ATTEMPTS` times in all.

    Args:
        config: The variant at its design resolution; it is scaled by
            :func:`search.proxy.scaling.proxy_config`.
        recipe: How to train.
        seed: Of initial values and of canvases.
        threads: CPU threads.
        paused: From :func:`evaluate_rung` of the same variant, recipe and seed; it saves time.

    Raises:
        ConfigError: The variant's family has no scaling rule, or a scaled value breaks a rule.
        ProxyFailed: The loss is no finite number, or memory does not suffice.
    """
    return train_and_measure(config, recipe, seed, threads, paused)[0]


def evaluate_rung(
    config: ModelConfig,
    recipe: ProxyRecipe,
    seed: int,
    steps: int,
    paused: Paused | None = None,
    *,
    threads: int = 1,
) -> tuple[ProxyResult, Paused]:
    """Train a variant in part, and measure it on :data:`RUNG_SHARE` of the canvases.

    Arguments and errors as for :func:`evaluate`, besides ``steps``, where to pause; the recipe's
    are those of the whole training, and ``paused`` is from an earlier rung.

    Returns:
        What was measured, and what it takes to go on.
    """
    started = time.perf_counter()
    with torch_threads(threads), memory_errors():
        training = Training(proxy_config(config), recipe, seed, paused)
        training.advance(steps)
        scores = measure(training.network, validation_canvases(recipe, RUNG_SHARE))
    result = _result(scores, dataclasses.replace(recipe, steps=steps), seed, 1, started)
    return result, training.pause()


def evaluate_test(
    config: ModelConfig, recipe: ProxyRecipe = FULL, seed: int = 0, *, threads: int = 1
) -> tuple[ProxyResult, ProxyResult, ProxyNetwork]:
    """Train a variant and measure it on validation and test digits: once, for the final report.

    Arguments and errors as for :func:`evaluate`.

    Returns:
        What :func:`evaluate` returns, the same network measured on the test digits, and the
        network. Among repeated attempts the validation digits choose.
    """
    started = time.perf_counter()
    result, network = train_and_measure(config, recipe, seed, threads)
    held_out = held_out_canvases(recipe.evaluation_canvases, TEST_SEED)
    with torch_threads(threads):
        scores = measure(network, held_out)
    seconds = time.perf_counter() - started
    test = dataclasses.replace(result, **dataclasses.asdict(scores), seconds=seconds)
    return result, test, network


def train_and_measure(
    config: ModelConfig,
    recipe: ProxyRecipe,
    seed: int,
    threads: int,
    paused: Paused | None = None,
) -> tuple[ProxyResult, ProxyNetwork]:
    """Train, again with another seed while the relation is not found; keep the best.

    Arguments and errors as for :func:`evaluate`.
    """
    started = time.perf_counter()
    scaled = proxy_config(config)
    limit = MAX_ATTEMPTS if cells_meet(scaled) else 1
    validation = validation_canvases(recipe)
    tried: list[tuple[Scores, ProxyNetwork]] = []
    with torch_threads(threads), memory_errors():
        for attempt in range(limit):
            how, begun = (recipe.repeated(), None) if attempt else (recipe, paused)
            network = train(scaled, how, seed + attempt * _ATTEMPT_SEEDS, begun)
            tried.append((measure(network, validation), network))
            if tried[-1][0].relation >= RELATION_FOUND:
                break
    scores, network = max(tried, key=lambda pair: pair[0].accuracy)
    return _result(scores, recipe, seed, len(tried), started), network


def _result(
    scores: Scores, recipe: ProxyRecipe, seed: int, attempts: int, started: float
) -> ProxyResult:
    return ProxyResult(
        **dataclasses.asdict(scores),
        relation_found=scores.relation >= RELATION_FOUND,
        recipe=recipe.name,
        steps=recipe.steps,
        seed=seed,
        attempts=attempts,
        seconds=time.perf_counter() - started,
    )
