"""What the records say: each figure and table of a report as plain data, without any drawing.

Costs are compared as "fewer is better" and shares as "more is better". A value that was not
measured is NaN; whatever needs it leaves the variant out. Drawing (:mod:`reports.figures`,
:mod:`reports.charts`) and writing (:mod:`reports.page`) read only what is defined here.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from reports.records import Finalist, Run, Settings, Trial

MISSING = "—"
"""Shown where a value was not measured."""

NBSP = "\N{NO-BREAK SPACE}"
"""Keeps a number and its unit on one line."""

MIN_FOR_TAU = 3
"""Fewest variants for which a rank correlation is stated."""


# --- quantities ---------------------------------------------------------------------------------


class Quantity(NamedTuple):
    """How a record column is shown: its name, the axis label, the unit and how much one unit is."""

    name: str
    label: str
    unit: str
    scale: float

    def text(self, value: float) -> str:
        """A value with three digits and its unit; a dash where it was not measured."""
        if math.isnan(value):
            return MISSING
        if not self.unit:
            return f"{value:.3f}"
        number = value / self.scale
        digits = max(0, 2 - math.floor(math.log10(number))) if number > 0 else 0
        return f"{number:.{min(digits, 6)}f}{NBSP}{self.unit}"

    def tick(self, value: float) -> str:
        """A round value without trailing zeros, e.g. ``0.5 G``."""
        return f"{value / self.scale:g} {self.unit}".strip()

    def interval(self, value: float, low: float, high: float) -> str:
        """A value with its interval in brackets, where it has one."""
        if math.isnan(low) or math.isnan(high):
            return self.text(value)
        ends = (self.text(end).removesuffix(NBSP + self.unit) for end in (low, high))
        return f"{self.text(value)} [{', '.join(ends)}]"


PREDICTED = "predicted"
"""Source of a latency that nobody measured."""

QUANTITIES: Mapping[str, Quantity] = {
    "macs": Quantity("MACs", "multiply-accumulates (MACs)", "G", 1e9),
    "params": Quantity("parameters", "parameters", "M", 1e6),
    "latency_ms": Quantity("latency", "latency", "ms", 1.0),
    "accuracy": Quantity("accuracy", "proxy accuracy", "", 1.0),
}


def objective_name(column: str) -> str:
    """Readable name of an objective's record column."""
    return QUANTITIES[column].name if column in QUANTITIES else column


TICK_STEPS: tuple[tuple[float, ...], ...] = (
    (1.0,),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    tuple(step / 10 for step in range(10, 100)),
)
"""Ever finer series of round numbers within a decade."""


def log_ticks(low: float, high: float, wanted: int = 4) -> tuple[float, ...]:
    """Round values from ``low`` to ``high`` for a logarithmic axis.

    Args:
        low: Lower end, positive.
        high: Upper end, at least ``low``.
        wanted: The coarsest series with this many values inside is taken.

    Returns:
        Ascending values; fewer than ``wanted`` only where no series has as many.
    """
    ticks: tuple[float, ...] = ()
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for steps in TICK_STEPS:
        # Rounded, since 3 * 10**-1 is 0.30000000000000004.
        values = (float(f"{step}e{decade}") for decade in decades for step in steps)
        ticks = tuple(value for value in values if low <= value <= high)
        if len(ticks) >= wanted:
            break
    return ticks[:: math.ceil(len(ticks) / (2 * wanted))] if ticks else ()


def conditions(settings: Settings) -> str:
    """Where and how the numbers were measured, in one line."""
    latency = settings.latency
    height, width = settings.resolution
    threads = "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
    return (
        f"{settings.space} space, {height}x{width} px; latency: {latency.backend} on "
        f"{latency.device}, {threads}, batch {latency.batch}"
    )


# --- fronts -------------------------------------------------------------------------------------


def non_dominated(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Which rows no other row dominates, all columns to be minimised.

    A row dominates another if it is nowhere larger and somewhere smaller. Equal rows do not
    dominate each other, so ties stay together. A row with a NaN is not on the front.

    Args:
        costs: (n, k) values.

    Returns:
        (n,) flags.
    """
    if not costs:
        return []
    rows = np.asarray(costs, float)
    known = ~np.isnan(rows).any(axis=1)
    table = rows[known]
    return [
        bool(valid and not ((table <= row).all(axis=1) & (table < row).any(axis=1)).any())
        for row, valid in zip(rows, known, strict=True)
    ]


def _costs(variant: Trial | Finalist, objectives: Mapping[str, str]) -> list[float]:
    return [
        -getattr(variant, name) if way == "maximize" else getattr(variant, name)
        for name, way in objectives.items()
    ]


def completed(run: Run) -> tuple[Trial, ...]:
    """Trials that were measured."""
    return tuple(trial for trial in run.trials if trial.state == "complete")


def has_relation(run: Run) -> bool:
    """Whether variants were trained on a task with a relation, as the embedded one is.

    A run without any measured variant is taken for one.
    """
    rows: tuple[Trial | Finalist, ...] = (*completed(run), *run.finalists)
    return not rows or any(not math.isnan(row.relation) for row in rows)


class Variant(NamedTuple):
    """One row of the front's table.

    Attributes:
        name: Published name, or ``#`` and the trial's number.
        accuracy_low: NaN, like ``accuracy_high``, where accuracy is of one seed.
        seeds: Seeds behind ``accuracy``; NaN for a trial.
        on_front: Not dominated in all objectives of the run.
    """

    number: int
    name: str
    variant_id: str
    macs: float
    params: float
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    latency_source: str
    latency_predicted_ms: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    relation: float
    cue_accuracy: float
    routing: float
    localisation: float
    texture: float
    test_accuracy: float
    seeds: float
    found: float
    on_front: bool

    def overlaps(self, other: Variant) -> bool:
        """Whether the accuracy intervals meet; so they do where one is unknown."""
        apart = self.accuracy_low > other.accuracy_high or other.accuracy_low > self.accuracy_high
        return not apart


def display_name(variant: Trial | Finalist) -> str:
    """Published name, or ``#`` and the trial's number."""
    return variant.published or f"#{variant.number}"


def latency_text(row: Variant | Trial | Finalist) -> str:
    """Latency with its interval, and what was predicted of it."""
    quantity = QUANTITIES["latency_ms"]
    text = quantity.interval(row.latency_ms, row.latency_low_ms, row.latency_high_ms)
    if math.isnan(row.latency_predicted_ms):
        return text
    if row.latency_source == PREDICTED:
        return f"{text}, predicted"
    return f"{text}, predicted: {quantity.text(row.latency_predicted_ms)}"


def front_table(run: Run) -> tuple[Variant, ...]:
    """Finalists, front first and each part from most to least accurate.

    Without finalists (the run is not finished): the trials not dominated so far.
    """
    if run.finalists:
        rows = [_from_finalist(finalist) for finalist in run.finalists]
    else:
        trials = completed(run)
        flags = non_dominated([_costs(trial, run.settings.objectives) for trial in trials])
        rows = [_from_row(trial) for trial, flag in zip(trials, flags, strict=True) if flag]
    return tuple(sorted(rows, key=lambda row: (not row.on_front, -row.accuracy, row.macs)))


def _from_finalist(row: Finalist) -> Variant:
    return _from_row(row)._replace(
        accuracy_low=row.accuracy_low,
        accuracy_high=row.accuracy_high,
        test_accuracy=row.test_accuracy,
        seeds=row.seeds,
        found=row.found,
        on_front=row.on_front,
    )


def _from_row(row: Trial | Finalist) -> Variant:
    """What trials and finalists have in common; the rest as it is for a trial on the front."""
    return Variant(
        number=row.number,
        name=display_name(row),
        variant_id=row.variant_id,
        macs=row.macs,
        params=row.params,
        latency_ms=row.latency_ms,
        latency_low_ms=row.latency_low_ms,
        latency_high_ms=row.latency_high_ms,
        latency_source=row.latency_source,
        latency_predicted_ms=row.latency_predicted_ms,
        accuracy=row.accuracy,
        accuracy_low=math.nan,
        accuracy_high=math.nan,
        relation=row.relation,
        cue_accuracy=row.cue_accuracy,
        routing=row.routing,
        localisation=row.localisation,
        texture=row.texture,
        test_accuracy=math.nan,
        seeds=math.nan,
        found=math.nan,
        on_front=True,
    )


TASK_COLUMNS: Mapping[str, str] = {
    "cue": "cue_accuracy",
    "routing": "routing",
    "localisation": "localisation",
    "texture": "texture",
}
"""Record columns of single tasks, by the task's name."""


def task_columns(rows: Iterable[Variant | Trial], tasks: Sequence[str]) -> dict[str, str]:
    """Tasks whose scores are shown beside the accuracy, and their columns.

    Args:
        rows: What is shown.
        tasks: What accuracy is the mean of; of one alone its score is not shown a second time.
    """
    shown = {name: column for name, column in TASK_COLUMNS.items() if (name,) != tuple(tasks)}
    known = list(rows)
    return {
        name: column
        for name, column in shown.items()
        if any(not math.isnan(getattr(row, column)) for row in known)
    }


class Saving(NamedTuple):
    """A variant at least as accurate as a published one, with the fewest MACs.

    ``macs_saved`` and ``latency_saved`` are shares of the published variant's; negative is more.
    """

    published: Variant
    variant: Variant
    macs_saved: float
    latency_saved: float
    told_apart: bool


def savings(table: Iterable[Variant], published: Iterable[str]) -> tuple[Saving, ...]:
    """For each published variant of the table, the leanest at least as accurate one, if leaner."""
    rows = [row for row in table if not math.isnan(row.accuracy)]
    found = []
    for reference in (row for row in rows if row.name in set(published)):
        equals = [
            row for row in rows if row.accuracy >= reference.accuracy and row.macs < reference.macs
        ]
        if equals:
            best = min(equals, key=lambda row: row.macs)
            found.append(
                Saving(
                    published=reference,
                    variant=best,
                    macs_saved=1 - best.macs / reference.macs,
                    latency_saved=1 - best.latency_ms / reference.latency_ms,
                    told_apart=not best.overlaps(reference),
                )
            )
    return tuple(found)


# --- planes -------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A variant in a plane of two quantities; interval ends are NaN where there is no interval.

    Attributes:
        found: False where the proxy did not find the relation (for a finalist: with some seed).
        on_front: Not dominated in all objectives of the run (a trial: in the plane, so far).
    """

    number: int
    name: str
    published: bool
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    found: bool
    on_front: bool


class Plane(NamedTuple):
    """A scatter of all measured variants.

    Attributes:
        x, y: Record columns on the axes.
        x_label, y_label: What the axes are called.
        trials: At the search budget; without those that are among the finalists.
        finalists: At the full budget, with intervals.
        front: The step line: of the finalists on the front (without finalists: of the trials)
            those that none of them dominates in this plane, ascending in x.
        x_limits, y_limits: Ends of the axes. Dominated trials whose relation was not found may lie
            below ``y_limits``: they are told apart anyway, and would squeeze all others.
        x_budget, y_budget: Largest allowed value, None if there is none.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    title: str
    subtitle: str
    trials: tuple[Point, ...]
    finalists: tuple[Point, ...]
    front: tuple[Point, ...]
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    x_budget: float | None
    y_budget: float | None

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, finalists last."""
        return self.trials + self.finalists

    @property
    def below(self) -> int:
        """Trials under the lower end of the vertical axis."""
        return sum(point.y < self.y_limits[0] for point in self.trials)

    @property
    def y_logarithmic(self) -> bool:
        """Whether the vertical axis is logarithmic, as the horizontal one always is."""
        return self.y != "accuracy"

    @property
    def provisional(self) -> bool:
        """Whether the front is of trials, since no finalist has been evaluated yet."""
        return not self.finalists


def accuracy_plane(run: Run, x: str) -> Plane:
    """Accuracy against a cost (``macs``, ``params`` or ``latency_ms``)."""
    return _plane(run, x, "accuracy")


def latency_plane(run: Run) -> Plane:
    """Latency against MACs: how well does the count predict the clock?"""
    return _plane(run, "macs", "latency_ms")


def _plane(run: Run, x: str, y: str) -> Plane:
    again = {finalist.number for finalist in run.finalists}
    rows = [trial for trial in completed(run) if trial.number not in again]
    # Where accuracy is not on an axis, it does not matter how it came about.
    ignore = y != "accuracy"
    trials = _shown(
        _point(row, x, y, found=ignore or row.relation_found is not False) for row in rows
    )
    finalists = _shown(
        _point(row, x, y, found=ignore or not row.found < row.seeds, on_front=row.on_front)
        for row in run.finalists
    )
    front: tuple[Point, ...] = ()
    if y == "accuracy":
        front = _front_line([point for point in finalists if point.on_front] or trials)
    if not finalists:
        trials = tuple(point._replace(on_front=point in front) for point in trials)
        front = tuple(point._replace(on_front=True) for point in front)
    points, budgets = trials + finalists, run.settings.budgets
    return Plane(
        x=x,
        y=y,
        x_label=QUANTITIES[x].label,
        y_label=run.settings.proxy.accuracy if y == "accuracy" else QUANTITIES[y].label,
        title=_tau_title(points) if y == "latency_ms" else _front_title(front, x, not finalists),
        subtitle=conditions(run.settings),
        trials=trials,
        finalists=finalists,
        front=front,
        x_limits=_limits([(p.x, p.x_low, p.x_high) for p in points], budgets.get(x)),
        y_limits=_share_limits([p for p in trials if p.found or p.on_front] + [*finalists])
        if y == "accuracy"
        else _limits([(p.y, p.y_low, p.y_high) for p in points], budgets.get(y)),
        x_budget=budgets.get(x),
        y_budget=budgets.get(y),
    )


def _shown(points: Iterable[Point]) -> tuple[Point, ...]:
    """Points that have both coordinates, on axes that start above 0."""
    return tuple(point for point in points if point.x > 0 and not math.isnan(point.y))


def _point(row: Trial | Finalist, x: str, y: str, *, found: bool, on_front: bool = False) -> Point:
    x_low, x_high = _ends(row, x)
    y_low, y_high = _ends(row, y)
    return Point(
        number=row.number,
        name=display_name(row),
        published=bool(row.published),
        x=getattr(row, x),
        y=getattr(row, y),
        x_low=x_low,
        x_high=x_high,
        y_low=y_low,
        y_high=y_high,
        found=found,
        on_front=on_front,
    )


def _ends(row: Trial | Finalist, column: str) -> tuple[float, float]:
    """Ends of a column's interval; NaN, NaN if it has none."""
    if column == "latency_ms":
        return row.latency_low_ms, row.latency_high_ms
    if column == "accuracy" and isinstance(row, Finalist):
        return row.accuracy_low, row.accuracy_high
    return math.nan, math.nan


def _front_line(points: Sequence[Point]) -> tuple[Point, ...]:
    flags = non_dominated([(point.x, -point.y) for point in points])
    line = [point for point, flag in zip(points, flags, strict=True) if flag]
    return tuple(sorted(line, key=lambda point: (point.x, point.number)))


def _front_title(front: Sequence[Point], x: str, provisional: bool) -> str:
    if not front:
        return "No variant has been measured yet"
    quantity, first, last = QUANTITIES[x], front[0], front[-1]
    kind = "Front so far" if provisional else "Front"
    noun = "" if x == "latency_ms" else f" {quantity.name}"
    start = f"accuracy {first.y:.2f} at {quantity.text(first.x)}"
    if len(front) == 1:
        return f"{kind} of one variant: {start}{noun}"
    end = f"{last.y:.2f} at {quantity.text(last.x)}{noun}"
    return f"{kind} of {len(front)} variants: {start} to {end}"


class Inheritance(NamedTuple):
    """How accuracies with inherited weights rank variants that were also trained alone."""

    kendall_tau: float
    variants: int


def inheritance(run: Run) -> Inheritance | None:
    """What a run found of its supernet; None without one, or where all accuracies are equal."""
    tau = _tau([(row.inherited, row.alone) for row in run.inherited])
    return None if tau is None else Inheritance(tau, len(run.inherited))


def _tau_title(points: Sequence[Point]) -> str:
    """How well MACs rank latency."""
    tau = _tau([(point.x, point.y) for point in points])
    if tau is None:
        return "Latency against MACs"
    return f"MACs rank latency with Kendall's tau {tau:.2f} ({len(points)} variants)"


def _tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau; None of few pairs, or where all values are equal."""
    if len(pairs) < MIN_FOR_TAU:
        return None
    tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
    return None if math.isnan(tau) else tau


def _limits(
    values: Iterable[tuple[float, float, float]], budget: float | None
) -> tuple[float, float]:
    """Ends of a logarithmic axis: all values and interval ends, the budget if near, a margin."""
    known = [value for ends in values for value in ends if value > 0]
    if not known:
        return (0.5 * budget, 2 * budget) if budget else (1.0, 10.0)
    low, high = min(known), max(known)
    if budget is not None and budget < 3 * high:
        high = max(high, budget)
    margin = max(1.12, (high / low) ** 0.06)
    return low / margin, high * margin


def _share_limits(points: Iterable[Point]) -> tuple[float, float]:
    """Ends of the accuracy axis: all points and intervals, with room for names on top."""
    ends = [end for p in points for end in (p.y, p.y_low, p.y_high) if not math.isnan(end)]
    if not ends:
        return 0.0, 1.0
    span = max(max(ends) - min(ends), 0.1)
    return min(ends) - 0.08 * span, max(ends) + 0.14 * span


# --- the rest -----------------------------------------------------------------------------------


class Progress(NamedTuple):
    """Growth of the front: hypervolume (share, 0 to 1) and size after each trial that has them."""

    title: str
    subtitle: str
    numbers: tuple[int, ...]
    hypervolume: tuple[float, ...]
    front_size: tuple[float, ...]


def progress(run: Run) -> Progress:
    """Hypervolume over trials, in the order of their numbers."""
    rows = sorted(
        (trial for trial in run.trials if not math.isnan(trial.hypervolume)),
        key=lambda trial: trial.number,
    )
    volumes = [trial.hypervolume for trial in rows]
    title = "No hypervolume has been recorded yet"
    if rows:
        gains = [
            row.number
            for row, before in zip(rows, [0.0, *volumes], strict=False)
            if row.hypervolume > before
        ]
        last = f"; last gain at trial {gains[-1]}" if gains else ""
        title = f"Hypervolume {volumes[-1]:.3f} after trial {rows[-1].number}{last}"
    return Progress(
        title=title,
        subtitle=conditions(run.settings),
        numbers=tuple(row.number for row in rows),
        hypervolume=tuple(volumes),
        front_size=tuple(row.front_size for row in rows),
    )


class AxisImportance(NamedTuple):
    """One panel per objective; axes from most to least important, with shares of 0 to 1."""

    title: str
    subtitle: str
    panels: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]


def importance(run: Run) -> AxisImportance:
    """Importance of each axis for each objective; ties in the order of the axes' names."""
    groups: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for row in run.importance:
        if not math.isnan(row.importance):
            groups[row.objective].append((row.axis, row.importance))
    panels = tuple(
        (objective_name(objective), tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0]))))
        for objective, pairs in groups.items()
    )
    title = "No importance has been computed yet"
    if panels:
        title = "Most important: " + ", ".join(f"{axes[0][0]} for {name}" for name, axes in panels)
    return AxisImportance(title=title, subtitle=conditions(run.settings), panels=panels)


class FailureGroup(NamedTuple):
    """Trials that stopped for the same reason, numbers in the text aside."""

    state: str
    reason: str
    numbers: tuple[int, ...]


def failures(run: Run) -> tuple[FailureGroup, ...]:
    """Trials that did not complete by reason, most frequent first; the text is of the first one."""
    groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in run.trials:
        if trial.state != "complete":
            groups[trial.state, re.sub(r"\d[\d.,]*", "#", trial.reason)].append(trial)
    found = [
        FailureGroup(state, rows[0].reason or "no reason recorded", tuple(r.number for r in rows))
        for (state, _), rows in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: (-len(group.numbers), group.numbers)))


def readable_axes(axes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Axes as names and values, those numbered by stage (``width_1``, ``width_2``) as one line."""
    lines: dict[str, list[str]] = {}
    for name, value in axes.items():
        stem = re.sub(r"_\d+$", "", name)
        lines.setdefault(stem, []).append(value or MISSING)
    return tuple((name.replace("_", " "), " · ".join(values)) for name, values in lines.items())
