"""Several fidelities: train many variants in part, and only the most promising of them in full.

Successive halving (Jamieson and Talwalkar, AISTATS 2016) for several objectives (as Schmucker et
al., "Multi-objective asynchronous successive halving", 2021, choose by non-domination): variants
of one *bracket* are trained up to a *rung*, a share of the steps, and the best of them go on to the
next one. What is best is told by non-dominated rank, then crowding, among all variants that were
ever measured at this rung: of the accuracy there, and of MACs and latency, which are known in full.
A training goes on where it paused, under the schedule of the whole training: a trial that is
trained in full ends as it would have without rungs, bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effvit import ConfigError
from effvit.config import unknown_name
from search.front import FloatArray, crowding, layers
from search.records import TrialRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fidelities:
    """How many variants are trained how far.

    Attributes:
        rungs: Shares of the steps after which a training pauses, ascending; none: all are trained
            in full. At 0, before any training, MACs and latency alone decide.
        reduction: Of so many variants at a rung, one goes on.
        bracket: Variants that compete with each other.
        purpose: What it is good for.
    """

    rungs: tuple[float, ...]
    reduction: float = 2.0
    bracket: int = 16
    purpose: str

    def __post_init__(self) -> None:
        inside = all(0 <= share < 1 for share in self.rungs)
        if not inside or list(self.rungs) != sorted(self.rungs):
            raise ConfigError(f"rungs must be ascending shares, 0 to below 1, got {self.rungs}")
        if self.reduction <= 1:
            raise ConfigError(f"reduction must be above 1, got {self.reduction}")
        if self.bracket < 1:
            raise ConfigError(f"bracket must be at least 1, got {self.bracket}")

    def steps(self, whole: int) -> tuple[int, ...]:
        """Steps at the rungs of a training of ``whole`` steps; what falls together counts once."""
        rounded = {round(share * whole) for share in self.rungs if share}
        later = {steps for steps in rounded if 0 < steps < whole}
        return tuple(sorted(later | {0 for share in self.rungs if not share}))


FIDELITIES: Mapping[str, Fidelities] = {
    "full": Fidelities(rungs=(), purpose="every variant is trained in full"),
    "halving": Fidelities(
        rungs=(1 / 4, 1 / 2),
        purpose="half of the variants go on after a quarter of the steps, half of these after half",
    ),
    "screening": Fidelities(
        rungs=(0,),
        reduction=4,
        bracket=8,
        purpose="one of four variants is trained at all, chosen by MACs and latency",
    ),
}
"""By name."""


def check_fidelities(name: str) -> Fidelities:
    """Look fidelities up.

    Raises:
        ConfigError: There are none of this name; the message lists the known ones.
    """
    if name not in FIDELITIES:
        raise unknown_name("fidelities", name, FIDELITIES)
    return FIDELITIES[name]


def best_first(losses: FloatArray) -> NDArray[np.int64]:
    """Order points by non-dominated rank, then by crowding, the loneliest first.

    Args:
        losses: (n, m), to be minimised.

    Returns:
        (n,) indices; equal points keep their order.
    """
    ranks = layers(losses)
    distance = np.zeros(len(ranks))
    for rank in np.unique(ranks):
        layer = ranks == rank
        distance[layer] = crowding(losses[layer])
    order: NDArray[np.int64] = np.lexsort((-distance, ranks))
    return order


def promoted(
    members: Sequence[TrialRecord], earlier: Sequence[TrialRecord], steps: int, reduction: float
) -> set[int]:
    """Choose who goes on from a rung.

    Args:
        members: Records of one bracket with a reading at the rung.
        earlier: Records of earlier brackets with one: they set the standard, but do not compete.
        steps: The rung.
        reduction: Of so many members, one goes on.

    Returns:
        Trial numbers. Published models go on in any case: the front is compared with them.
    """
    losses = np.array([_losses(record, steps) for record in [*members, *earlier]])
    places = [place for place in best_first(losses).tolist() if place < len(members)]
    count = math.ceil(len(members) / reduction)
    chosen = [members[place] for place in places[:count]]
    return {r.number for r in [*chosen, *(r for r in members if r.published)]}


def _losses(record: TrialRecord, steps: int) -> tuple[float, ...]:
    assert record.macs is not None
    assert record.latency_ms is not None
    costs = math.log(record.macs), math.log(record.latency_ms)
    return (-record.rungs[str(steps)], *costs) if steps else costs


class Ladder:
    """The rungs of one run, and the files of trainings that pause at them.

    Attributes:
        rungs: Steps after which a training pauses, ascending.
        bracket: Variants that compete; 1 without rungs.
    """

    def __init__(self, kind: Fidelities, steps: int, folder: Path) -> None:
        """Place the rungs.

        Args:
            kind: How many variants are trained how far.
            steps: Of a training in full.
            folder: Where paused trainings are kept; made when there is one.
        """
        self.rungs = kind.steps(steps)
        self.bracket = kind.bracket if self.rungs else 1
        self._reduction = kind.reduction
        self._steps = steps
        self._folder = folder

    def file_of(self, record: TrialRecord) -> Path | None:
        """The file of a trial's paused training; None where none pauses."""
        pauses = any(self.rungs)  # at 0 nothing has been trained
        return self._folder / f"{record.number}-{record.variant_id}.pt" if pauses else None

    def forget(self, record: TrialRecord) -> None:
        """Remove the file of a trial that has ended."""
        path = self.file_of(record)
        if path is not None:
            path.unlink(missing_ok=True)

    def keep_only(self, records: Iterable[TrialRecord]) -> None:
        """Remove all files but those of some trials, and the folder if that leaves none."""
        kept = {self.file_of(record) for record in records}
        for path in self._folder.glob("*"):
            if path not in kept:
                path.unlink()
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def prune(
        self, rung: int, opened: Sequence[TrialRecord], closed: Iterable[TrialRecord]
    ) -> list[TrialRecord]:
        """Decide which trials of a round do not go on from a rung, and mark them.

        Those of the round that are closed already compete all the same: a stop between closing one
        and closing the next changes nothing.

        Args:
            rung: Steps.
            opened: Records of the round's open trials, each with a reading.
            closed: Records of all trials that have ended.

        Returns:
            Records of open trials that have to be closed.
        """
        measured = [record for record in [*opened, *closed] if str(rung) in record.rungs]
        measured.sort(key=lambda record: record.number)
        members = [record for record in measured if record.round == opened[0].round]
        earlier = [record for record in measured if record.round != opened[0].round]
        chosen = promoted(members, earlier, rung, self._reduction)
        pruned = [record for record in opened if record.number not in chosen]
        for record in pruned:
            record.state = "pruned"
            record.reason = (
                f"not promoted after {rung} of {self._steps} steps"
                if rung
                else "not trained: MACs and latency of others promised more"
            )
        return pruned
