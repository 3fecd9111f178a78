"""One self-contained page: what a run found, how sure that is, and how to rebuild a variant."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reports import findings
from reports.charts import charts
from reports.findings import MISSING, QUANTITIES, Variant
from reports.records import Run, Settings, Trial
from reports.style import DARK


def render_page(run: Run, folder: str) -> str:
    """Write the page.

    Args:
        run: The records.
        folder: The run's folder as the user typed it, for the commands on the page.

    Returns:
        HTML that loads nothing: script, style and data are inside, and its content security policy
        forbids the network.
    """
    environment = Environment(
        loader=PackageLoader("reports", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "quantity": lambda value, column: QUANTITIES[column].text(value),
        "share": QUANTITIES["accuracy"].text,
        "latency": findings.latency_text,
        "accuracy": _accuracy_text,
        "plain": _plain,
    }
    template = environment.get_template("page.html.j2")
    return template.render(
        **_answers(run), **_evidence(run), **_how(run, folder), plotly=Markup(get_plotlyjs())  # noqa: S704 - the library's own script
    )  # fmt: skip


# --- parts of the page --------------------------------------------------------------------------


def _answers(run: Run) -> dict[str, Any]:
    """The head of the page: the front, in numbers."""
    table = findings.front_table(run)
    front = [row for row in table if row.on_front]
    published = {trial.published for trial in run.trials if trial.published}
    return {
        "settings": run.settings,
        "finished": bool(run.finalists),
        "front": front,
        "dominated": [row for row in table if not row.on_front],
        "best": _best(front),
        "tied": [row for row in front[1:] if run.finalists and row.overlaps(front[0])],
        "savings": findings.savings(table, published),
        "counts": Counter(trial.state for trial in run.trials),
        "budgets": [
            f"{QUANTITIES[name].name} up to {QUANTITIES[name].text(limit)}"
            for name, limit in run.settings.budgets.items()
        ],
        "objectives": [findings.objective_name(name) for name in run.settings.objectives],
        "warnings": run.warnings,
        "has_test": any(not math.isnan(row.test_accuracy) for row in table),
        "tasks": findings.task_columns(table, run.settings.proxy.tasks),
        "has_relation": findings.has_relation(run),
        "inheritance": findings.inheritance(run),
    }


def _best(front: Sequence[Variant]) -> list[tuple[str, Variant]]:
    """The ends of the front with what each is best at, among those measured."""
    ends: dict[Variant, list[str]] = {}
    for title, column, sign in (
        ("most accurate", "accuracy", -1),
        ("fewest MACs", "macs", 1),
        ("fastest", "latency_ms", 1),
    ):
        known = [row for row in front if not math.isnan(getattr(row, column))]
        if known:
            best = min(known, key=lambda row: sign * getattr(row, column))
            ends.setdefault(best, []).append(title)
    # Not str.capitalize, which would write "macs".
    joined = ((", ".join(titles), row) for row, titles in ends.items())
    return [(text[0].upper() + text[1:], row) for text, row in joined]


def _evidence(run: Run) -> dict[str, Any]:
    """Charts and tables."""
    drawn = charts(run)
    plane = findings.accuracy_plane(run, "macs")
    return {
        "charts": drawn,
        "dark": dict(DARK),
        "planes": [
            (name, QUANTITIES[name].name)
            for name in ("macs", "latency_ms", "params")
            if f"accuracy_{name}" in drawn
        ],
        "below": plane.below,
        "latency_title": findings.latency_plane(run).title,
        "progress_title": findings.progress(run).title,
        "importance": findings.importance(run),
        "failures": findings.failures(run),
        "columns": _axis_columns(run.settings),
        "rows": [_row(trial) for trial in run.trials],
        "trial_tasks": findings.task_columns(run.trials, run.settings.proxy.tasks),
        "extra_columns": list(run.trials[0].extra) if run.trials else [],
    }


def _how(run: Run, folder: str) -> dict[str, Any]:
    """Where the numbers come from and how to get a network out of them."""
    settings = run.settings
    table = findings.front_table(run)
    example = table[0] if table else None
    return {
        "conditions": findings.conditions(settings),
        "folder": folder,
        "example": example,
        "proxy": settings.proxy,
        "environment": settings.environment,
        "other": {k: v for k, v in settings.other.items() if not isinstance(v, dict)},
        "nested": {k: v for k, v in settings.other.items() if isinstance(v, dict)},
    }


# --- the table of all trials --------------------------------------------------------------------


class Row(NamedTuple):
    """A trial with its configuration in the order of the table's columns."""

    trial: Trial
    name: str
    values: tuple[str, ...]


def _axis_columns(settings: Settings) -> list[str]:
    return [name for name, _ in findings.readable_axes({axis.name: "" for axis in settings.axes})]


def _row(trial: Trial) -> Row:
    values = tuple(value for _, value in findings.readable_axes(trial.axes))
    return Row(trial, findings.display_name(trial), values)


# --- filters ------------------------------------------------------------------------------------


def _accuracy_text(row: Variant) -> str:
    return QUANTITIES["accuracy"].interval(row.accuracy, row.accuracy_low, row.accuracy_high)


def _plain(value: object) -> str:
    """A setting as a reader would write it."""
    if value is None:
        return MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(entry) for entry in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 100_000 else str(value)
    return str(value)
