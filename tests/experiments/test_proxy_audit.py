"""The audit: what is trained, how it is joined, what is said of it, and the committed results."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from effvit import ConfigError, ModelConfig, model_cost
from experiments import proxy_audit
from experiments.audit.gather import gather, reference_columns, score_column
from experiments.audit.page import draw, page
from experiments.audit.plan import MAX_MACS, REFERENCE_SEEDS, SEARCH_SEEDS, VARIANTS, plan
from experiments.audit.summary import (
    AMONG_SEEDS,
    BINNED,
    CEILING,
    FIXED,
    FOUND,
    REGRET,
    RHO,
    TAU,
    summarise,
)
from experiments.catalogue import DATA, Options
from experiments.earlier import RETRY_WEIGHT
from experiments.measure import Task, describe
from experiments.proxy_audit import Files
from search.proxy import SEARCH
from search.proxy.scaling import proxy_config
from search.scores.table import SCORES
from spaces import get_space

pytestmark = pytest.mark.slow  # networks are trained

COUNT = 12


@functools.cache
def planned() -> dict[str, ModelConfig]:
    configs = dict(list(plan(get_space("sepvit"), 0).variants.items())[:COUNT])
    assert len(configs) == COUNT
    return configs


def trainings(noise: float, seeds: tuple[int, ...] = REFERENCE_SEEDS) -> pd.DataFrame:
    """Rows of trainings whose accuracy rises with the variant's number, plus noise."""
    rng = np.random.default_rng(0)
    recipes = plan(get_space("sepvit"), 0)
    rows = []
    for recipe, chosen in ((recipes.reference, seeds), (recipes.search, SEARCH_SEEDS)):
        for seed in chosen:
            for number, (label, config) in enumerate(planned().items()):
                row = describe(Task(label, config, recipe, seed))
                row |= {"accuracy": 0.5 + number / 50 + noise * rng.normal(), "relation": 0.9}
                row |= {"recognition": 0.5, "relation_near": 0.95, "relation_far": 0.85}
                row |= {"relation_found": True, "attempts": 1 + (number == 0), "seconds": 2.0}
                row |= {"config": config.to_json(), "date": "2026-11-22", "cpu": "a cpu"}
                row |= {"recipe_settings": json.dumps(recipe.to_dict()), "threads": 1, "torch": "2"}
                rows.append(row)
    made: pd.DataFrame = pd.DataFrame(rows)
    return made


def scores() -> pd.DataFrame:
    """One score that is exactly wrong, another that is right for all but one variant."""
    rows = [
        {
            "variant_id": config.variant_id,
            score_column("synflow"): -number,
            score_column("zen"): number if number else np.nan,
            "seconds_synflow": 0.5,
            "seconds_zen": 0.25,
        }
        for number, config in enumerate(planned().values())
    ]
    made: pd.DataFrame = pd.DataFrame(rows)
    return made


@functools.cache
def table(noise: float = 0.0, seeds: tuple[int, ...] = REFERENCE_SEEDS) -> pd.DataFrame:
    rows = trainings(noise, seeds)
    return gather(get_space("sepvit"), planned(), rows, scores(), pd.DataFrame())


def value(summary: pd.DataFrame, reading: str, statistic: str, group: str = "all") -> float:
    chosen = summary[
        (summary["group"] == group)
        & (summary["reading"] == reading)
        & (summary["statistic"] == statistic)
    ]
    assert len(chosen) == 1
    return float(chosen["value"].iloc[0])


# --- the plan -----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", sorted(VARIANTS))
def test_a_plan_has_different_variants_within_the_budget(space: str) -> None:
    variants = plan(get_space(space), 0).variants
    assert len({config.variant_id for config in variants.values()}) == len(variants)
    assert sum(label.startswith("random_") for label in variants) == VARIANTS[space]
    assert max(model_cost(config).macs for config in variants.values()) <= MAX_MACS[space]


def test_the_sepvit_audit_is_large_enough_and_longer_than_a_search() -> None:
    made = plan(get_space("sepvit"), 0)
    assert VARIANTS["sepvit"] >= 40
    assert len(REFERENCE_SEEDS) >= 3
    assert made.search.steps == SEARCH.steps
    assert made.reference.steps >= 2 * SEARCH.steps
    keys = [task.key for task in made.tasks()]
    assert len(set(keys)) == len(keys) == 4 * len(made.variants)
    assert not set(REFERENCE_SEEDS) & set(SEARCH_SEEDS)


def test_another_seed_draws_other_variants() -> None:
    drawn = [
        [config.variant_id for config in plan(get_space("sepvit"), seed).variants.values()]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


# --- the table ----------------------------------------------------------------------------------


def test_the_table_has_a_row_a_variant_in_the_order_of_the_plan() -> None:
    assert table()["label"].tolist() == list(planned())
    assert table()["macs"].tolist() == [model_cost(c).macs for c in planned().values()]
    assert reference_columns(table()) == [f"reference_accuracy_{s}" for s in REFERENCE_SEEDS]


def test_seeds_that_are_not_finished_are_left_out() -> None:
    rows = trainings(0.0)
    last = (rows["seed"] == REFERENCE_SEEDS[-1]) & (rows["label"] == list(planned())[-1])
    made = gather(get_space("sepvit"), planned(), rows[~last], scores(), pd.DataFrame())
    assert len(made) == COUNT
    assert reference_columns(made) == [f"reference_accuracy_{s}" for s in REFERENCE_SEEDS[:2]]


def test_variants_without_longer_training_are_left_out() -> None:
    rows = trainings(0.0)
    rows = rows[(rows["label"] != list(planned())[3]) | (rows["recipe"] != "reference")]
    made = gather(get_space("sepvit"), planned(), rows, pd.DataFrame(), pd.DataFrame())
    assert len(made) == COUNT - 1


def test_surrogates_are_told_of_other_variants_only() -> None:
    rows = trainings(0.0)
    one = list(planned())[5]
    moved = rows.assign(accuracy=rows["accuracy"] + 0.3 * (rows["label"] == one))
    first, second = (
        gather(get_space("sepvit"), planned(), each, pd.DataFrame(), pd.DataFrame())
        for each in (rows, moved)
    )
    changed = (first["surrogate"] - second["surrogate"]).abs() > 1e-9
    assert not changed[first["label"] == one].any()
    assert changed.any()


# --- what it says -------------------------------------------------------------------------------


def test_perfect_agreement_is_one_and_a_reversed_score_minus_one() -> None:
    summary = summarise(table())
    for statistic in (TAU, RHO, FIXED, BINNED):
        assert value(summary, "short training, seed 0", statistic) == pytest.approx(1.0)
        assert value(summary, "synflow", statistic) == pytest.approx(-1.0)
    assert value(summary, "short training, seed 0", REGRET) == 0
    # The five that the reversed score puts first reach 0.5 + 4/50, the best 0.5 + 11/50.
    assert value(summary, "synflow", REGRET) == pytest.approx(7 / 50)


def test_a_score_that_some_variants_lack_is_held_against_the_others() -> None:
    assert value(summarise(table()), "zen", TAU) == pytest.approx(1.0)


def test_noise_lowers_what_another_training_reaches() -> None:
    clean, noisy = summarise(table()), summarise(table(0.1))
    for reading in (CEILING, AMONG_SEEDS):
        assert value(clean, reading, TAU) == pytest.approx(1.0)
        assert value(noisy, reading, TAU) < 0.9


def test_a_single_longer_training_has_no_ceiling() -> None:
    summary = summarise(table(0.0, REFERENCE_SEEDS[:1]))
    assert not summary["reading"].isin([CEILING, AMONG_SEEDS]).any()
    assert "its own noise is not known" in page({"sepvit": summary})


def test_seconds_and_shares_are_told() -> None:
    summary = summarise(table())
    chosen = summary[summary["reading"] == "synflow"]
    assert set(chosen["seconds"]) == {0.5}
    found = value(summary, "search", "relation found at once, share")
    assert found == pytest.approx((COUNT - 1) / COUNT)
    assert value(summary, "reference", "relation_far, mean") == pytest.approx(0.85)
    missed = table().assign(search_relation_0=[0.5] * 3 + [0.9] * (COUNT - 3))
    assert value(summarise(missed), "search", FOUND) == pytest.approx(1 - 3 / COUNT)
    assert "92% of the first trainings found the relation, 75% within three." in page(
        {"sepvit": summarise(missed)}
    )


def test_page_figure_and_printed_table() -> None:
    summary = summarise(table(0.05))
    text = page({"sepvit": summary})
    assert "### All variants: 12" in text
    assert "| short training, seed 0 |" in text
    assert len(draw({"sepvit": summary}).axes) == 1
    console = Console(file=io.StringIO(), width=160)
    proxy_audit.show(summary, console)
    assert "parameters" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_unknown_space_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'sepvit'"):
        proxy_audit.run(Options(out=tmp_path, space="sepvti"))


# --- what is committed --------------------------------------------------------------------------

COMMITTED = [name for name in VARIANTS if Files(DATA, name).table.exists()]


@pytest.mark.parametrize("space", COMMITTED)
def test_the_committed_summary_is_what_the_committed_table_gives(space: str) -> None:
    rows = pd.read_csv(proxy_audit.committed_summary())
    own = rows[rows["space"] == space].reset_index(drop=True)
    text = summarise(pd.read_csv(Files(DATA, space).table)).to_csv(index=False, float_format="%.4f")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text)), own, atol=2e-4)


@pytest.mark.parametrize("space", COMMITTED)
def test_the_committed_table_is_of_the_plan_recipe_and_scaling_rule_in_use(space: str) -> None:
    made = plan(get_space(space), 0)
    rows = pd.read_csv(Files(DATA, space).table).set_index("label")
    assert set(rows.index) <= set(made.variants)
    for recipe in (made.search, made.reference):
        assert set(rows[f"{recipe.name}_steps"]) == {recipe.steps}
        assert set(rows[f"{recipe.name}_{RETRY_WEIGHT}"]) == {recipe.retry_recognition_weight}
    for label, row in rows.iterrows():
        config = made.variants[str(label)]
        assert row["variant_id"] == config.variant_id
        assert row["proxy_params"] == model_cost(proxy_config(config)).params


def test_scores_of_the_table_are_known() -> None:
    assert {name for name in SCORES if score_column(name) in table()} == {"synflow", "zen"}
