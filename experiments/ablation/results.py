"""What an ablation found, as plain data: all that tables, figures and the page only write."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from effvit.config import ConfigError
from experiments.ablation.definition import Ablation
from experiments.ablation.designs import Path
from experiments.ablation.effects import Effect, effects
from experiments.ablation.engine import MeasuredRow, Plan
from experiments.ablation.published import UNPUBLISHED, Printed, PublishedRow, Verdict
from experiments.ablation.significance import Difference, Mean, Scores, corrected, paired, share
from experiments.ablation.store import ROUTING, SCORES

ACCURACY = SCORES[0]


@dataclasses.dataclass(frozen=True)
class Count:
    """An exact count beside the printed one.

    Attributes:
        value: What is counted here; None where nothing could be built.
        printed: The published figure, if there is one.
    """

    value: int | None
    printed: Printed | None

    @property
    def difference(self) -> Decimal | None:
        """What the count, rounded as printed, has more than the published figure."""
        if self.value is None or self.printed is None:
            return None
        return self.printed.difference(self.value)

    @property
    def verdict(self) -> Verdict:
        """How far the published figure is reproduced."""
        if self.printed is None:
            return Verdict.NOT_PUBLISHED
        return Verdict.NOT_MEASURED if self.value is None else self.printed.verdict(self.value)


@dataclasses.dataclass(frozen=True)
class Speed:
    """Speed relative to the first timed row of the group: its time over the row's time.

    Attributes:
        value: The ratio of the two latency ratios; above 1 is faster than the first row.
        low, high: 95 % interval; the relative errors of the two are taken as independent.
        noisy: One of the two was measured on a busy machine.
    """

    value: float
    low: float
    high: float
    noisy: bool


@dataclasses.dataclass(frozen=True)
class RowResult:
    """A row of the result.

    Attributes:
        measured: What was measured of it.
        published: The published row that it stands beside; :data:`UNPUBLISHED` without one.
        speed: Relative to the first timed row of the group; None without latency, and for that
            row itself.
        published_speed: The same from the published figures.
        means: Mean of each score over its seeds.
        above, base: Paired difference of each score to the row above and to the first trained row
            of the group, Holm-corrected down the column.
        steps: Those of them that the published step is compared with: to the row above in a path,
            else to the first trained row.
        published_step: That step of the published accuracy.
    """

    measured: MeasuredRow
    published: PublishedRow
    speed: Speed | None
    published_speed: float | None
    means: Mapping[str, Mean | None]
    above: Mapping[str, Difference | None]
    base: Mapping[str, Difference | None]
    steps: Mapping[str, Difference | None]
    published_step: Decimal | None

    @property
    def label(self) -> str:
        """Its name."""
        return self.measured.row.label

    @property
    def params(self) -> Count:
        """Parameters beside the printed ones."""
        costs = self.measured.costs
        return Count(costs and costs.params, self.published.params)

    @property
    def macs(self) -> Count:
        """MACs beside the printed ones."""
        costs = self.measured.costs
        return Count(costs and costs.macs, self.published.macs)

    @property
    def speed_verdict(self) -> Verdict:
        """How far the published speed is reproduced."""
        return speed_verdict(self.speed, self.published_speed)

    @property
    def order_verdict(self) -> Verdict:
        """Whether the proxy accuracy makes a step of the published accuracy's sign."""
        return order_verdict(self.steps[ACCURACY], self.published_step)

    @property
    def routing_verdict(self) -> Verdict:
        """The same of the second task."""
        return order_verdict(self.steps[ROUTING], self.published_step)


@dataclasses.dataclass(frozen=True)
class Result:
    """What an ablation found.

    Attributes:
        name: Its name in the catalogue.
        ablation: What was asked.
        plan: How it was measured.
        rows: Row by row.
        effects: Main effects and interactions; empty unless the design is factorial.
    """

    name: str
    ablation: Ablation
    plan: Plan
    rows: tuple[RowResult, ...]
    effects: tuple[Effect, ...]

    @property
    def trained(self) -> bool:
        """Whether any row has a proxy accuracy."""
        return any(row.means[ACCURACY] for row in self.rows)

    @property
    def routed(self) -> bool:
        """Whether any row was trained on the second task."""
        return any(row.means[ROUTING] for row in self.rows)

    @property
    def timed(self) -> bool:
        """Whether any row has a latency."""
        return any(row.measured.latency for row in self.rows)


def summarise(name: str, ablation: Ablation, plan: Plan, measured: Sequence[MeasuredRow]) -> Result:
    """Turn measurements into the result.

    Raises:
        ConfigError: The published table has a row that the ablation does not have.
    """
    published = _published(ablation, measured)
    printed = [published.get(row.row.label, UNPUBLISHED) for row in measured]
    scores = {score: [_scores(row, score) for row in measured] for score in SCORES}
    groups = [row.row.group for row in measured]
    befores = rows_above(groups)
    firsts = first_rows(groups, [bool(row.trainings) for row in measured])
    timed = first_rows(groups, [row.latency is not None for row in measured])
    above = {score: _differences(rows, befores) for score, rows in scores.items()}
    base = {score: _differences(rows, firsts) for score, rows in scores.items()}
    path = isinstance(ablation.design, Path)
    rows = []
    for place, row in enumerate(measured):
        first = timed[place]
        before = befores[place] if path else firsts[place]
        rows.append(
            RowResult(
                measured=row,
                published=printed[place],
                speed=None if first is None else _speed(measured[first], row),
                published_speed=None if first is None else _ratio(printed[first], printed[place]),
                means={s: share(list(column[place].values())) for s, column in scores.items()},
                above={s: column[place] for s, column in above.items()},
                base={s: column[place] for s, column in base.items()},
                steps={s: column[place] for s, column in (above if path else base).items()},
                published_step=None if before is None else _step(printed[before], printed[place]),
            )
        )
    return Result(name, ablation, plan, tuple(rows), tuple(_effects(ablation, measured, scores)))


def _published(ablation: Ablation, measured: Sequence[MeasuredRow]) -> Mapping[str, PublishedRow]:
    if ablation.published is None:
        return {}
    rows = ablation.published.rows()
    labels = [row.row.label for row in measured]
    for label in rows:
        if label not in labels:
            known = ", ".join(labels)
            raise ConfigError(
                f"{ablation.published.file} has a row {label!r}, the ablation has {known}"
            )
    return rows


def _scores(row: MeasuredRow, score: str) -> Scores:
    """One score by seed; failed trainings leave their seed out."""
    return {t.seed: t.scores[score] for t in row.trainings if score in t.scores}


def first_rows(groups: Sequence[str], present: Sequence[bool]) -> list[int | None]:
    """Find what rows are compared with: the first row of their group that is present.

    Args:
        groups: The group of each row.
        present: Whether a row has the measure; a group without any starts at its first row.

    Returns:
        A place for each row; None for that first row itself and for those before it.
    """
    places: list[int | None] = []
    for place, group in enumerate(groups):
        members = [other for other, name in enumerate(groups) if name == group]
        first = next((other for other in members if present[other]), members[0])
        places.append(first if first < place else None)
    return places


def rows_above(groups: Sequence[str]) -> list[int | None]:
    """Find the nearest row above within each row's group; None for its first row."""
    earlier: dict[str, int] = {}
    places: list[int | None] = []
    for place, group in enumerate(groups):
        places.append(earlier.get(group))
        earlier[group] = place
    return places


def _differences(rows: Sequence[Scores], others: Sequence[int | None]) -> list[Difference | None]:
    """Differences of rows to others, corrected over the column; none where there is no other."""
    return corrected(
        [
            None if other is None else paired(row, rows[other])
            for row, other in zip(rows, others, strict=True)
        ]
    )


# --- speed --------------------------------------------------------------------------------------


def _speed(first: MeasuredRow, row: MeasuredRow) -> Speed | None:
    a, b = first.latency, row.latency
    if a is None or b is None:
        return None
    value = a.ratio / b.ratio
    error = math.hypot(math.log(a.high / a.low) / 2, math.log(b.high / b.low) / 2)
    return Speed(value, value * math.exp(-error), value * math.exp(error), a.noisy or b.noisy)


def _ratio(first: PublishedRow, row: PublishedRow) -> float | None:
    if row.throughput is None or first.throughput is None:
        return None
    return float(row.throughput.value / first.throughput.value)


def speed_verdict(speed: Speed | None, published: float | None) -> Verdict:
    """Compare a measured speed with a published one."""
    if published is None:
        return Verdict.NOT_PUBLISHED
    if speed is None:
        return Verdict.NOT_MEASURED
    if speed.noisy:
        return Verdict.UNRESOLVED
    if speed.low <= published <= speed.high:
        return Verdict.REPRODUCED
    if speed.low <= 1 <= speed.high:
        return Verdict.UNRESOLVED
    same_side = (published - 1) * (speed.value - 1) > 0
    return Verdict.ORDER if same_side else Verdict.NOT_REPRODUCED


# --- accuracy -----------------------------------------------------------------------------------


def _step(before: PublishedRow, row: PublishedRow) -> Decimal | None:
    if row.score is None or before.score is None:
        return None
    return row.score.value - before.score.value


def order_verdict(difference: Difference | None, step: Decimal | None) -> Verdict:
    """Compare the sign of a step of the proxy accuracy with that of the published accuracy."""
    if step is None:
        return Verdict.NOT_PUBLISHED
    if difference is None:
        return Verdict.NOT_MEASURED
    if not difference.significant:
        return Verdict.UNRESOLVED
    same = float(step) * difference.value > 0
    return Verdict.ORDER if same else Verdict.NOT_REPRODUCED


def _effects(
    ablation: Ablation, measured: Sequence[MeasuredRow], scores: Mapping[str, Sequence[Scores]]
) -> list[Effect]:
    """Effects of a factorial design that is complete, on scores that all rows have, and costs."""
    if not ablation.factorial or any(row.costs is None for row in measured):
        return []
    costs = [row.costs for row in measured if row.costs is not None]
    return effects(
        [row.row.setting for row in measured],
        ablation.axes,
        ablation.order,
        {score: rows for score, rows in scores.items() if all(rows)},
        {"params": [c.params for c in costs], "macs": [c.macs for c in costs]},
    )
