"""Results of ablations that travel with the package, read back from what a run wrote.

``results.csv`` and ``trials.csv`` of a run hold all that was measured. Everything else, means,
differences, significance, verdicts, is worked out again from them, so that a page made from kept
results says what the program says today of the same measurements.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from effvit.config import ConfigError
from experiments.ablation.definition import Row
from experiments.ablation.engine import MeasuredRow, Plan
from experiments.ablation.results import Result, summarise
from experiments.ablation.store import SCORES, LatencyRatio, Training
from experiments.ablation.tables import ablation
from search.latency import LatencyProtocol
from search.proxy import ProxyRecipe
from search.proxy.routing import RoutingRecipe

RESULTS, TRIALS = "ablation_results_{}.csv", "ablation_trials_{}.csv"
"""Names of the kept files, by ablation."""

_RECORDS = {"row", "subject", "recipe", "seed", *SCORES, "seconds", "error"}


def kept_names(folder: Path) -> list[str]:
    """Names of the ablations whose results are in a folder."""
    before, after = RESULTS.split("{}")
    return sorted(
        path.name.removeprefix(before).removesuffix(after)
        for path in folder.glob(RESULTS.format("*"))
    )


def read_result(name: str, folder: Path) -> Result:
    """Read the kept result of an ablation.

    Args:
        name: Of the ablation.
        folder: With its two files; one that trains nothing has no trials.

    Raises:
        ConfigError: No such ablation, or its rows are not the ones that were measured.
    """
    chosen = ablation(name)
    results = pd.read_csv(folder / RESULTS.format(name)).set_index("row")
    trials = _trials(folder / TRIALS.format(name))
    rows = chosen.rows()
    _check_rows(name, rows, results)
    measured = [_measured(row, results.loc[row.label].to_dict(), trials) for row in rows]
    return summarise(name, chosen, _plan(results.iloc[0].to_dict(), trials), measured)


def _trials(path: Path) -> Mapping[str, tuple[Training, ...]]:
    """Trainings by row."""
    if not path.exists():
        return {}
    table = pd.read_csv(path)
    return {
        str(label): tuple(_training(values) for values in part.to_dict("records"))
        for label, part in table.groupby("row", sort=False)
    }


def _training(values: Mapping[Any, Any]) -> Training:
    return Training(
        seed=int(values["seed"]),
        scores={name: float(values[name]) for name in SCORES if not _empty(values.get(name))},
        seconds=None if _empty(values["seconds"]) else float(values["seconds"]),
        error="" if _empty(values["error"]) else str(values["error"]),
        environment={key: value for key, value in values.items() if key not in _RECORDS},
    )


def _check_rows(name: str, rows: Sequence[Row], results: pd.DataFrame) -> None:
    now = {row.label: row.subject.key for row in rows}
    kept = {str(label): key for label, key in results["subject"].items()}
    changed = [label for label in [*now, *kept] if now.get(label) != kept.get(label)]
    if changed:
        raise ConfigError(
            f"the kept result of {name} is of other networks in row {changed[0]!r}; run the "
            "ablation again"
        )


def _measured(
    row: Row, values: Mapping[str, Any], trials: Mapping[str, tuple[Training, ...]]
) -> MeasuredRow:
    missing = {
        measure: str(values[f"{measure}_missing"])
        for measure in ("latency", "proxy")
        if not _empty(values[f"{measure}_missing"])
    }
    return MeasuredRow(
        row=row,
        costs=row.subject.costs(),
        latency=_latency(values),
        trainings=trials.get(row.label, ()),
        missing=missing,
    )


def _latency(values: Mapping[str, Any]) -> LatencyRatio | None:
    if _empty(values["latency_ratio"]):
        return None
    return LatencyRatio(
        ratio=float(values["latency_ratio"]),
        low=float(values["latency_ratio_low"]),
        high=float(values["latency_ratio_high"]),
        noisy=str(values["latency_noisy"]) == "True",
        environment={},
    )


def _plan(values: Mapping[str, Any], trials: Mapping[str, tuple[Training, ...]]) -> Plan:
    seeds = {training.seed for found in trials.values() for training in found}
    return Plan(
        recipe=_proxy_recipe(json.loads(values["recipe_settings"])),
        routing=_routing_recipe(json.loads(values["routing_settings"])),
        protocol=LatencyProtocol(**json.loads(values["latency_protocol"])),
        seeds=tuple(sorted(seeds)),
    )


def _proxy_recipe(settings: Mapping[str, Any]) -> ProxyRecipe:
    lists = {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}
    return ProxyRecipe(**{**settings, **lists})


def _routing_recipe(settings: Mapping[str, Any]) -> RoutingRecipe:
    return RoutingRecipe(**{**settings, "cue": _proxy_recipe(settings["cue"])})


def _empty(value: object) -> bool:
    """Whether a cell of a CSV file is."""
    return value is None or (isinstance(value, float) and math.isnan(value))
