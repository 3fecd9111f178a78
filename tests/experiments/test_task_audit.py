"""Which mean of tasks ranks: what is trained, what is computed of it, and what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from effvit import ConfigError
from experiments import task_audit
from experiments.audit.plan import REFERENCE_SEEDS, plan
from experiments.catalogue import DATA, Options
from experiments.ranking import Estimate, FloatArray
from experiments.task_audit import (
    SEARCH_SEED,
    inheritances,
    kept,
    supernet_recipe,
    trainings,
)
from experiments.task_audit_page import (
    REFERENCE,
    SEARCH,
    SUPERNET,
    SpaceResult,
    Variants,
    accuracies,
    committed,
    page,
    summarise,
)
from search.proxy import SEARCH as SEARCH_RECIPE
from search.proxy import mean_statement
from search.proxy.tasks import AXES, TASKS
from search.proxy.transfer import TransferRecipe
from search.supernet.training import RECIPES
from spaces import get_space

SEPVIT = get_space("sepvit")
TASK_SCORES = ("accuracy", "routing", "localisation", "texture")


def made_up(variants: int = 12, noise: float = 0.0) -> pd.DataFrame:
    """Trainings in which each task ranks the variants in an order of its own, but for noise."""
    rng = np.random.default_rng(3)
    configs = [SEPVIT.sample(rng) for _ in range(variants)]
    truth = {task: rng.random(variants) for task in TASK_SCORES}
    settings = {
        name: json.dumps(TransferRecipe.following(SEARCH_RECIPE).to_dict())
        for name in (SEARCH, REFERENCE)
    }
    made = [(SEARCH, SEARCH_SEED), *((REFERENCE, seed) for seed in REFERENCE_SEEDS)]
    rows: pd.DataFrame = pd.DataFrame(
        {
            "label": f"random_{number}", "recipe": recipe, "seed": seed, "macs": 1e6 * (number + 1),
            "config": configs[number].to_json(),
            **{task: truth[task][number] + noise * rng.normal() for task in TASK_SCORES},
            "seconds": 8.0, "error": "", "recipe_settings": settings[recipe], "cpu": "a processor",
            "torch": "2.6", "date": "2026-12-01T00:00:00",
        }
        for recipe, seed in made
        for number in range(variants)
    )  # fmt: skip
    return rows


def test_the_variants_are_those_of_the_proxy_audit_trained_as_a_trial_and_longer() -> None:
    audit = plan(SEPVIT, 0)
    planned = trainings(audit, SEPVIT)
    assert len(planned) == (1 + len(REFERENCE_SEEDS)) * len(audit.variants)
    assert {each.label: each.config for each in planned} == audit.variants
    routing = [(t.recipe.routing, t.seed) for t in planned if isinstance(t.recipe, TransferRecipe)]
    steps = {(recipe.cue.steps, recipe.steps, seed) for recipe, seed in routing}
    assert steps == {(120, 100, 0), *((240, 200, seed) for seed in REFERENCE_SEEDS)}
    assert len({each.key for each in planned}) == len(planned) == len(routing)


def test_every_variant_is_measured_with_a_supernet_of_the_usual_tasks() -> None:
    audit = plan(SEPVIT, 0, quick=True)
    inheriting = inheritances(audit, supernet_recipe(quick=True), 0)
    assert {each.label: each.config for each in inheriting} == audit.variants
    assert {each.tasks for each in inheriting} == {("cue", "routing")}
    assert supernet_recipe(quick=False) == RECIPES["cue", "routing"]
    assert not {each.key for each in inheriting} & {t.key for t in trainings(audit, SEPVIT)}


def test_of_other_spaces_only_what_a_search_trains_on_is_trained() -> None:
    other = get_space("mobilevitv2")
    for space, tasks in ((other, ("cue", "routing")), (SEPVIT, TASKS)):
        planned = trainings(plan(space, 0, quick=True), space)
        assert {training.tasks for training in planned} == {tasks}


def test_an_unknown_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sepvit"):
        task_audit.run(Options(out=tmp_path, space="sepvitt"))


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A surrogate that knows everything; the real one takes seconds, and has tests of its own."""

    def guess(
        variants: Variants, accuracies: FloatArray, inherited: FloatArray | None = None
    ) -> FloatArray:
        assert len(variants.configs) == len(variants.macs) == len(accuracies)
        return accuracies if inherited is None else inherited

    monkeypatch.setattr(Variants, "guessed", guess)
    monkeypatch.setattr(Variants, "smoothed", guess)


@pytest.fixture
def noisy(knowing: None) -> SpaceResult:
    return summarise(made_up(noise=0.2), SEPVIT)


@pytest.mark.usefixtures("knowing")
def test_without_noise_every_axis_ranks_as_itself() -> None:
    found = summarise(made_up(), SEPVIT)
    assert (found.variants, found.seeds) == (12, len(REFERENCE_SEEDS))
    for axis in found.axes.values():
        assert axis.trial.tau.value == axis.trial.fixed.value == pytest.approx(1)
        assert axis.ceiling.value == pytest.approx(1)
        assert axis.trial.less == Estimate(0, 0, 0)
    assert found.axes["all"].whole.tau.value == pytest.approx(1)


def test_taus_are_scipys_of_the_means_of_tasks(noisy: SpaceResult) -> None:
    rows, found = made_up(noise=0.2), noisy
    trial = rows[rows["recipe"] == SEARCH].set_index("label")
    longer = rows[rows["recipe"] == REFERENCE].groupby("label", sort=False)[list(TASK_SCORES)]
    both = ["accuracy", "routing"]
    expected = stats.kendalltau(trial[both].mean(axis=1), longer.mean()[both].mean(axis=1))
    assert found.axes["cue+routing"].trial.tau.value == pytest.approx(expected.statistic)
    whole = longer.mean().mean(axis=1)
    expected = stats.kendalltau(trial["accuracy"], whole)
    assert found.axes["cue"].whole.tau.value == pytest.approx(expected.statistic)
    expected = stats.kendalltau(trial["macs"], whole)
    assert found.baseline.value == pytest.approx(expected.statistic)
    assert found.axes["all"].work == pytest.approx(14 / 3)


def test_the_surrogate_guesses_the_longer_training(noisy: SpaceResult) -> None:
    for axis in noisy.axes.values():
        assert axis.surrogate.tau.value == axis.surrogate.fixed.value == pytest.approx(1)
        assert axis.smoothed == axis.trial
        assert axis.trial.tau.value < 1


def test_what_noise_allows_is_a_longer_training_against_the_others(noisy: SpaceResult) -> None:
    rows = made_up(noise=0.2)
    rows["both"] = rows[["accuracy", "routing"]].mean(axis=1)
    longer = rows[rows["recipe"] == REFERENCE]
    seeds = longer.pivot_table(index="label", columns="seed", values="both", sort=False)
    taus = [
        stats.kendalltau(seeds[seed], seeds.drop(columns=seed).mean(axis=1)).statistic
        for seed in REFERENCE_SEEDS
    ]
    axis = noisy.axes["cue+routing"]
    assert axis.ceiling.value == pytest.approx(np.mean(taus))
    trial = rows[rows["recipe"] == SEARCH].set_index("label").loc[seeds.index, "both"]
    same = [
        stats.kendalltau(trial, seeds.drop(columns=seed).mean(axis=1)).statistic
        for seed in REFERENCE_SEEDS
    ]
    assert axis.trial.less is not None
    assert axis.trial.less.value == pytest.approx(np.mean(same) - np.mean(taus))
    assert axis.trial.less.low < axis.trial.less.value < axis.trial.less.high


@pytest.mark.usefixtures("knowing")
def test_axes_whose_tasks_were_not_trained_are_left_out() -> None:
    rows = made_up(noise=0.2)
    rows[["localisation", "texture"]] = np.nan
    found = summarise(rows, SEPVIT)
    assert list(found.axes) == ["cue", "cue+routing"]
    assert found.axes["cue+routing"].trial.tau == found.axes["cue+routing"].whole.tau


@pytest.mark.usefixtures("knowing")
def test_a_variant_that_lacks_a_training_is_left_out() -> None:
    rows = made_up()
    failed = (rows["label"] == "random_3") & (rows["recipe"] == REFERENCE)
    rows.loc[failed & (rows["seed"] == REFERENCE_SEEDS[1]), list(TASK_SCORES)] = np.nan
    assert accuracies(rows, "all").isna().sum() == 1
    assert summarise(rows, SEPVIT).variants == 11


@pytest.mark.usefixtures("knowing")
def test_means_by_window_token_are_of_the_longer_training() -> None:
    rows = made_up()
    found = summarise(rows, SEPVIT)
    token = rows["config"].map(lambda text: json.loads(text)["window_representation"])
    longer = rows[rows["recipe"] == REFERENCE].assign(token=token)
    for name, part in longer.groupby("token"):
        assert found.by_token.loc[name, "cue"] == pytest.approx(part["accuracy"].mean())
        assert found.by_token.loc[name, "variants"] == part["label"].nunique()
    assert found.by_token["all"].is_monotonic_increasing
    assert "| window token | variants | cue |" in page({"sepvit": found})


@pytest.mark.usefixtures("knowing")
def test_a_supernet_ranks_on_the_axes_that_it_learned() -> None:
    rows = made_up(noise=0.2)
    inherited = rows[rows["recipe"] == SEARCH].assign(
        recipe=SUPERNET, accuracy=rows["macs"], localisation=np.nan, texture=np.nan
    )
    without, found = summarise(rows, SEPVIT), summarise(pd.concat([rows, inherited]), SEPVIT)
    assert found.variants == 12
    assert found.axes["all"] == without.axes["all"]
    assert found.axes["all"].supernet is without.axes["cue"].supernet is None
    supernet, joint = found.axes["cue"].supernet, found.axes["cue"].joint
    assert supernet is not None
    assert joint is not None
    assert supernet.tau.value == joint.tau.value == pytest.approx(found.axes["cue"].macs)
    for name in ("supernet", "surrogate with supernet"):
        assert page({"sepvit": found}).count(f"| {name} |") == 2


@pytest.mark.usefixtures("knowing")
def test_every_processor_is_named() -> None:
    rows = made_up()
    rows.loc[rows["seed"] == REFERENCE_SEEDS[1], ["cpu", "date"]] = "another", "2026-12-02T10:00:00"
    expected = "a processor, torch 2.6, 2026-12-01; another, torch 2.6, 2026-12-02"
    assert summarise(rows, SEPVIT).where == expected


def test_the_page_has_a_row_an_axis_and_says_what_it_is_not(noisy: SpaceResult) -> None:
    text = page({"sepvit": noisy})
    for axis in AXES:
        assert text.count(f"| `{axis}` |") == (4 if axis == "all" else 5)
    assert "a trial's training, 4.7x the canvases" in text
    assert "none is an accuracy on images of things" in text
    assert f"12 variants, one training of a trial, {len(REFERENCE_SEEDS)} longer ones" in text


@pytest.mark.slow  # surrogates are fitted
@pytest.mark.parametrize("space", sorted(kept(DATA)))
def test_the_committed_summary_is_what_the_kept_trainings_give(space: str) -> None:
    fresh = committed({space: summarise(kept(DATA)[space], get_space(space))}).set_index("axis")
    rows = pd.DataFrame(mean_statement._rows())
    known = rows[rows["space"] == space].set_index("axis")
    assert list(known.index) == list(fresh.index)
    for column in fresh.columns.drop("space"):
        assert pd.to_numeric(known[column]).to_numpy() == pytest.approx(
            fresh[column].to_numpy(float), abs=1e-4, nan_ok=True
        )
