"""The sampler benchmark: problems are what they say, searches count what they do, tables add up."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from effvit import ConfigError
from experiments import sampler_benchmark, tabular_benchmark
from experiments.catalogue import Options
from experiments.sampler_benchmark import Task, search, search_all, tasks
from experiments.sampler_benchmark_figure import panels
from experiments.sampler_benchmark_findings import behind, reaches, show, summarise
from experiments.sampler_benchmark_page import page, statements
from experiments.sampler_benchmark_problems import (
    PROBLEMS,
    Problem,
    Slice,
    macs_loss,
    problem,
    scaled,
    spheres,
    tabulate,
    utility,
)
from experiments.sampler_benchmark_rivals import RIVALS
from search.front import non_dominated
from search.samplers import Objective

SMALL = {
    "width_2": (64, 128),
    "width_3": (128, 192, 256),
    "width_4": (256, 512),
    "depth_1": (1,),
    "depth_2": (1, 2),
    "depth_3": (2, 4),
    "depth_4": (1,),
    "width_1": (32,),
    "window_size": (7,),
    "group_count": (2,),
    "attention_1": ("dssa",),
    "attention_2": ("dssa",),
    "attention_3": ("dssa", "gsa"),
    "attention_4": ("dssa",),
    "window_representation": ("learned", "none"),
    "mlp_ratio": (2, 4),
    "head_width": (32,),
}


@pytest.fixture(scope="module")
def table() -> Slice:
    return tabulate("sepvit", SMALL)


@pytest.fixture(scope="module")
def small(table: Slice) -> Problem:
    macs, objective = macs_loss(table.costs)
    losses = [macs, scaled(-utility(table, seed=0))]
    return Problem.of(table, losses, [objective, Objective("utility")])


@pytest.fixture
def _small_problem(small: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_benchmark, "_problem", lambda name: small)


def test_a_slice_holds_each_network_once(table: Slice) -> None:
    # Of axes with several values: 2 x 3 x 2 widths, 2 x 2 depths, kinds 2, tokens 2, ratios 2.
    assert len({*table.configs}) == len(table.configs) == 12 * 4 * 2 * 2 * 2
    assert table.places.min() == 0
    assert table.places.max() == 1


def test_the_front_is_what_nothing_of_the_slice_dominates(small: Problem) -> None:
    losses = small.losses
    better = (losses[:, None] <= losses).all(-1) & (losses[:, None] < losses).any(-1)
    assert non_dominated(losses).tolist() == (~better.any(axis=0)).tolist()
    everything = list(range(len(losses)))
    assert small.reached(everything) == pytest.approx(1, abs=1e-12)
    assert small.reached([]) == 0
    on_front = np.flatnonzero(non_dominated(losses))
    assert small.reached(on_front[1:].tolist()) < 1


def test_the_exact_objective_computes_the_loss(small: Problem, table: Slice) -> None:
    exact = small.objectives[0].exact
    assert exact is not None
    assert np.asarray(exact(table.costs)) == pytest.approx(small.losses[:, 0])
    assert small.objectives[1].exact is None


def test_the_utility_is_no_function_of_macs(table: Slice) -> None:
    values = utility(table, seed=0)
    assert values.tolist() != utility(table, seed=1).tolist()
    assert abs(np.corrcoef(np.log(table.costs.macs), values)[0, 1]) < 0.9


def test_spheres_touch_the_unit_sphere_at_distance_nought(table: Slice) -> None:
    losses = spheres(table, seed=0)
    assert losses.shape == (len(table.configs), 3)
    assert losses.max() == 1
    assert losses.min() >= 0


@pytest.mark.usefixtures("_small_problem")
@pytest.mark.parametrize("sampler", ["evolution", "surrogate", "mutation", "nsga2"])
def test_a_search_counts_what_it_does(sampler: str) -> None:
    row = search(Task("small", sampler, 0, (10, 25)))
    assert row == {**search(Task("small", sampler, 0, (10, 25))), **timed(row)}
    assert 0 < row["hv_10"] <= row["hv_25"] <= 1
    assert row["evaluations"] == 25
    if sampler != "nsga2":
        assert row["repeated"] == row["invalid"] == 0


def timed(row: dict[str, object]) -> dict[str, object]:
    """What differs from time to time."""
    return {name: row[name] for name in ("cpu_ms", "last_cpu_ms", "date")}


@pytest.mark.usefixtures("_small_problem")
def test_a_search_ends_where_the_whole_front_is_found() -> None:
    row = search(Task("small", "surrogate", 0, (25, 50, 100, 150, 192)))
    assert row["hv_192"] == 1
    assert row["evaluations"] < 192
    assert row["repeated"] == 0


@pytest.mark.usefixtures("_small_problem")
def test_a_run_goes_on_with_what_is_missing(tmp_path: Path, capsys: object) -> None:
    wanted = [Task("small", name, seed, (10,)) for seed in (0, 1) for name in ("random", "nsga2")]
    path = tmp_path / "rows.csv"
    search_all(wanted[:3], path, workers=1)
    before = path.read_text()
    path.write_text(before + "small,nsga2,1,0.2")  # cut off in the middle of a row
    search_all(wanted, path, workers=1)
    assert path.read_text().startswith(before)
    assert len(pd.read_csv(path)) == 4


def test_the_quick_run_is_a_part_of_the_whole() -> None:
    whole = tasks(Options(out=Path()))
    quick = tasks(Options(out=Path(), quick=True))
    assert {task.key for task in quick} <= {task.key for task in whole}
    assert {task.problem for task in whole} == {
        name for name in PROBLEMS if PROBLEMS[name].available
    }
    often = [task.seed for task in whole if task.sampler != "gp"]
    assert often == sorted(often)
    assert {task.sampler for task in whole[len(often) :]} == {"gp"}
    assert max(task.curve[-1] for task in whole if task.sampler == "gp") == RIVALS["gp"].limit


def rows_of(shares: dict[str, tuple[float, ...]]) -> pd.DataFrame:
    """Two searches for each sampler that reach these shares, give and take 0.01."""
    costs = {"repeated": 0.0, "invalid": 0.0, "cpu_ms": 1.0, "last_cpu_ms": 1.0}
    where = dict.fromkeys(("cpu", "optuna", "numpy", "scikit-learn", "torch", "python"), "x")
    rows: pd.DataFrame = pd.DataFrame(
        {
            "problem": "spheres",
            "sampler": sampler,
            "seed": seed,
            "hv_50": reached[0] + (0.01 if seed else -0.01),
            "hv_100": reached[1] + (0.01 if seed else -0.01),
            **costs,
            **where,
            "cores": 2,
            "date": "2026-01-01",
        }
        for sampler, reached in shares.items()
        for seed in (0, 1)
    )
    return rows


def test_the_mark_is_what_nsga2_has_at_the_end() -> None:
    summary = summarise(rows_of({"evolution": (0.7, 0.9), "nsga2": (0.5, 0.8)}))
    own = summary.set_index("sampler").loc["evolution"]
    assert own["hv_50"] == pytest.approx(0.7)
    assert own["low_50"] == pytest.approx(0.69)
    assert own["to_mark"] == pytest.approx(50 + 50 * (0.8 - 0.7) / (0.9 - 0.7))


def test_where_a_rival_is_ahead_is_said() -> None:
    rows = rows_of({"evolution": (0.7, 0.9), "nsga2": (0.75, 0.8), "gp": (0.6, 0.9)})
    said = list(behind(summarise(rows), "evolution"))
    assert said == [
        "spheres, 50 evaluations: evolution 0.7000, nsga2 0.7500",
        "spheres, 100 evaluations: evolution 0.9000, gp 0.9000",
    ]
    text = page(rows)
    assert all(line in text for line in said)
    assert "| evolution | 0.700 [0.690, 0.710] | 0.900 [0.890, 0.910] |" in text
    ahead = list(statements(summarise(rows_of({"evolution": (0.7, 0.9), "nsga2": (0.5, 0.8)}))))
    assert "evolution is ahead of every rival at every number of evaluations" in ahead[-1]


def test_tables_and_curves_are_of_the_same_summary() -> None:
    summary = summarise(rows_of({"evolution": (0.7, 0.9), "nsga2": (0.5, 0.8)}))
    screen = Console(file=io.StringIO(), width=200)
    show(summary, screen)
    assert isinstance(screen.file, io.StringIO)
    assert "0.900 [0.890, 0.910]" in screen.file.getvalue()
    (panel,) = panels(summary)
    assert panel.lines[0].sampler == "evolution"
    assert panel.lines[0].evaluations == (50, 100)


@pytest.mark.parametrize(
    ("mark", "expected"), [(0.1, 10), (0.2, 10), (0.4, 15), (0.6, 20), (0.7, np.nan)]
)
def test_a_curve_reaches_a_mark_between_two_counts(mark: float, expected: float) -> None:
    found = reaches(np.array([10.0, 20.0]), np.array([0.2, 0.6]), mark)
    assert found == pytest.approx(expected, nan_ok=True)


def test_unknown_problem_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown problem 'sphere'; did you mean 'spheres'"):
        problem("sphere")


# --- the table of measurements ------------------------------------------------------------------


def latency(config: object) -> dict[str, float]:
    return {"latency_ratio": 0.5, "latency_noisy": 0.0}


def accuracy(config: object) -> dict[str, float]:
    return {"accuracy": 0.25, "cross_entropy": 1.5}


def test_a_table_is_measured_in_parts_and_read_back(tmp_path: Path) -> None:
    space = tabular_benchmark.table_space()
    first = tmp_path / tabular_benchmark.LATENCY
    assert not tabular_benchmark.measure(space, first, latency, minutes=0)
    assert tabular_benchmark.measure(space, first, latency, limit=3)
    assert tabular_benchmark.measure(space, first, latency, limit=5)
    numbers = pd.read_csv(first)["number"].tolist()
    assert len({*numbers}) == 5
    with pytest.raises(ConfigError, match="holds no rows yet"):
        tabular_benchmark.write(tmp_path)
    tabular_benchmark.measure(space, tmp_path / tabular_benchmark.ACCURACY, accuracy, limit=4)
    found = tabular_benchmark.read_table(tabular_benchmark.write(tmp_path))
    assert found.configs == [space.unrank(number) for number in sorted(numbers[:4])]
    assert found.latency_ratio.tolist() == [0.5] * 4
    assert found.accuracy.tolist() == [0.25] * 4


def test_a_table_of_another_slice_is_refused(tmp_path: Path) -> None:
    space = tabular_benchmark.table_space()
    for name, evaluate in (
        (tabular_benchmark.LATENCY, latency),
        (tabular_benchmark.ACCURACY, accuracy),
    ):
        tabular_benchmark.measure(space, tmp_path / name, evaluate, limit=2)
    path = tabular_benchmark.write(tmp_path)
    rows = pd.read_csv(path)
    rows["mlp_ratio"] = 6 - rows["mlp_ratio"]
    rows.to_csv(path, index=False)
    with pytest.raises(ConfigError, match="another slice: its mlp_ratio differs"):
        tabular_benchmark.read_table(path)
