"""Which rungs reach the hypervolume of full training with the fewest training steps?

Policies of successive halving are replayed on recorded learning curves (:mod:`.fidelity_curves`):
each seed is an order in which a random sampler proposes the recorded variants, the same for all
policies. Full training of the first third of them sets the hypervolume to reach; a policy goes on
with further variants until it has as much. The answer is its share of the training steps, and how
much of the hypervolume it has after the same variants. Two policies show what the readings add:
one promotes at random, one by MACs and latency alone, before any training.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from effvit import ConfigError
from experiments.catalogue import DATA, Options
from experiments.fidelity_curves import RAW
from experiments.ranking import estimate, kendall
from search.fidelities import best_first
from search.front import FloatArray, hypervolume, non_dominated
from search.proxy import SEARCH

SEEDS, QUICK_SEEDS = 40, 10
KNOWN_SHARE = 1 / 3
"""Of the recorded variants, those whose full training sets the hypervolume to reach."""

SUMMARY, AGREEMENT = "fidelity_benchmark.csv", "fidelity_agreement.csv"
IntArray = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """A way to decide how far a variant is trained.

    Attributes:
        rungs: Steps at which it decides, ascending; none: all variants are trained in full. At 0
            it decides by MACs and latency alone.
        chance: It decides at random instead.
        reduction: Of so many variants, one goes on.
        bracket: Variants that compete.
    """

    rungs: tuple[int, ...] = ()
    reduction: float = 2.0
    bracket: int = 8
    chance: bool = False

    @property
    def name(self) -> str:
        """How tables call it."""
        if not self.rungs:
            return "full training"
        rungs = " and ".join(map(str, self.rungs))
        start = "chance" if self.chance else "rungs"
        return f"{start} at {rungs}, 1 of {self.reduction:g}, brackets of {self.bracket}"

    def steps(self, rung: int | None) -> int:
        """Training steps of one variant from the rung before up to this one; None is the end."""
        begun = max((step for step in self.rungs if rung is None or step < rung), default=0)
        return (SEARCH.steps if rung is None else rung) - begun


POLICIES: tuple[Policy, ...] = (
    Policy(),
    *(
        Policy(rungs=rungs, reduction=reduction, bracket=bracket, chance=chance)
        for bracket in (4, 8)
        for chance, rungs, reduction in (
            (True, (0,), 2),
            (False, (0,), 2),
            (False, (0,), 4),
            (False, (30,), 2),
            (False, (30,), 4),
            (False, (60,), 2),
            (False, (60,), 4),
            (False, (90,), 4),
            (False, (30, 60), 2),
            (False, (0, 60), 2),
        )
    ),
)


def run(options: Options) -> None:
    """Replay, summarise, print."""
    curves = Curves(read_curves())
    seeds = range(options.seed, options.seed + (QUICK_SEEDS if options.quick else SEEDS))
    agreement = pd.DataFrame(curves.agreement())
    summary = pd.DataFrame([summarise(curves, policy, seeds) for policy in POLICIES])
    console = Console()
    for table, name in ((agreement, AGREEMENT), (summary, SUMMARY)):
        table.to_csv(options.out / name, index=False, float_format="%.4f")
        _show(table, console)
    console.print(f"{len(curves.losses)} variants, {len(seeds)} orders of them")
    console.print(f"written: {options.out / AGREEMENT}, {options.out / SUMMARY}", soft_wrap=True)


def read_curves(path: Path = DATA / RAW) -> pd.DataFrame:
    """Read recorded learning curves.

    Raises:
        ConfigError: There are none.
    """
    if not path.exists():
        raise ConfigError(f"{path} is missing: python -m experiments.run fidelity_curves makes it")
    return pd.read_csv(path)


class Curves:
    """Recorded variants as losses from 0 to 1.

    Attributes:
        losses: (n, 3), of trained variants: 1 - accuracy, MACs, latency; the last two by their
            logarithm between the bounds of the table, as in a search.
        steps: (n,), training steps of full training, repeated ones included.
    """

    REFERENCE = (1.0, 1.0, 1.0)

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        costs = np.log(table[["macs", "latency_ratio"]].to_numpy(np.float64))
        low, high = costs.min(0), costs.max(0)
        margin = math.log(1.01)
        self._costs: FloatArray = (costs - low + margin) / (high - low + 2 * margin)
        self.losses = self._with(table["full_accuracy"])
        self.steps: IntArray = table["attempts"].to_numpy(np.int64) * SEARCH.steps

    def _with(self, accuracy: pd.Series) -> FloatArray:
        losses: FloatArray = np.column_stack([1 - accuracy.to_numpy(np.float64), self._costs])
        return losses

    def readings(self, rung: int, rng: np.random.Generator, *, chance: bool) -> FloatArray:
        """Losses (n, m) by which a policy decides at a rung."""
        if chance:
            return rng.random((len(self.losses), 1))
        if rung == 0:
            return self._costs
        return self._with(self._table[f"continued_{rung}_accuracy"])

    def agreement(self) -> Iterator[dict[str, str | float]]:
        """Kendall's tau of each reading with the accuracy of full training, where it was taken."""
        truth = self._table["full_accuracy"].to_numpy(np.float64)
        others = [name for name in map(str, self._table) if name.endswith("_accuracy")]
        for name in [*others, "macs", "params"]:
            if name != "full_accuracy":
                values = self._table[name].to_numpy(np.float64)
                taken = ~np.isnan(values)
                found = estimate(kendall, values[taken], truth[taken])
                row: dict[str, str | float] = {"reading": name, "variants": int(taken.sum())}
                yield row | {"tau": found.value, "low": found.low, "high": found.high}


def replay(
    curves: Curves, policy: Policy, order: IntArray, seed: int
) -> tuple[IntArray, FloatArray]:
    """Let a policy meet variants in an order.

    Returns:
        Training steps and hypervolume after each bracket; without rungs, after each variant.
    """
    rng = np.random.default_rng((seed, 1))
    size = policy.bracket if policy.rungs else 1
    readings = {rung: curves.readings(rung, rng, chance=policy.chance) for rung in policy.rungs}
    reached: dict[int, list[int]] = {rung: [] for rung in policy.rungs}
    front, volume = np.empty((0, curves.losses.shape[1])), 0.0
    spent, steps, volumes = 0, [], []
    for start in range(0, len(order), size):
        left = order[start : start + size].tolist()
        for rung in policy.rungs:
            spent += len(left) * policy.steps(rung)
            earlier = list(reached[rung])
            reached[rung] += left
            left = _promoted(readings[rung], left, earlier, policy.reduction)
        # Repeated trainings, where the relation was not found, are trainings in full.
        spent += sum(int(curves.steps[v]) - SEARCH.steps + policy.steps(None) for v in left)
        known = np.vstack([front, curves.losses[left]])
        kept = non_dominated(known)
        if kept[len(front) :].any():
            front = known[kept]
            volume = hypervolume(front, Curves.REFERENCE)
        steps.append(spent)
        volumes.append(volume)
    return np.array(steps), np.array(volumes)


def _promoted(
    losses: FloatArray, members: Sequence[int], earlier: Sequence[int], reduction: float
) -> list[int]:
    """As :func:`search.fidelities.promoted`."""
    ranked = best_first(losses[[*members, *earlier]]).tolist()
    places = [place for place in ranked if place < len(members)]
    return [members[place] for place in places[: math.ceil(len(members) / reduction)]]


def summarise(curves: Curves, policy: Policy, seeds: Sequence[int]) -> dict[str, str | float]:
    """One row: shares of full training's steps and hypervolume, with 95 % intervals over orders."""
    shares, kept, spent = [], [], []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(curves.losses))
        known = order[: round(len(order) * KNOWN_SHARE)]
        goal = hypervolume(curves.losses[known], Curves.REFERENCE)
        whole = int(curves.steps[known].sum())
        steps, volumes = replay(curves, policy, order, seed)
        there = np.flatnonzero(volumes >= goal)
        shares.append(steps[there[0]] / whole if len(there) else math.inf)
        same_steps, same_volumes = replay(curves, policy, known, seed)
        kept.append(same_volumes[-1] / goal)
        spent.append(same_steps[-1] / whole)
    low, median, high = np.quantile(shares, [0.025, 0.5, 0.975], method="nearest")
    return {
        "policy": policy.name,
        "steps to reach it": float(median),
        "low": float(low),
        "high": float(high),
        "reached": float(np.isfinite(shares).mean()),
        "steps for the same variants": float(np.mean(spent)),
        "hypervolume of the same variants": float(np.mean(kept)),
    }


def _show(table: pd.DataFrame, console: Console) -> None:
    shown = Table(box=None, header_style="bold")
    for place, name in enumerate(table):
        shown.add_column(str(name), justify="right" if place else "left")
    for row in itertools.islice(table.itertuples(index=False), None):
        shown.add_row(str(row[0]), *(f"{value:.3f}" for value in row[1:]))
    console.print(shown)
