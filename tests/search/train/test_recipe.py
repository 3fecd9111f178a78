"""Recipes: facts of the papers, and how they become rates and parameter groups."""

from __future__ import annotations

import dataclasses
import json

import pytest

from effvit import create_model, list_models, model_config
from effvit.config import ConfigError
from search.train.options import changed
from search.train.recipe import RECIPES, SEPVIT, SMALL, Recipe, named_recipe, recipe_for
from search.train.trainer import _optimizer
from tests.search.train.small import MODEL, PLAIN


def test_recipes_are_json_by_name() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert json.loads(json.dumps(recipe.to_dict()))["epochs"] == recipe.epochs
        assert Recipe(**dataclasses.asdict(recipe)) == recipe


def test_recipes_of_papers_are_for_published_models() -> None:
    assert set(RECIPES) - {"small"} < set(list_models())


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("sepvit_tiny", "drop_path", 0.2),
        ("sepvit_small", "drop_path", 0.3),
        ("sepvit_base", "drop_path", 0.5),
        ("sepvit_base", "weight_decay", 0.1),
        ("sepvit_tiny", "weight_decay", 0.05),
        ("sepvit_base", "warm_up", 20),
        ("sepvit_tiny", "warm_up", 5),
        ("mobilevitv2_050", "learning_rate", 0.0090),
        ("mobilevitv2_200", "learning_rate", 0.0020),
        ("mobilevitv2_200", "final_rate", 0.0002),
        ("mobilevitv2_100", "weight_decay", 0.013),
        ("efficientvit_b1", "learning_rate", 8 * 2.5e-4),  # of 8 GPUs
        ("efficientvit_l2", "learning_rate", 8 * 1.5e-4),
        ("efficientvit_b1", "test_crop", 0.95),
        ("efficientvit_b3", "mixup", 0.3),
        ("efficientvit_l3", "cutmix", 0.6),
    ],
)
def test_published_figures(name: str, field: str, value: float) -> None:
    assert getattr(RECIPES[name], field) == pytest.approx(value)


def test_a_published_model_gets_its_own_recipe() -> None:
    for name in set(RECIPES) - {"small"}:
        assert recipe_for(model_config(name)).name == name


def test_others_get_that_of_the_nearest_in_size_of_their_family() -> None:
    assert recipe_for(model_config("sepvit_lite")).name == "sepvit_tiny"
    assert recipe_for(model_config("cswin_tiny")) == SEPVIT
    assert recipe_for(model_config("mobilevitv2_100").replace(num_classes=900)).name == (
        "mobilevitv2_100"
    )


def test_an_unknown_recipe_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'sepvit_tiny'"):
        named_recipe("sepvit_tin")


def test_a_shorter_training_warms_up_in_proportion() -> None:
    short = RECIPES["sepvit_base"].shortened(30)
    assert (short.epochs, short.warm_up) == (30, 2)  # 20 of 300
    assert SMALL.shortened(1).warm_up == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs must be at least 1"),
        ("warm_up", 2, "warm_up must be fewer epochs"),
        ("learning_rate", 0.0, "learning_rate must be positive"),
        ("random_erasing", 1.5, "random_erasing must be from 0 to 1"),
        ("loss", "cross", "did you mean 'cross_entropy'"),
    ],
)
def test_impossible_recipes_are_refused(field: str, value: float | str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(PLAIN, **{field: value})  # type: ignore[arg-type]


def test_mixed_batches_are_even() -> None:
    with pytest.raises(ConfigError, match="nearest valid: 8"):
        dataclasses.replace(PLAIN, batch=7, mixup=0.8)


# --- rates and groups -----------------------------------------------------------------------------


def test_the_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    recipe = dataclasses.replace(
        PLAIN,
        epochs=10,
        warm_up=2,
        learning_rate=1.0,
        warm_up_rate=0.1,
        final_rate=0.2,
        batch=16,
        rate_batch=8,
    )
    optimizer, schedule = _optimizer(create_model(MODEL), recipe, steps=5)
    rates = []
    for update in range(50):
        schedule.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    # Twice the batch, twice all rates; ten updates of warm-up from 0.2 to 2.
    assert rates[:3] == pytest.approx([0.2, 0.38, 0.56])
    assert rates[10] == pytest.approx(2.0)
    assert rates[30] == pytest.approx((2.0 + 0.4) / 2)  # half of the other forty
    assert rates[49] == pytest.approx(0.4, abs=0.01)
    assert max(rates) == rates[10]


def test_norms_biases_and_tokens_do_not_decay() -> None:
    model = create_model(MODEL)
    optimizer, _ = _optimizer(model, dataclasses.replace(PLAIN, weight_decay=0.05), steps=1)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    found = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert found["stages.0.embed.conv.weight"] == 0.05
    assert found["stages.0.blocks.0.attention.qkv.weight"] == 0.05
    assert found["stages.0.blocks.0.token"] == 0
    assert found["stages.0.position.weight"] == 0
    assert found["norm.weight"] == found["head.bias"] == 0


# --- changes from the command line ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("mixup=0.3", "mixup", 0.3),
        ("epochs=7", "epochs", 7),
        ("average=none", "average", None),
        ("average=0.99", "average", 0.99),
        ("rand_augment=rand-m5-n1", "rand_augment", "rand-m5-n1"),
        ("betas=[0.8, 0.9]", "betas", (0.8, 0.9)),
    ],
)
def test_fields_can_be_changed(text: str, name: str, value: object) -> None:
    assert changed(SMALL, [text]) == dataclasses.replace(SMALL, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixupp=0.3", "did you mean 'mixup'"),
        ("mixup", "takes NAME=VALUE"),
        ("epochs=many", "takes NAME=VALUE"),
    ],
)
def test_impossible_changes_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(SMALL, [text])
