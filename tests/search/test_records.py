"""Records: what the files hold, and that they are whole at any moment."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import math
import os
from dataclasses import fields
from pathlib import Path
from typing import NoReturn, get_args

import numpy as np
import pytest

import reports.records as contract
from effvit import as_config
from search.records import (
    Front,
    Scale,
    State,
    TrialRecord,
    write_csv,
    write_json,
    write_text,
    write_trials,
)
from tests.search.fakes import SCALE, complete_record, small_space

SPACE = small_space(mlp_ratio=(2, 4), depth_3=(4, 6))
CONFIGS = [SPACE.unrank(index) for index in range(SPACE.size())]


def some_records() -> list[TrialRecord]:
    records = [
        complete_record(0, 0.70, 10**9, 10.0, CONFIGS[0]),
        TrialRecord(number=1, state="failed", reason="loss is nan", macs=5, latency_ms=1.5),
        complete_record(2, 0.60, 10**9, 10.0, CONFIGS[1]),  # dominated
        TrialRecord(number=3, reason='the run was stopped, "so"\nit is'),
        complete_record(4, 0.65, 10**8, 5.0, CONFIGS[2]),
    ]
    for record in records:
        record.choices = {axis.name: axis.values[0] for axis in SPACE.axes}
    return records


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- trials.csv ---------------------------------------------------------------------------------


def test_columns_are_those_that_reports_read(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.csv", some_records(), SCALE)
    columns = set(read(tmp_path / "trials.csv")[0])
    needed = {field.name for field in fields(contract.Trial)} - {"axes", "extra"}
    assert needed <= columns
    assert columns - needed == {f"axis_{axis.name}" for axis in SPACE.axes}
    assert set(get_args(State)) == set(get_args(contract.State))


def test_rows_are_trials_in_order_and_survive_quoting(tmp_path: Path) -> None:
    records = some_records()
    write_trials(tmp_path / "trials.csv", records[::-1], SCALE)
    rows = read(tmp_path / "trials.csv")
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["state"] for row in rows] == [record.state for record in records]
    assert [row["reason"] for row in rows] == [record.reason for record in records]
    assert [row["macs"] for row in rows] == ["1000000000", "5", "1000000000", "", "100000000"]
    assert rows[1]["accuracy"] == ""
    assert as_config(json.loads(rows[0]["config"])) == CONFIGS[0]


def test_front_and_hypervolume_grow_row_by_row(tmp_path: Path) -> None:
    front = write_trials(tmp_path / "trials.csv", some_records(), SCALE)
    rows = read(tmp_path / "trials.csv")
    assert [row["front_size"] for row in rows] == ["1", "1", "1", "1", "2"]
    assert front.numbers == [0, 4]
    # Accuracy 0.7; MACs 10^9 of 10^6..10^10: 1/4 left; 10 ms of 0.1..1000: 1/2 left.
    first = 0.7 * (1 / 4) * (1 / 2)
    assert float(rows[0]["hypervolume"]) == pytest.approx(first, rel=1e-12)
    # 0.65 x 1/2 x log(1000 / 5) / log(10^4), and what only the first has: 0.05 more accuracy.
    second = 0.65 * (1 / 2) * math.log(200) / math.log(1e4) + 0.05 * (1 / 4) * (1 / 2)
    assert float(rows[4]["hypervolume"]) == pytest.approx(second, rel=1e-12)


def test_a_run_without_trials_is_readable(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.csv", [], SCALE)
    assert (tmp_path / "trials.csv").read_text().strip() == ""


def test_record_round_trips_through_json() -> None:
    record = some_records()[0]
    values = json.loads(json.dumps(record.to_dict()))
    again = TrialRecord(**values)
    assert json.loads(json.dumps(again.to_dict())) == values
    assert again.row() == record.row()
    assert again.model_config == record.model_config == CONFIGS[0]


@pytest.mark.parametrize("state", ["failed", "infeasible", "interrupted"])
def test_only_complete_trials_have_values(state: State) -> None:
    record = complete_record(0, 0.7, 10**9, 10.0, CONFIGS[0])
    assert record.values == (0.7, 1e9, 10.0)
    record = dataclasses.replace(record, state=state)
    assert record.values is None
    assert not Front(SCALE).add(record)


# --- scale and front ----------------------------------------------------------------------------


def test_scale_maps_bounds_to_0_and_1_and_halves_logs() -> None:
    scale = Scale(macs_low=1e8, macs_high=1e10, latency_low_ms=1.0, latency_high_ms=100.0)
    assert scale.losses((1.0, 1e8, 1.0)) == pytest.approx((0.0, 0.0, 0.0))
    assert scale.losses((0.0, 1e10, 100.0)) == pytest.approx((1.0, 1.0, 1.0))
    assert scale.losses((0.25, 1e9, 10.0)) == pytest.approx((0.75, 0.5, 0.5))


def test_front_kept_up_to_date_is_the_front_of_all() -> None:
    rng = np.random.default_rng(0)
    records = [
        complete_record(
            number, float(rng.random()), int(rng.integers(10**7, 10**9)), rng.uniform(1, 9), c
        )
        for number, c in enumerate([*CONFIGS] * 8)
    ]
    front, reverse = Front(SCALE), Front(SCALE)
    for record in records:
        front.add(record)
    for record in records[::-1]:
        reverse.add(record)
    assert sorted(front.numbers) == sorted(reverse.numbers)
    assert front.hypervolume == pytest.approx(reverse.hypervolume, rel=1e-12)


# --- files --------------------------------------------------------------------------------------


def test_integers_with_gaps_stay_integers(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", [{"a": 3, "b": True}, {"a": None, "b": None}])
    assert (tmp_path / "x.csv").read_text() == "a,b\n3,True\n,\n"


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, [2])
    assert json.loads(path.read_text()) == [2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def full(*args: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync", full) if step == "fsync" else (Path, "replace", full)))
    with pytest.raises(OSError, match="No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.txt"]
