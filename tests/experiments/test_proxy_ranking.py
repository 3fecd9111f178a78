"""The audit of the proxy: what is measured, what is said of it, and the committed results."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from effvit import model_cost
from experiments import proxy_contrasts, proxy_ranking
from experiments.catalogue import DATA, Options
from experiments.proxy_ranking import REFERENCE, SEEDS, summarise
from search.proxy import SEARCH
from search.proxy_scaling import proxy_config

OPTIONS = Options(out=DATA)


def made_rows(noise: float, variants: int = 16) -> pd.DataFrame:
    """Rows of variants whose accuracy rises with their number, plus noise; every fourth is mute."""
    rng = np.random.default_rng(0)
    rows = []
    for recipe, seeds in SEEDS.items():
        for seed in seeds:
            for number in range(variants):
                accuracy = 0.5 + number / 50 + noise * rng.normal()
                row = {"variant_id": f"v{number:02}", "recipe": recipe, "seed": seed}
                row |= {f"width_{stage}": 32 * (1 + number % 3) for stage in range(1, 5)}
                row |= dict.fromkeys(("params", "macs", "blocks", "proxy_macs"), 1 + number % 5)
                row |= {"accuracy": accuracy, "relation": 0.9, "recognition": 0.5}
                row |= {"relation_found": True, "attempts": 1, "seconds": 2.0}
                rows.append(row | {"mixes_windows": number % 4 != 0})
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def value(summary: pd.DataFrame, group: str, reading: str, statistic: str) -> float:
    chosen = summary[
        (summary["group"] == group)
        & (summary["reading"] == reading)
        & (summary["statistic"] == statistic)
    ]
    assert len(chosen) == 1
    return float(chosen["value"].iloc[0])


def test_tasks_are_enough_variants_with_other_seeds_and_longer_training() -> None:
    tasks = proxy_ranking.tasks(OPTIONS)
    labels = {task.label for task in tasks}
    assert len([label for label in labels if label.startswith("random_")]) >= 24
    assert {"sepvit_lite", "sepvit_tiny", "sepvit_small", "sepvit_base"} <= labels
    assert not set(SEEDS[SEARCH.name]) & set(SEEDS[REFERENCE.name])
    assert REFERENCE.steps >= 3 * SEARCH.steps
    assert len({task.key for task in tasks}) == len(tasks) == 4 * len(labels)


def test_another_seed_draws_other_variants() -> None:
    first, again, other = (
        {task.config.variant_id for task in proxy_ranking.tasks(Options(out=DATA, seed=seed))}
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_perfect_agreement_is_one_and_noise_lowers_it() -> None:
    clean, noisy = (summarise(made_rows(noise)) for noise in (0.0, 0.1))
    for group in ("all", "mixing windows"):
        assert value(clean, group, "search, mean of seeds", "tau to reference") == 1.0
        assert value(noisy, group, "search, mean of seeds", "tau to reference") < 0.9
        assert value(clean, group, "search, seed with seed", "tau") == 1.0


def test_groups_and_noise_are_counted() -> None:
    summary = summarise(made_rows(0.02))
    sizes = summary.groupby("group")["n"].first()
    assert sizes.to_dict() == {"all": 16, "mixing windows": 12}
    # Independent noise of 0.02 in every run.
    assert value(summary, "all", "search", "accuracy, sd of one seed") == pytest.approx(
        0.02, rel=0.5
    )
    assert value(summary, "all", "search", "relation found, share") == 1.0


def test_variants_with_a_failed_run_are_left_out() -> None:
    rows = made_rows(0.0)
    rows.loc[rows["variant_id"] == "v03", "accuracy"] = np.where(
        rows.loc[rows["variant_id"] == "v03", "seed"] == 0, np.nan, 0.5
    )
    assert summarise(rows)["n"].iloc[0] == 15


def test_the_table_can_be_printed() -> None:
    console = Console(file=io.StringIO(), width=120)
    proxy_ranking.show(summarise(made_rows(0.05)), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "tau to reference" in text
    assert "mixing windows (n = 12)" in text


def test_paired_differences_cancel_what_seeds_share() -> None:
    rows = [
        {"seed": seed, "label": label, "accuracy": 0.5 + seed / 10 + gain, "relation": 0.9,
         "recognition": 0.5 + 0.1 * (seed % 2) * bool(gain)}
        for seed in range(4)
        for label, gain in [("sepvit_lite", 0.0)]
        + [(label, 0.02) for label in proxy_contrasts.CHANGES]
    ]  # fmt: skip
    summary = proxy_contrasts.summarise(pd.DataFrame(rows)).set_index(["change", "score"])
    row = summary.loc[("no GSA", "accuracy")]
    assert row["difference"] == pytest.approx(0.02)
    assert row["resolved"]
    # 0, .1, 0, .1: mean .05, deviation .0577, Student's t for 3 degrees of freedom 3.182.
    unsure = summary.loc[("no GSA", "recognition")]
    assert unsure["high"] - unsure["low"] == pytest.approx(2 * 3.1824 * 0.057735 / 2, rel=1e-3)
    assert not unsure["resolved"]


@pytest.mark.parametrize(
    ("module", "raw", "summary"),
    [
        (proxy_ranking, proxy_ranking.RAW, proxy_ranking.committed_summary()),
        (proxy_contrasts, proxy_contrasts.RAW, DATA / proxy_contrasts.SUMMARY),
    ],
    ids=["ranking", "contrasts"],
)
def test_the_committed_summary_is_what_the_committed_rows_give(module, raw, summary) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    rows = pd.read_csv(DATA / raw)
    recomputed = io.StringIO(module.summarise(rows).to_csv(index=False, float_format="%.4f"))
    pd.testing.assert_frame_equal(pd.read_csv(recomputed), pd.read_csv(summary), atol=2e-4)


def test_the_committed_rows_are_of_the_recipes_and_the_scaling_rule_in_use() -> None:
    wanted = {task.key: task for task in proxy_ranking.tasks(OPTIONS)}
    rows = pd.read_csv(DATA / proxy_ranking.RAW)
    keys = list(zip(rows["variant_id"], rows["recipe"], rows["seed"], strict=True))
    assert sorted(keys) == sorted(wanted)
    settings = map(json.loads, rows["recipe_settings"])
    scaled = rows["proxy_params"]
    for key, written, params in zip(keys, settings, scaled, strict=True):
        assert written == json.loads(json.dumps(wanted[key].recipe.to_dict()))
        assert params == model_cost(proxy_config(wanted[key].config)).params
