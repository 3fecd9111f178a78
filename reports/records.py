"""The records of a search run, read and checked once: files in, typed rows out.

A run's folder holds ``settings.json`` and ``trials.csv``, and ``supernet_check.csv`` where variants
inherit the weights of a supernet; ``pareto.csv`` and ``importance.csv`` join them when the run is
finished. An empty cell means "not measured" and becomes NaN (numbers), None (yes or no) or the
empty text. Every way in which a file can be broken is one :class:`RecordError` of one line that
names the file, the place and what was expected there.
"""

from __future__ import annotations

import csv
import io
import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

SETTINGS, TRIALS, PARETO, IMPORTANCE = "settings.json", "trials.csv", "pareto.csv", "importance.csv"
INHERITED = "supernet_check.csv"
AXIS_PREFIX = "axis_"

DIGITS_ACCURACY = "proxy accuracy (validation digits)"
"""What accuracies of runs are called that do not say: those trained on the embedded digits."""

State = Literal["complete", "failed", "infeasible", "pruned", "interrupted"]
"""Measured; failed with a reason; over a budget, hence not trained; trained in part; cut off."""


class RecordError(ValueError):
    """A record file is missing or broken; the message is one line naming file, place and rule."""


# --- settings -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of the space: its name, what it means, its values in order."""

    name: str
    description: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How the proxy ranks variants beside longer training: Kendall tau and its 95 % interval."""

    kendall_tau: float
    low: float
    high: float
    variants: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """What the accuracy axis measures, and what it can and cannot tell apart.

    Attributes:
        accuracy: What an axis of accuracies is called.
        tasks: Those of the embedded ones that accuracy is the mean of; none with other data, one
            where an earlier version wrote the settings.
    """

    name: str
    description: str
    accuracy: str
    tasks: tuple[str, ...]
    search_recipe: Mapping[str, Any]
    final_recipe: Mapping[str, Any]
    resolves: tuple[str, ...]
    does_not_resolve: tuple[str, ...]
    ranking: Ranking | None


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How latency was measured; ``reference_ms`` is NaN where there is no reference network."""

    backend: str
    device: str
    threads: int
    batch: int
    protocol: str
    reference_network: str
    reference_ms: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a run was started with.

    Attributes:
        space: Name of the search space. space_size: Its number of distinct valid variants.
        resolution: Height and width of the image in pixels.
        command: What the user typed. trials: Trials asked for.
        budgets: Largest allowed value by record column (``macs``, ``params``, ``latency_ms``);
            unlimited quantities are absent.
        objectives: Record column to ``maximize`` or ``minimize``.
        environment: Versions, machine, date.
        other: Keys this version of the report does not know; shown as they are.
    """

    space: str
    space_size: int
    resolution: tuple[int, int]
    command: str
    trials: int
    budgets: Mapping[str, float]
    objectives: Mapping[str, str]
    axes: tuple[Axis, ...]
    proxy: Proxy
    latency: Latency
    environment: Mapping[str, Any]
    other: Mapping[str, Any]


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row of ``trials.csv``.

    Attributes:
        reason: Why the trial did not complete. published: Name of a published model, or empty.
        peak_activation_mb: Megabytes. ``*_ms``: milliseconds. ``*seconds``: seconds.
        latency_ratio: To the reference network measured beside it.
        latency_source: ``measured`` or ``predicted``, empty without a latency.
        latency_predicted_ms: NaN where nothing was predicted.
        accuracy, relation, recognition, hypervolume: Shares, 0 to 1. Relation and recognition are
            of the embedded task; NaN, like ``relation_found`` None, of any other.
        cue_accuracy, routing, localisation, texture: Shares of single tasks; NaN of those that are
            no part of the accuracy, and where an earlier version wrote the table.
        proxy_resolution: Images of the last training, such as ``64x64``; empty for the embedded
            task, and where an earlier version wrote the table.
        axes: Value by axis name, as written. extra: Columns this version does not know.
        config: The variant's configuration as JSON.
    """

    number: int
    state: State
    reason: str
    published: str
    variant_id: str
    params: float
    macs: float
    activations: float
    peak_activation_mb: float
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    latency_ratio: float
    latency_noisy: bool | None
    latency_source: str
    latency_predicted_ms: float
    accuracy: float
    cue_accuracy: float
    routing: float
    localisation: float
    texture: float
    relation: float
    recognition: float
    relation_found: bool | None
    proxy_resolution: str
    proxy_steps: float
    proxy_seed: float
    proxy_attempts: float
    proxy_seconds: float
    hypervolume: float
    front_size: float
    started: str
    seconds: float
    config: str
    axes: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One row of ``pareto.csv``: a variant evaluated again at the full budget, several seeds.

    Attributes:
        accuracy: Mean over seeds; ``_sd`` its standard deviation between seeds, ``_low`` and
            ``_high`` the 95 % interval of the mean.
        latency_source, latency_predicted_ms: As in :class:`Trial`; so are the scores of single
            tasks, but for ``routing``, which all finalists have.
        found: Seeds, of ``seeds``, that found the relation; NaN where the task has none.
        on_front: Whether the variant is still not dominated.
    """

    number: int
    published: str
    variant_id: str
    params: float
    macs: float
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    latency_source: str
    latency_predicted_ms: float
    accuracy: float
    accuracy_sd: float
    accuracy_low: float
    accuracy_high: float
    relation: float
    relation_sd: float
    recognition: float
    recognition_sd: float
    cue_accuracy: float
    cue_accuracy_sd: float
    routing: float
    routing_sd: float
    localisation: float
    localisation_sd: float
    texture: float
    texture_sd: float
    seeds: float
    found: float
    test_accuracy: float
    test_accuracy_sd: float
    on_front: bool
    config: str
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Importance:
    """One row of ``importance.csv``: the share of an objective's variance an axis explains."""

    objective: str
    axis: str
    importance: float
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """One row of ``supernet_check.csv``: accuracy with inherited weights, and trained alone."""

    variant_id: str
    inherited: float
    alone: float
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run:
    """All records of a run.

    ``finalists`` and ``importance`` are empty until it is finished, ``inherited`` unless variants
    inherit the weights of a supernet.
    """

    settings: Settings
    trials: tuple[Trial, ...]
    finalists: tuple[Finalist, ...] = ()
    importance: tuple[Importance, ...] = ()
    inherited: tuple[Inherited, ...] = ()
    warnings: tuple[str, ...] = ()


def load_run(directory: Path) -> Run:
    """Read a run's folder.

    Args:
        directory: Folder that ``python -m search.run --out`` wrote; the run may be unfinished.

    Returns:
        The run. A last line of ``trials.csv`` that was cut short is left out with a warning, since
        a run may be stopped while it writes.

    Raises:
        RecordError: The folder or a needed file is missing, or a file breaks its format.
    """
    if not directory.is_dir():
        raise RecordError(f"no folder {str(directory)!r}; give the --out folder of a search run")
    settings = _read_settings(directory / SETTINGS)
    lines, warnings = _complete_lines(directory / TRIALS)
    trials = _trials(_table(TRIALS, lines), settings.axes)
    finalists = _optional_table(directory / PARETO, Finalist)
    importance = _optional_table(directory / IMPORTANCE, Importance)
    return Run(
        settings=settings,
        trials=trials,
        finalists=finalists,
        importance=importance,
        inherited=_optional_table(directory / INHERITED, Inherited),
        warnings=warnings,
    )


# --- reading tables -----------------------------------------------------------------------------

RowT = TypeVar("RowT", Finalist, Importance, Inherited)
NumberedRow = tuple[int, dict[str, str]]
"""Line number in the file (its first line is 1) and cell by column."""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{path.name} is missing in {str(path.parent)!r}") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path.name} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error.strerror}") from None


def _complete_lines(path: Path) -> tuple[str, tuple[str, ...]]:
    """Text of a table without a last line that was cut short, and a warning if there was one."""
    text = _read_text(path)
    if not text or text.endswith("\n"):
        return text, ()
    kept = text[: text.rfind("\n") + 1]
    if not kept:
        raise RecordError(f"{path.name} is cut short inside its header line")
    number = kept.count("\n") + 1
    return kept, (f"{path.name}: line {number} was cut short and is left out",)


def _table(name: str, text: str) -> tuple[list[str], list[NumberedRow]]:
    """Columns and rows of a CSV text; every row has as many cells as the header.

    A table that was written without any row has no columns either.
    """
    if text == "\n":  # what pandas writes of no rows
        return [], []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if not header:
            raise RecordError(f"{name} is empty: expected a header line")
        rows = []
        for cells in reader:
            if len(cells) != len(header):
                raise RecordError(
                    f"{name} line {reader.line_num}: expected {len(header)} cells as in the "
                    f"header, got {len(cells)}"
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise RecordError(f"{name} line {reader.line_num}: {error}") from None
    return header, rows


def _optional_table(path: Path, kind: type[RowT]) -> tuple[RowT, ...]:
    """Rows of a table that not every run has."""
    if not path.exists():
        return ()
    text = _read_text(path)
    if text and not text.endswith("\n"):
        raise RecordError(f"{path.name} is cut short: its last line has no end")
    header, rows = _table(path.name, text)
    readers = _cell_readers(kind)
    _require_columns(path.name, header, readers)
    return tuple(
        kind(**_values(path.name, row, readers), extra=_unread(row[1], readers)) for row in rows
    )


def _trials(table: tuple[list[str], list[NumberedRow]], axes: Sequence[Axis]) -> tuple[Trial, ...]:
    header, rows = table
    readers = _cell_readers(Trial)
    columns = {AXIS_PREFIX + axis.name: axis.name for axis in axes}
    _require_columns(TRIALS, header, [*readers, *columns])
    return tuple(
        Trial(
            **_values(TRIALS, row, readers),
            axes={name: row[1][column] for column, name in columns.items()},
            extra=_unread(row[1], [*readers, *columns]),
        )
        for row in rows
    )


def _require_columns(
    name: str, header: Sequence[str], needed: Sequence[str] | Mapping[str, Any]
) -> None:
    missing = [column for column in needed if column not in header and column not in NEWER]
    if missing and header:
        raise RecordError(f"{name} lacks the column(s) {', '.join(missing)}")


def _unread(row: Mapping[str, str], known: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    return {column: cell for column, cell in row.items() if column not in known}


def _values(
    name: str, row: NumberedRow, readers: Mapping[str, Callable[[str], object]]
) -> dict[str, Any]:
    """Cells of one row as values."""
    line, cells = row[0], NEWER | row[1]
    return {
        column: _cell(f"{name} line {line}: {column}", cells[column], read)
        for column, read in readers.items()
    }


def _cell(place: str, cell: str, read: Callable[[str], object]) -> object:
    try:
        return read(cell)
    except ValueError as error:
        raise RecordError(f"{place} {error}, got {cell!r:.40}") from None


SHARES = (
    "accuracy", "relation", "recognition", "test_accuracy", "hypervolume", "importance",
    "cue_accuracy", "routing", "localisation", "texture", "inherited", "alone",
)  # fmt: skip
"""Columns whose values lie in 0 to 1."""

NEWER = dict.fromkeys(
    (
        "proxy_resolution", "cue_accuracy", "cue_accuracy_sd", "routing", "routing_sd",
        "localisation", "localisation_sd", "texture", "texture_sd",
    ),
    "",
)  # fmt: skip
"""Columns that records of older versions lack, and what is read then."""

INTERVAL_ENDS = ("accuracy_low", "accuracy_high")
"""Columns that may leave 0 to 1: the interval of a mean of few seeds is wide."""


def _cell_readers(kind: type) -> dict[str, Callable[[str], object]]:
    """How each column of a row type is read, from the type of its field."""
    hints = typing.get_type_hints(kind)
    by_type: dict[object, Callable[[str], object]] = {
        int: _integer, float: _number, str: str, bool: _flag, bool | None: _optional_flag,
        State: _state,
    }  # fmt: skip
    names = [column.name for column in fields(kind) if column.name not in ("axes", "extra")]
    special = dict.fromkeys(SHARES, _share) | dict.fromkeys(INTERVAL_ENDS, _finite)
    return {name: special.get(name, by_type[hints[name]]) for name in names}


def _integer(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _finite(cell: str) -> float:
    """A number; NaN where it was not measured."""
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        raise ValueError("must be a number or empty") from None
    if math.isinf(value):
        raise ValueError("must be finite")
    return value


def _number(cell: str) -> float:
    value = _finite(cell)
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _share(cell: str) -> float:
    value = _number(cell)
    if value > 1:
        raise ValueError("must be in 0 to 1")
    return value


def _flag(cell: str) -> bool:
    if cell.lower() not in ("true", "false"):
        raise ValueError("must be True or False")
    return cell.lower() == "true"


def _optional_flag(cell: str) -> bool | None:
    return _flag(cell) if cell else None


def _state(cell: str) -> str:
    known = typing.get_args(State)
    if cell not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return cell


# --- reading settings ---------------------------------------------------------------------------

ValueT = TypeVar("ValueT")


class _Keys:
    """The keys of one JSON object, taken one by one; what is left over is still known."""

    def __init__(self, values: object, place: str) -> None:
        if not isinstance(values, dict):
            raise RecordError(f"{SETTINGS}: {place or 'the file'} must be an object")
        self._rest: dict[str, Any] = dict(values)
        self._place = place

    def take(self, name: str, kind: type[ValueT]) -> ValueT:
        """Remove and return a key that must be there with a value of a type."""
        value = self.optional(name, kind)
        if value is None:
            raise RecordError(f"{SETTINGS} lacks the value {self.path(name)}")
        return value

    def optional(self, name: str, kind: type[ValueT]) -> ValueT | None:
        """Remove and return a key; None where it is absent or null."""
        value = self._rest.pop(name, None)
        if kind is float and type(value) is int:
            value = float(value)
        # A JSON true is an int to Python, never to a reader.
        if value is None or (isinstance(value, kind) and type(value) is not bool):
            return value
        raise RecordError(
            f"{SETTINGS}: {self.path(name)} must be {_JSON_NAMES[kind]}, got {value!r:.40}"
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """Remove and return a list, its entries as text."""
        return tuple(str(entry) for entry in self.take(name, list))

    def path(self, name: str) -> str:
        """Where the key is in the file, e.g. ``latency.threads``."""
        return f"{self._place}.{name}" if self._place else name

    def left_over(self) -> dict[str, Any]:
        """Keys not taken, under their full path."""
        return {self.path(name): value for name, value in self._rest.items()}

    def child(self, name: str) -> _Keys:
        """Remove and return an object as keys of its own."""
        return _Keys(self.take(name, dict), self.path(name))


_JSON_NAMES: Mapping[type, str] = {
    str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object",
}  # fmt: skip


def _read_settings(path: Path) -> Settings:
    try:
        keys = _Keys(json.loads(_read_text(path)), "")
    except json.JSONDecodeError as error:
        raise RecordError(
            f"{path.name} is not complete JSON (line {error.lineno}: {error.msg})"
        ) from None
    budgets, proxy, latency = (keys.child(name) for name in ("budgets", "proxy", "latency"))
    return Settings(
        space=keys.take("space", str),
        space_size=keys.take("space_size", int),
        resolution=_resolution(keys),
        command=keys.take("command", str),
        trials=keys.take("trials", int),
        budgets=_budgets(budgets),
        objectives=_objectives(keys.take("objectives", dict)),
        axes=tuple(
            _axis(_Keys(entry, f"axes[{index}]"))
            for index, entry in enumerate(keys.take("axes", list))
        ),
        proxy=_proxy(proxy),
        latency=_latency(latency),
        environment=keys.take("environment", dict),
        # Evaluated last: by now every known key has been taken out.
        other=keys.left_over() | budgets.left_over() | proxy.left_over() | latency.left_over(),
    )


def _resolution(keys: _Keys) -> tuple[int, int]:
    sides = keys.take("resolution", list)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise RecordError(f"{SETTINGS}: resolution must be [height, width], got {sides!r:.40}")
    return sides[0], sides[1]


def _objectives(ways: Mapping[str, object]) -> dict[str, str]:
    """Record column to direction, both of which the report can compare."""
    columns = [name for name, kind in typing.get_type_hints(Trial).items() if kind is float]
    for name, way in ways.items():
        if name not in columns:
            raise RecordError(f"{SETTINGS}: objective {name!r} is no number column of {TRIALS}")
        if way not in ("maximize", "minimize"):
            raise RecordError(
                f"{SETTINGS}: objectives.{name} must be maximize or minimize, got {way!r:.40}"
            )
    return {name: str(way) for name, way in ways.items()}


def _budgets(keys: _Keys) -> dict[str, float]:
    limits = {
        name: keys.optional(f"max_{name}", float) for name in ("macs", "params", "latency_ms")
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def _axis(keys: _Keys) -> Axis:
    return Axis(
        name=keys.take("name", str),
        description=keys.optional("description", str) or "",
        values=keys.texts("values"),
    )


def _proxy(keys: _Keys) -> Proxy:
    ranking, tasks = keys.optional("ranking", dict), keys.optional("tasks", list)
    return Proxy(
        name=keys.take("name", str),
        description=keys.take("description", str),
        accuracy=keys.optional("accuracy", str) or DIGITS_ACCURACY,
        tasks=("cue",) if tasks is None else tuple(map(str, tasks)),
        search_recipe=keys.take("search_recipe", dict),
        final_recipe=keys.take("final_recipe", dict),
        resolves=keys.texts("resolves"),
        does_not_resolve=keys.texts("does_not_resolve"),
        ranking=None if ranking is None else _ranking(_Keys(ranking, "proxy.ranking")),
    )


def _ranking(keys: _Keys) -> Ranking:
    return Ranking(
        kendall_tau=keys.take("kendall_tau", float),
        low=keys.take("low", float),
        high=keys.take("high", float),
        variants=keys.take("variants", int),
        source=keys.optional("source", str) or "",
    )


def _latency(keys: _Keys) -> Latency:
    reference = keys.optional("reference_ms", float)
    return Latency(
        backend=keys.take("backend", str),
        device=keys.take("device", str),
        threads=keys.take("threads", int),
        batch=keys.take("batch", int),
        protocol=keys.take("protocol", str),
        reference_network=keys.optional("reference_network", str) or "",
        reference_ms=math.nan if reference is None else reference,
    )
