"""Training the shared weights: first the largest variant, then a few of all sizes a step.

The largest is trained alone until it has found the relation, as in progressive shrinking (Cai et
al., Once-for-all, arXiv 1908.09791, section 3): many variants at once, from random weights, had not
found it after 400 steps. Then follows the sandwich rule (arXiv 1903.05134, section 3.2): among a
step's variants is the smallest or the largest, in turn; the others are drawn balanced over MACs
(:mod:`search.supernet.sampling`), so that weights of small variants are not those that larger ones
left. Each has canvases of its own, their gradients are averaged. There is no in-place distillation:
every cell is labelled, and nothing measured here says that it helps.

Variants whose cells never meet are not trained: they cannot learn the relation, which the shared
weights are to hold.

Where accuracy is the mean of the cue task and routing, the weights are then trained on for routing,
several variants a step from the beginning. A share of the canvases keeps the cue task alive, so
that the same weights are measured on both.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from effvit import ConfigError, ModelConfig, model_cost
from search.proxy import ProxyFailed, ProxyRecipe
from search.proxy.digits import Canvases
from search.proxy.feed import as_input, batches
from search.proxy.routing import RoutingRecipe, routing_batches
from search.proxy.scaling import proxy_config
from search.proxy.tasks import CUE, ROUTING
from search.proxy.training import BETAS, CLIP, losses, torch_threads
from search.supernet.sampling import BalancedSampler, largest, smallest
from search.supernet.weights import SharedWeights, skeleton, widen
from spaces.space import Space

RECIPE = ProxyRecipe(
    name="supernet",
    steps=500,
    batch=12,
    first_cues=(3, 4),
    first_share=0.35,
    later_cues=(2, 3, 4),
    distinct_canvases=4800,
)
"""How the shared weights are trained; the canvases of a step are split over its variants.

Whether these are enough is for :func:`search.supernet.trainer.check` to say.
"""

ROUTING_RECIPE = RoutingRecipe(name="supernet", cue=RECIPE, steps=600, batch=12, kept=3)
"""The same, and how they are trained on for routing."""

SupernetRecipe: TypeAlias = ProxyRecipe | RoutingRecipe
"""Of the cue task alone, or of routing after it."""

RECIPES: Final[Mapping[tuple[str, ...], SupernetRecipe]] = {
    (CUE,): RECIPE,
    (CUE, ROUTING): ROUTING_RECIPE,
}
"""By the tasks that accuracy is the mean of."""

PATHS = 3
"""Variants a step, one of them the smallest or the largest."""

ALONE_SHARE = 0.4
"""Share of the steps, at most, that the largest variant is trained alone."""

FOUND_STEPS, FOUND_LOSS = 20, 0.2
"""It is alone until the mean of its relation term over so many steps is below so many nats; chance
is 0.69."""

WIDEST_OF = 8
"""Variants of the pool from which the widest are looked for, beside extremes and published."""


def parts(recipe: SupernetRecipe) -> tuple[ProxyRecipe, RoutingRecipe | None]:
    """How the weights are trained on the cue task, and on routing if they are."""
    return (recipe.cue, recipe) if isinstance(recipe, RoutingRecipe) else (recipe, None)


def steps_of(recipe: SupernetRecipe) -> int:
    """Steps of a whole training."""
    cue, routing = parts(recipe)
    return cue.steps + (routing.steps if routing else 0)


@dataclasses.dataclass(frozen=True)
class Paths:
    """Which variants train the weights.

    Attributes:
        smallest, largest: By MACs, of those that keep the budget and whose cells meet.
        sampler: Draws the others, whose cells meet.
        space: Where they come from.
        start: Variants from which the widest are looked for.
    """

    smallest: ModelConfig
    largest: ModelConfig
    sampler: BalancedSampler
    space: Space
    start: tuple[ModelConfig, ...]

    @functools.cached_property
    def shaping(self) -> tuple[ModelConfig, ...]:
        """Scaled variants as wide as any of the space; finding them takes seconds."""
        return tuple(widest(self.space, self.start))

    @classmethod
    def of(cls, space: Space, seed: int, max_macs: float | None = None) -> Paths:
        """Find them.

        Args:
            space: The space.
            seed: Of the draws.
            max_macs: Budget of the variants that are trained, if any.
        """
        sampler = BalancedSampler(space, seed, max_macs=max_macs, learn=True)
        pool = sampler.pool
        low, high = smallest(pool, space), largest(pool, space)
        return cls(
            smallest=low,
            largest=high if sampler.fits(high) else max(pool, key=lambda c: model_cost(c).macs),
            sampler=sampler,
            space=space,
            start=(low, high, *space.published().values(), *pool[:WIDEST_OF]),
        )

    def steps(self) -> Iterator[tuple[ModelConfig, ...]]:
        """Variants of each step, without end."""
        ends = itertools.cycle((self.largest, self.smallest))
        drawn = iter(self.sampler)
        while True:
            yield (next(ends), *itertools.islice(drawn, PATHS - 1))


def widest(space: Space, start: Sequence[ModelConfig]) -> list[ModelConfig]:
    """Find scaled variants that together are as wide, in every axis of a tensor, as any.

    The one with the most MACs is not: a stage without attention has tensors that one with it lacks,
    and maps of wide heads are rounded up to them. So its neighbours are looked at as well, and
    those of each variant that is wider somewhere than all before.

    Args:
        space: The space.
        start: Variants to begin with.
    """
    top = max(start, key=lambda config: model_cost(config).macs)
    extents: dict[str, int] = {}
    found = []
    waiting = deque(dict.fromkeys((top, *start)))
    seen = set(waiting)
    while waiting:
        config = waiting.popleft()
        scaled = proxy_config(config)
        before = widen(extents, scaled)
        if before:
            found.append(scaled)
        if config == top or any(before.values()):
            near = [other for other in space.neighbours(config) if other not in seen]
            seen.update(near)
            waiting += near
    return found


@dataclasses.dataclass(frozen=True)
class Trained:
    """Shared weights, and which of their tensors any variant trained."""

    weights: SharedWeights
    keys: frozenset[str]


def train_supernet(
    paths: Paths,
    recipe: SupernetRecipe,
    seed: int,
    *,
    threads: int = 1,
    after_step: Callable[[int], None] | None = None,
) -> Trained:
    """Train the shared weights of a space; the same arguments give the same weights, bit for bit.

    Args:
        paths: Which variants.
        recipe: How; its batches are multiples of :data:`PATHS`.
        seed: Of initial values and of canvases.
        threads: CPU threads.
        after_step: Called with the number of steps done.

    Raises:
        ConfigError: The batch cannot be split.
        ProxyFailed: The loss is no finite number.
    """
    cue, routing = parts(recipe)
    for each in (cue, routing) if routing else (cue,):
        _check_batch(each.batch)
    weights = SharedWeights(paths.shaping, seed)
    several = paths.steps()
    done = itertools.count(1)
    tell = after_step or (lambda _: None)
    with torch_threads(threads):
        learning = _Learning(weights, cue)
        beginning = _Beginning(round(ALONE_SHARE * cue.steps))
        for part, chosen in batches(cue, seed):
            configs = (paths.largest,) if beginning.goes_on else next(several)
            beginning.saw(learning.step(configs, part, chosen))
            tell(next(done))
        if routing:
            learning = _Learning(weights, routing)
            for part, chosen in routing_batches(routing, seed):
                learning.step(next(several), part, _dealt(chosen))
                tell(next(done))
    return Trained(weights, learning.known)


def _check_batch(count: int) -> None:
    if count % PATHS:
        nearest = max(1, round(count / PATHS)) * PATHS
        raise ConfigError(
            f"a supernet's batch is split over {PATHS} variants, got {count} canvases "
            f"(nearest valid: {nearest})"
        )


def _dealt(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """In another order, in which each variant's share has canvases from all over the batch."""
    dealt: NDArray[np.int64] = chosen.reshape(-1, PATHS).T.ravel()
    return dealt


class _Learning:
    """Shared weights that learn a task.

    Args:
        weights: They are changed.
        recipe: How; of a task's own part of the training.
    """

    def __init__(self, weights: SharedWeights, recipe: SupernetRecipe) -> None:
        self._weights = weights
        self._recipe = recipe
        self._optimizer = _Optimizer(weights, recipe.weight_decay)
        self._steps = itertools.count()

    @property
    def known(self) -> frozenset[str]:
        """Keys of the tensors that the weights had by now."""
        return frozenset(self._optimizer.known)

    def step(
        self, configs: Sequence[ModelConfig], part: Canvases, chosen: NDArray[np.int64]
    ) -> float:
        """Go a step; returns the mean relation term of the variants.

        Raises:
            ProxyFailed: The loss is no finite number.
        """
        step, recipe = next(self._steps), self._recipe
        self._optimizer.begin()
        relation = _add_gradients(self._weights, configs, recipe, part, chosen)
        if not math.isfinite(relation):
            raise ProxyFailed(f"loss is {relation} at step {step} of {recipe.steps}")
        self._optimizer.step(recipe.rate(step))
        return relation


def _add_gradients(
    weights: SharedWeights,
    configs: Sequence[ModelConfig],
    recipe: SupernetRecipe,
    part: Canvases,
    chosen: NDArray[np.int64],
) -> float:
    """Add up gradients of variants, each on its share of a step's canvases.

    Returns:
        Mean of their relation terms; no finite number where any loss is none.
    """
    means = []
    for config, own in zip(configs, np.split(chosen, len(configs)), strict=True):
        scaled = proxy_config(config)
        images = as_input(part.images[own])
        outputs = functional_call(skeleton(scaled), weights.slices(scaled), (images,))
        relation, recognition = losses(outputs.flatten(0, 1), part, own, recipe.label_smoothing)
        loss: Tensor = (relation + recipe.recognition_weight * recognition) / len(configs)
        loss.backward()
        means.append(relation.item() if math.isfinite(loss.item()) else math.nan)
    return float(np.mean(means))


class _Beginning:
    """The part of a training in which the largest variant is alone.

    Attributes:
        goes_on: Whether the next step belongs to it.

    Args:
        limit: Steps that it lasts at most.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._last: deque[float] = deque(maxlen=FOUND_STEPS)
        self.goes_on = limit > 0

    def saw(self, relation: float) -> None:
        """Take in the relation term of a step."""
        self._left -= 1
        self._last.append(relation)
        found = len(self._last) == FOUND_STEPS and np.mean(self._last) < FOUND_LOSS
        self.goes_on = self.goes_on and self._left > 0 and not found


class _Optimizer:
    """AdamW over tensors that join when a variant first needs them."""

    def __init__(self, weights: SharedWeights, weight_decay: float) -> None:
        self._weights = weights
        self._settings: dict[str, Any] = {"betas": BETAS, "weight_decay": weight_decay}
        self._adam: torch.optim.AdamW | None = None
        self.known: set[str] = set()

    def begin(self) -> None:
        """Forget the gradients of the step before."""
        for tensor in self._weights.tensors.values():
            tensor.grad = None

    def step(self, rate: float) -> None:
        """Go a step along the gradients; tensors without one stay as they are."""
        new = {k: t for k, t in self._weights.tensors.items() if k not in self.known}
        self.known |= set(new)
        if self._adam is None:
            self._adam = torch.optim.AdamW(list(new.values()), **self._settings)
        elif new:
            self._adam.add_param_group({"params": list(new.values())})
        for group in self._adam.param_groups:
            group["lr"] = rate
        nn.utils.clip_grad_norm_(list(self._weights.tensors.values()), CLIP)
        self._adam.step()
