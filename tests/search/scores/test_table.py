"""What every score promises: finite, pure, reproducible, for every family and space."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effvit.config import ConfigError
from effvit.networks.layers import Attention
from search.scores.common import Batch
from search.scores.table import SCORES, compute
from tests.search.scores.networks import (
    CLASSES,
    FAMILIES,
    SMALL_SEPVIT,
    built,
    images_and_classes,
    random_variants,
    small,
)

BATCH = images_and_classes()


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that a score might leave changed."""
    return {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gradients": {
            name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
        },
        "wants": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for name, m in model.named_modules()
        },
        "fused": [m.fused for m in model.modules() if isinstance(m, Attention)],
        "attributes": {name: sorted(vars(m)) for name, m in model.named_modules()},
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return a == b


def generator_states() -> tuple[object, ...]:
    """States of the generators that everything shares."""
    numpy = np.random.get_state()  # noqa: NPY002 - that one
    return random.getstate(), str(numpy), torch.get_rng_state().tolist()


SEARCHED = ("sepvit", "mobilevitv2", "efficientvit", "hybrid")


@pytest.mark.parametrize(
    "family",
    [name if name in SEARCHED else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_scores_are_finite_and_change_nothing(family: str) -> None:
    model, batch = built(FAMILIES[family]), images_and_classes(8)
    model.train()
    next(model.parameters()).requires_grad_(False)
    next(iter(model.children())).eval()
    list(model.parameters())[-1].grad = torch.ones(5)
    before = state_of(model)
    images = batch.images.clone()
    generators = generator_states()
    for name in SCORES:
        assert np.isfinite(compute(name, model, batch)), name
        assert same(state_of(model), before), name
    assert torch.equal(batch.images, images)
    assert generator_states() == generators


@pytest.fixture(scope="module")
def sepvit() -> nn.Module:
    return built(FAMILIES["sepvit"])


@pytest.fixture(scope="module")
def values(sepvit: nn.Module) -> dict[str, float]:
    """All scores of one network on one batch."""
    return {name: compute(name, sepvit, BATCH) for name in SCORES}


def test_scores_are_reproduced_whatever_the_mode_and_kernels(values: dict[str, float]) -> None:
    model = built(FAMILIES["sepvit"].replace(drop_path_rate=0.3)).train()
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused = False
    with torch.no_grad():
        assert {name: compute(name, model, BATCH) for name in SCORES} == values


def test_only_random_scores_read_the_seed(sepvit: nn.Module, values: dict[str, float]) -> None:
    for name, score in SCORES.items():
        assert (compute(name, sepvit, BATCH, seed=1) != values[name]) == score.random, name


def test_scores_tell_networks_apart(values: dict[str, float]) -> None:
    wide = built(small(SMALL_SEPVIT.replace(widths=(16, 32, 32, 64))))
    for name, value in values.items():
        assert compute(name, wide, BATCH) != value, name


def test_scores_are_of_the_weights_but_for_zen_which_draws_its_own(
    values: dict[str, float],
) -> None:
    other = built(FAMILIES["sepvit"], seed=1)
    for name in ("synflow", "naswot", "attention_entropy"):
        assert compute(name, other, BATCH) != values[name]
    assert compute("zen", other, BATCH) == values["zen"]


def test_labels_are_read_by_the_scores_that_say_so(
    sepvit: nn.Module, values: dict[str, float]
) -> None:
    assert BATCH.targets is not None
    others = Batch(BATCH.images, (BATCH.targets + 1) % CLASSES)
    without = Batch(BATCH.images)
    for name, score in SCORES.items():
        if score.labels:
            assert compute(name, sepvit, others) != values[name], name
            with pytest.raises(ConfigError, match="needs targets"):
                compute(name, sepvit, without)
        else:
            assert compute(name, sepvit, without) == values[name], name


def test_an_unknown_score_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'synflow'"):
        compute("sinflow", nn.Identity(), BATCH)


def test_learned_tokens_that_are_zero_do_not_drown_the_rest() -> None:
    """Behind a layer norm of eps 1e-6 a zero token's gradient is a thousandfold: left out."""
    with_tokens = built(FAMILIES["sepvit"])
    tokens = [p for name, p in with_tokens.named_parameters() if name.endswith(".token")]
    assert tokens
    assert all(not token.any() for token in tokens)
    zero = built(FAMILIES["sepvit"].replace(window_representation="zero"))
    zero.load_state_dict(
        {name: tensor for name, tensor in with_tokens.state_dict().items() if ".token" not in name
         or "token_" in name}
    )  # fmt: skip
    for name in ("snip", "grad_norm", "grad_ratio", "fisher", "synflow"):
        value = compute(name, with_tokens, BATCH)
        assert value == pytest.approx(compute(name, zero, BATCH), rel=1e-4), name


@pytest.mark.slow
def test_random_variants_of_every_space_have_finite_scores() -> None:
    batch = images_and_classes(8)
    for space, config in random_variants(1, seed=0):
        model = built(config)
        for name in SCORES:
            assert np.isfinite(compute(name, model, batch)), (space, config.variant_id, name)
