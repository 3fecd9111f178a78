"""Several fidelities: train many variants in part, and only the most promising of them in full.

Successive halving (Jamieson and Talwalkar, AISTATS 2016) for several objectives (as Schmucker et
al., "Multi-objective asynchronous successive halving", 2021, choose by non-domination): variants
of one *bracket* are trained up to a *rung*, a share of the steps, and the best of them go on to the
next one. What is best is told by non-dominated rank, then crowding, among all variants that were
ever measured at this rung: of the accuracy there, and of MACs and latency, which are known in full.
A training goes on where it paused, under the schedule of the whole training: a trial that is
trained in full ends as it would have without rungs, bit for bit.

On a data set of the user's a rung may also be a whole training with smaller images, of the network
that the variant is at their size. Who goes on begins anew with images of the full size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effvit import ConfigError
from effvit.config import MIN_RESOLUTION, Resolution, resolution_text, unknown_name
from search.front import FloatArray, crowding, layers
from search.records import TrialRecord


@dataclasses.dataclass(frozen=True)
class Rung:
    """Where variants are compared, and only the best of them go on.

    Attributes:
        steps: Steps after which their trainings pause, or epochs of a training on its own; at 0,
            before any, MACs and latency alone decide.
        resolution: Height and width in pixels of the smaller images of a training on its own; None
            where a training pauses.
    """

    steps: int
    resolution: Resolution | None = None

    @property
    def name(self) -> str:
        """Key of its reading in a trial's record: ``30`` steps, or images of ``32x32``."""
        return str(self.steps) if self.resolution is None else resolution_text(self.resolution)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fidelities:
    """How many variants are trained how far.

    Attributes:
        rungs: Shares of the steps after which a training pauses, ascending; none: all are trained
            in full. At 0, before any training, MACs and latency alone decide.
        sides: Shares of the sides of a data set's images, ascending: of trainings with smaller
            images, before the one with these.
        reduction: Of so many variants at a rung, one goes on.
        bracket: Variants that compete with each other.
        purpose: What it is good for.
    """

    rungs: tuple[float, ...] = ()
    sides: tuple[float, ...] = ()
    reduction: float = 2.0
    bracket: int = 16
    purpose: str

    def __post_init__(self) -> None:
        inside = all(0 <= share < 1 for share in self.rungs)
        if not inside or list(self.rungs) != sorted(self.rungs):
            raise ConfigError(f"rungs must be ascending shares, 0 to below 1, got {self.rungs}")
        inside = all(0 < share < 1 for share in self.sides)
        if not inside or list(self.sides) != sorted(self.sides):
            raise ConfigError(
                f"sides must be ascending shares, above 0 to below 1, got {self.sides}"
            )
        if self.sides and any(self.rungs):
            raise ConfigError(
                f"a training with smaller images does not pause, got rungs {self.rungs} and sides "
                f"{self.sides}"
            )
        if self.reduction <= 1:
            raise ConfigError(f"reduction must be above 1, got {self.reduction}")
        if self.bracket < 1:
            raise ConfigError(f"bracket must be at least 1, got {self.bracket}")

    def steps(self, whole: int) -> tuple[int, ...]:
        """Steps at the rungs of a training of ``whole`` steps; what falls together counts once."""
        rounded = {round(share * whole) for share in self.rungs if share}
        later = {steps for steps in rounded if 0 < steps < whole}
        return tuple(sorted(later | {0 for share in self.rungs if not share}))

    def smaller(self, images: Resolution) -> tuple[Resolution, ...]:
        """Heights and widths of the smaller images, ascending.

        Args:
            images: Height and width of a data set's images, in pixels.

        Raises:
            ConfigError: They would be smaller than any network takes.
        """
        found = []
        for share in self.sides:
            height, width = (round(share * side) for side in images)
            if min(height, width) < MIN_RESOLUTION:
                raise ConfigError(
                    f"images of {share:g} of the side must have sides of at least {MIN_RESOLUTION} "
                    f"pixels, got {resolution_text((height, width))} of {resolution_text(images)} "
                    f"(nearest valid --data-resolution: {math.ceil(MIN_RESOLUTION / share)})"
                )
            found.append((height, width))
        return tuple(found)

    def placed(self, whole: int, images: Resolution | None) -> tuple[Rung, ...]:
        """All rungs in their order.

        Args:
            whole: Steps of a training on the embedded task, epochs of one on a data set.
            images: Height and width of a data set's images; None for the embedded task.

        Raises:
            ConfigError: As :meth:`smaller`, or there is no data set whose images could be.
        """
        if self.sides and images is None:
            raise ConfigError("trainings with smaller images need a data set: give --data")
        sizes = self.smaller(images) if images is not None else ()
        return (
            *(Rung(steps) for steps in self.steps(whole)),
            *(Rung(whole, size) for size in sizes),
        )


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
    "resolution": Fidelities(
        sides=(1 / 2,),
        bracket=8,
        purpose="with --data, half of the variants are trained, after a training of each with "
        "images of half the side",
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
    members: Sequence[TrialRecord], earlier: Sequence[TrialRecord], rung: Rung, reduction: float
) -> set[int]:
    """Choose who goes on from a rung.

    Args:
        members: Records of one bracket with a reading at the rung.
        earlier: Records of earlier brackets with one: they set the standard, but do not compete.
        rung: The rung.
        reduction: Of so many members, one goes on.

    Returns:
        Trial numbers. Published models go on in any case: the front is compared with them.
    """
    losses = np.array([_losses(record, rung) for record in [*members, *earlier]])
    places = [place for place in best_first(losses).tolist() if place < len(members)]
    count = math.ceil(len(members) / reduction)
    chosen = [members[place] for place in places[:count]]
    return {r.number for r in [*chosen, *(r for r in members if r.published)]}


def _losses(record: TrialRecord, rung: Rung) -> tuple[float, ...]:
    assert record.macs is not None
    assert record.latency_ms is not None
    costs = math.log(record.macs), math.log(record.latency_ms)
    return (-record.rungs[rung.name], *costs) if rung.steps else costs


class Ladder:
    """The rungs of one run, and the files of trainings that pause at them.

    Attributes:
        rungs: Where variants are compared, in this order.
        bracket: Variants that compete; 1 without rungs.
    """

    def __init__(
        self, kind: Fidelities, steps: int, folder: Path, images: Resolution | None = None
    ) -> None:
        """Place the rungs.

        Args:
            kind: How many variants are trained how far.
            steps: Of a training in full.
            folder: Where paused trainings are kept; made when there is one.
            images: Height and width of a data set's images; None for the embedded task.

        Raises:
            ConfigError: Smaller images are called for, and there are none, or none so small.
        """
        self.rungs = kind.placed(steps, images)
        self.bracket = kind.bracket if self.rungs else 1
        self._reduction = kind.reduction
        self._steps = steps
        self._folder = folder
        self._images = images

    def file_of(self, record: TrialRecord) -> Path | None:
        """The file of a trial's paused training; None where none pauses."""
        pauses = any(rung.steps and rung.resolution is None for rung in self.rungs)
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
        self, rung: Rung, opened: Sequence[TrialRecord], closed: Iterable[TrialRecord]
    ) -> list[TrialRecord]:
        """Decide which trials of a round do not go on from a rung, and mark them.

        Those of the round that are closed already compete all the same: a stop between closing one
        and closing the next changes nothing.

        Args:
            rung: The rung.
            opened: Records of the round's open trials, each with a reading.
            closed: Records of all trials that have ended.

        Returns:
            Records of open trials that have to be closed.
        """
        measured = [record for record in [*opened, *closed] if rung.name in record.rungs]
        measured.sort(key=lambda record: record.number)
        members = [record for record in measured if record.round == opened[0].round]
        earlier = [record for record in measured if record.round != opened[0].round]
        chosen = promoted(members, earlier, rung, self._reduction)
        pruned = [record for record in opened if record.number not in chosen]
        for record in pruned:
            record.state, record.reason = "pruned", self._reason(rung)
        return pruned

    def _reason(self, rung: Rung) -> str:
        """Why a trial does not go on from a rung."""
        if not rung.steps:
            return "not trained: MACs and latency of others promised more"
        if rung.resolution is None:
            return f"not promoted after {rung.name} of {self._steps} steps"
        assert self._images is not None
        whole = resolution_text(self._images)
        return f"not promoted after a training with images of {rung.name} in the place of {whole}"
