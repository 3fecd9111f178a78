"""What a report says, as data: fronts, ties, gaps and empty runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import findings
from reports.findings import QUANTITIES, log_ticks, non_dominated
from reports.records import Run, load_run
from tests.reports import sample

G = 1_000_000_000


def run_of(
    folder: Path,
    trials: Sequence[Mapping[str, object]],
    finalists: Sequence[Mapping[str, object]] | None = None,
    importance: Mapping[tuple[str, str], float] | None = None,
    changes: Mapping[str, object] | None = None,
) -> Run:
    return load_run(sample.write_run(folder, trials, finalists, importance, changes))


# --- fronts -------------------------------------------------------------------------------------


def test_ties_stay_on_the_front_together_and_nan_never_does() -> None:
    rows = [(1, 2), (1, 2), (2, 1), (2, 2), (0, math.nan)]
    assert non_dominated(rows) == [True, True, True, False, False]


def test_no_rows_have_no_front() -> None:
    assert non_dominated([]) == []


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=30))
def test_the_front_is_what_nothing_dominates(rows: list[tuple[int, int, int]]) -> None:
    def dominates(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    flags = non_dominated(rows)
    front = [row for row, flag in zip(rows, flags, strict=True) if flag]
    for row, flag in zip(rows, flags, strict=True):
        assert flag is not any(dominates(other, row) for other in rows)
        # Whatever is off the front is dominated by something on it.
        assert flag or any(dominates(other, row) for other in front)


def test_the_line_is_the_front_in_its_plane_of_finalists_on_the_front(tmp_path: Path) -> None:
    finalists = [
        sample.finalist(0, macs=1 * G, latency_ms=30, accuracy=0.80),
        sample.finalist(1, macs=2 * G, latency_ms=10, accuracy=0.79),  # on the front by latency
        sample.finalist(2, macs=3 * G, latency_ms=40, accuracy=0.90),
        sample.finalist(3, macs=4 * G, latency_ms=50, accuracy=0.85, on_front=False),
    ]
    run = run_of(tmp_path, [sample.trial(n) for n in range(5)], finalists)
    plane = findings.accuracy_plane(run, "macs")
    assert [point.number for point in plane.front] == [0, 2]
    assert [point.on_front for point in plane.finalists] == [True, True, True, False]
    assert [point.number for point in plane.trials] == [4]  # the others are finalists
    assert not plane.provisional
    assert (
        plane.title == "Front of 2 variants: accuracy 0.80 at 1.00\xa0G to 0.90 at 3.00\xa0G MACs"
    )
    by_latency = findings.accuracy_plane(run, "latency_ms")
    assert [point.number for point in by_latency.front] == [1, 0, 2]


def test_intervals_reach_the_points(tmp_path: Path) -> None:
    run = run_of(tmp_path, [sample.trial(1)], [sample.finalist(0)])
    point = findings.accuracy_plane(run, "latency_ms").finalists[0]
    assert (point.x_low, point.x_high) == (19.0, 22.0)
    assert (point.y_low, point.y_high) == (0.84, 0.86)
    trial = findings.accuracy_plane(run, "macs").trials[0]
    assert all(map(math.isnan, (trial.x_low, trial.x_high, trial.y_low, trial.y_high)))


def test_without_finalists_the_front_is_provisional(tmp_path: Path) -> None:
    rows = [
        sample.trial(0, macs=1 * G, accuracy=0.7),
        sample.trial(1, macs=2 * G, accuracy=0.6),
        sample.trial(2, macs=3 * G, accuracy=0.8),
        sample.trial(3, macs=3 * G, accuracy=0.8),  # a tie
    ]
    plane = findings.accuracy_plane(run_of(tmp_path, rows), "macs")
    assert plane.provisional
    assert [point.number for point in plane.front] == [0, 2, 3]
    assert [point.on_front for point in plane.trials] == [True, False, True, True]
    assert plane.title.startswith("Front so far of 3 variants")


def test_a_missed_relation_is_told_apart(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        [sample.trial(0), sample.trial(1, relation_found=False, accuracy=0.2)],
        [sample.finalist(2, found=2), sample.finalist(3)],
    )
    plane = findings.accuracy_plane(run, "macs")
    assert [point.found for point in plane.trials] == [True, False]
    assert [point.found for point in plane.finalists] == [False, True]
    assert plane.below == 1  # the missed one does not squeeze the others
    assert all(point.found for point in findings.latency_plane(run).points)


def test_gaps_leave_a_variant_out_of_the_planes_that_need_them(tmp_path: Path) -> None:
    rows = [
        sample.trial(0, latency_ms=""),
        sample.trial(1, accuracy="nan"),
        sample.trial(2, macs=0),
    ]
    run = run_of(tmp_path, rows)
    assert [p.number for p in findings.accuracy_plane(run, "macs").points] == [0]
    assert [p.number for p in findings.accuracy_plane(run, "latency_ms").points] == [2]
    assert [p.number for p in findings.latency_plane(run).points] == [1]


def test_budgets_are_in_view_when_near(tmp_path: Path) -> None:
    near = {"budgets": {"max_macs": 2 * G, "max_params": None, "max_latency_ms": 1e6}}
    run = run_of(tmp_path, [sample.trial(0, macs=G)], changes=near)
    plane = findings.latency_plane(run)
    assert (plane.x_budget, plane.y_budget) == (2 * G, 1e6)
    assert plane.x_limits[1] > 2 * G
    assert plane.y_limits[1] < 100  # a budget far off does not stretch the axis


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [sample.trial(0)],
        [sample.unmeasured(0, "out of memory"), sample.unmeasured(1, "", "interrupted")],
    ],
    ids=["empty", "one trial", "all failed"],
)
def test_small_runs_have_findings(rows: list[dict[str, object]], tmp_path: Path) -> None:
    run = run_of(tmp_path, rows)
    complete = sum(row["state"] == "complete" for row in rows)
    for x in ("macs", "params", "latency_ms"):
        plane = findings.accuracy_plane(run, x)
        assert len(plane.points) == len(plane.front) == complete
        assert 0 < plane.x_limits[0] < plane.x_limits[1]
        assert plane.y_limits[0] < plane.y_limits[1]
    assert findings.latency_plane(run).title == "Latency against MACs"
    assert len(findings.front_table(run)) == complete
    assert len(findings.progress(run).numbers) == complete
    assert findings.importance(run).panels == ()
    assert sum(len(group.numbers) for group in findings.failures(run)) == len(rows) - complete


def test_macs_that_order_latency_have_tau_one(tmp_path: Path) -> None:
    rows = [sample.trial(n, macs=(n + 1) * G, latency_ms=(n + 1) ** 2) for n in range(4)]
    title = findings.latency_plane(run_of(tmp_path, rows)).title
    assert title == "MACs rank latency with Kendall's tau 1.00 (4 variants)"


# --- tables -------------------------------------------------------------------------------------


def test_the_table_has_the_front_first_and_the_best_on_top(tmp_path: Path) -> None:
    finalists = [
        sample.finalist(0, accuracy=0.95, on_front=False),
        sample.finalist(1, accuracy=0.80),
        sample.finalist(2, accuracy=0.90, published="sepvit_lite"),
    ]
    table = findings.front_table(run_of(tmp_path, [], finalists))
    assert [(row.name, row.on_front) for row in table] == [
        ("sepvit_lite", True), ("#1", True), ("#0", False),
    ]  # fmt: skip


def test_savings_compare_with_the_published_at_equal_accuracy(tmp_path: Path) -> None:
    finalists = [
        sample.finalist(0, published="sepvit_lite", macs=4 * G, latency_ms=40, accuracy=0.80,
                        accuracy_low=0.79, accuracy_high=0.81),
        sample.finalist(1, macs=1 * G, latency_ms=30, accuracy=0.85),
        sample.finalist(2, macs=2 * G, latency_ms=5, accuracy=0.90),
        sample.finalist(3, macs=G // 2, latency_ms=5, accuracy=0.79),  # lean but less accurate
    ]  # fmt: skip
    table = findings.front_table(run_of(tmp_path, [], finalists))
    (saving,) = findings.savings(table, ["sepvit_lite"])
    assert saving.variant.number == 1
    assert saving.macs_saved == 1 - 1 / 4
    assert saving.latency_saved == 1 - 30 / 40
    assert saving.told_apart  # [0.79, 0.81] and [0.84, 0.86]


def test_unknown_intervals_are_not_told_apart(tmp_path: Path) -> None:
    one, two = findings.front_table(
        run_of(tmp_path, [sample.trial(0), sample.trial(1, accuracy=0.2, macs=5)])
    )
    assert one.overlaps(two)


def test_failures_are_grouped_by_reason_without_numbers(tmp_path: Path) -> None:
    rows = [
        sample.unmeasured(0, "9.1 G MACs are over 8 G"),
        sample.unmeasured(1, "out of memory"),
        sample.unmeasured(2, "13.05 G MACs are over 8 G"),
        sample.trial(3),
    ]
    groups = findings.failures(run_of(tmp_path, rows))
    assert [(group.reason, group.numbers) for group in groups] == [
        ("9.1 G MACs are over 8 G", (0, 2)), ("out of memory", (1,)),
    ]  # fmt: skip


def test_importance_is_sorted_per_objective(tmp_path: Path) -> None:
    shares = {
        ("accuracy", "b"): 0.2,
        ("accuracy", "a"): 0.2,
        ("macs", "a"): 0.1,
        ("macs", "b"): 0.9,
    }
    info = findings.importance(run_of(tmp_path, [], importance=shares))
    assert info.panels == (
        ("accuracy", (("a", 0.2), ("b", 0.2))),
        ("MACs", (("b", 0.9), ("a", 0.1))),
    )
    assert info.title == "Most important: a for accuracy, b for MACs"


def test_progress_names_the_last_gain(tmp_path: Path) -> None:
    volumes = {0: 0.2, 1: 0.5, 2: 0.5, 3: ""}
    rows = [sample.trial(n, hypervolume=volume) for n, volume in volumes.items()]
    info = findings.progress(run_of(tmp_path, rows))
    assert info.hypervolume == (0.2, 0.5, 0.5)
    assert info.title == "Hypervolume 0.500 after trial 2; last gain at trial 1"


def test_axes_of_the_stages_become_one_line() -> None:
    axes = {"width_1": "32", "width_2": "64", "mlp_ratio": "4", "token": ""}
    lines = (("width", "32 · 64"), ("mlp ratio", "4"), ("token", "—"))
    assert findings.readable_axes(axes) == lines


# --- quantities ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("macs", 568_414_464, "0.568 G"),
        ("macs", 13_054_592_000, "13.1 G"),
        ("params", 3_661_128, "3.66 M"),
        ("latency_ms", 183.4, "183 ms"),
        ("accuracy", 0.84249, "0.842"),
        ("macs", 0.0, "0 G"),
        ("macs", math.nan, "—"),
    ],
)
def test_quantities_have_three_digits_and_a_unit(column: str, value: float, text: str) -> None:
    assert QUANTITIES[column].text(value).replace(findings.NBSP, " ") == text


def test_ticks_are_round_numbers() -> None:
    assert log_ticks(0.2e9, 13e9) == (0.2e9, 0.5e9, 1e9, 2e9, 5e9, 10e9)
    assert QUANTITIES["macs"].tick(0.5e9) == "0.5 G"


@given(st.floats(1e-3, 1e12), st.floats(1.05, 1e4))
def test_ticks_lie_inside_and_rise(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert list(ticks) == sorted(set(ticks))
    assert len(ticks) <= 12
    assert len(ticks) >= 2 or ratio < 1.25


@pytest.mark.parametrize(
    ("source", "predicted", "text"),
    [
        ("measured", "", "20.0\xa0ms [19.0, 22.0]"),
        ("predicted", 20.0, "20.0\xa0ms [19.0, 22.0], predicted"),
        ("measured", 21.0, "20.0\xa0ms [19.0, 22.0], predicted: 21.0\xa0ms"),
    ],
)
def test_latency_says_what_was_predicted(
    tmp_path: Path, source: str, predicted: object, text: str
) -> None:
    values = {"latency_source": source, "latency_predicted_ms": predicted}
    run = run_of(tmp_path, [sample.trial(0, **values)], [sample.finalist(0, **values)])
    for row in (run.trials[0], run.finalists[0], findings.front_table(run)[0]):
        assert findings.latency_text(row) == text
