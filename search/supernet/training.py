"""Training the shared weights: a few variants a step, of all sizes, each on canvases of its own.

The sandwich rule (arXiv 1903.05134, section 3.2): among a step's variants is the smallest or the
largest, in turn; the others are drawn balanced over MACs (:mod:`search.supernet.sampling`), so that
weights of small variants are not those that larger ones left. Their gradients are averaged. There
is no in-place distillation: every cell is labelled, and nothing measured here says that it helps.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from effvit import ConfigError, ModelConfig, model_cost
from search.proxy import (
    BETAS,
    CLIP,
    ProxyFailed,
    ProxyRecipe,
    as_input,
    batches,
    losses,
    torch_threads,
)
from search.proxy_scaling import proxy_config
from search.supernet.sampling import BalancedSampler, largest, smallest
from search.supernet.weights import SharedWeights, skeleton
from spaces.space import Space

RECIPE = ProxyRecipe(
    name="supernet",
    steps=1000,
    batch=12,
    first_cues=(3, 4),
    first_share=0.35,
    later_cues=(2, 3, 4),
    distinct_canvases=4800,
)
"""How the shared weights are trained; the canvases of a step are split over its variants.

Whether these are enough is for :func:`search.supernet.trainer.check` to say.
"""

PATHS = 3
"""Variants a step, one of them the smallest or the largest."""

WIDEST_OF = 8
"""Variants of the pool which, with the extremes and the published, say how wide tensors are."""


@dataclasses.dataclass(frozen=True)
class Paths:
    """Which variants train the weights.

    Attributes:
        smallest, largest: By MACs, of those that keep the budget.
        sampler: Draws the others.
        shaping: Scaled variants as wide as any of the space.
    """

    smallest: ModelConfig
    largest: ModelConfig
    sampler: BalancedSampler
    shaping: tuple[ModelConfig, ...]

    @classmethod
    def of(cls, space: Space, seed: int, max_macs: float | None = None) -> Paths:
        """Find them.

        Args:
            space: The space.
            seed: Of the draws.
            max_macs: Budget of the variants that are trained, if any.
        """
        sampler = BalancedSampler(space, seed, max_macs=max_macs)
        pool = sampler.pool
        low, high = smallest(pool, space), largest(pool, space)
        shaping = [low, high, *space.published().values(), *pool[:WIDEST_OF]]
        return cls(
            smallest=low,
            largest=high if sampler.fits(high) else max(pool, key=lambda c: model_cost(c).macs),
            sampler=sampler,
            shaping=tuple(proxy_config(config) for config in shaping),
        )

    def steps(self) -> Iterator[tuple[ModelConfig, ...]]:
        """Variants of each step, without end."""
        ends = itertools.cycle((self.largest, self.smallest))
        drawn = iter(self.sampler)
        while True:
            yield (next(ends), *itertools.islice(drawn, PATHS - 1))


@dataclasses.dataclass(frozen=True)
class Trained:
    """Shared weights, and which of their tensors any variant trained."""

    weights: SharedWeights
    keys: frozenset[str]


def train_supernet(
    paths: Paths,
    recipe: ProxyRecipe,
    seed: int,
    *,
    threads: int = 1,
    after_step: Callable[[int], None] | None = None,
) -> Trained:
    """Train the shared weights of a space; the same arguments give the same weights, bit for bit.

    Args:
        paths: Which variants.
        recipe: How; its batch is a multiple of :data:`PATHS`.
        seed: Of initial values and of canvases.
        threads: CPU threads.
        after_step: Called with the number of steps done.

    Raises:
        ConfigError: The batch cannot be split.
        ProxyFailed: The loss is no finite number.
    """
    if recipe.batch % PATHS:
        nearest = max(1, round(recipe.batch / PATHS)) * PATHS
        raise ConfigError(
            f"a supernet's batch is split over {PATHS} variants, got {recipe.batch} canvases "
            f"(nearest valid: {nearest})"
        )
    weights = SharedWeights(paths.shaping, seed)
    optimizer = _Optimizer(weights, recipe)
    with torch_threads(threads):
        steps = zip(batches(recipe, seed), paths.steps(), strict=False)
        for step, ((part, chosen), configs) in enumerate(steps):
            optimizer.begin()
            size = recipe.batch // PATHS
            for number, config in enumerate(configs):
                own = chosen[number * size : (number + 1) * size]
                scaled = proxy_config(config)
                # Gradients of variants add up; each loss is a mean over its own canvases.
                outputs = functional_call(
                    skeleton(scaled), weights.slices(scaled), (as_input(part.images[own]),)
                )
                relation, recognition = losses(
                    outputs.flatten(0, 1), part, own, recipe.label_smoothing
                )
                loss: Tensor = (relation + recipe.recognition_weight * recognition) / PATHS
                if not math.isfinite(loss.item()):
                    raise ProxyFailed(f"loss is {loss.item()} at step {step} of {recipe.steps}")
                loss.backward()
            optimizer.step(recipe.rate(step))
            if after_step is not None:
                after_step(step + 1)
    return Trained(weights, frozenset(optimizer.known))


class _Optimizer:
    """AdamW over tensors that join when a variant first needs them."""

    def __init__(self, weights: SharedWeights, recipe: ProxyRecipe) -> None:
        self._weights = weights
        self._settings: dict[str, Any] = {"betas": BETAS, "weight_decay": recipe.weight_decay}
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
