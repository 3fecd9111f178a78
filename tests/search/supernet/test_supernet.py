"""Training, keeping and using a supernet, on a space of a few small variants."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from effvit.config import ConfigError, ModelConfig
from search.proxy import ProxyRecipe
from search.proxy.feed import validation_canvases
from search.proxy.routing import RoutingRecipe, routing_batches, routing_canvases
from search.proxy.scaling import proxy_config
from search.proxy.scores import measure
from search.supernet.inheriting import CALIBRATION, CANVASES, _calibration_images
from search.supernet.store import Identity, save
from search.supernet.supernet import FILE, Supernet, agreement
from search.supernet.training import (
    FOUND_LOSS,
    FOUND_STEPS,
    PATHS,
    Paths,
    Trained,
    _Beginning,
    _dealt,
    steps_of,
    train_supernet,
    widest,
)
from search.supernet.weights import SharedWeights
from spaces.efficientvit import EfficientViTSpace
from spaces.sepvit import SepViTSpace

pytestmark = pytest.mark.slow  # networks are trained

RECIPE = ProxyRecipe(name="tiny", steps=5, batch=PATHS, evaluation_canvases=4)


ROUTED = RoutingRecipe(
    name="tiny", cue=RECIPE, steps=3, batch=4 * PATHS, kept=PATHS, evaluation_canvases=4
)


@functools.cache
def space() -> SepViTSpace:
    """Eight variants of one or two blocks a stage, all with learned window tokens."""
    values: dict[str, list[int | str]] = {
        "width_1": [32, 64],
        "width_2": [64],
        "width_3": [128],
        "width_4": [256, 384],
        "depth_1": [1],
        "depth_2": [1, 2],
        "depth_3": [2],
        "depth_4": [1],
        "window_size": [7],
        "group_count": [2],
        **{f"attention_{stage}": ["dssa"] for stage in range(1, 5)},
        "window_representation": ["learned"],
        "mlp_ratio": [2],
        "head_width": [32],
    }
    return SepViTSpace(224, values)


@functools.cache
def paths() -> Paths:
    return Paths.of(space(), seed=0)


@functools.cache
def trained(seed: int = 0) -> Trained:
    return train_supernet(paths(), RECIPE, seed)


def tensors(of: Trained) -> dict[str, torch.Tensor]:
    return {key: tensor.detach() for key, tensor in of.weights.tensors.items()}


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    again = train_supernet(Paths.of(space(), seed=0), RECIPE, 0)
    assert tensors(again).keys() == tensors(trained()).keys()
    assert all(torch.equal(t, tensors(trained())[key]) for key, t in tensors(again).items())


def test_every_tensor_gets_a_gradient_from_some_variant() -> None:
    start = SharedWeights(paths().shaping, seed=0)
    for config in paths().sampler.pool:
        start.slices(proxy_config(config))
    shared = trained().weights.tensors
    assert trained().keys == shared.keys()
    # AdamW leaves a tensor without a gradient as it is.
    assert all(not torch.equal(tensor, start.tensors[key]) for key, tensor in shared.items())


def test_the_weights_are_as_wide_as_any_variant() -> None:
    """Not as the one with the most MACs: maps are rounded up to whole heads, some do not attend."""
    values: dict[str, list[int | str]] = {
        "width_stem": [8],
        **{f"width_{stage}": [width] for stage, width in enumerate((24, 40, 80, 160), start=1)},
        "depth_stem": [1],
        **{f"depth_{stage}": [1] for stage in range(1, 5)},
        "kind_1": ["mbconv"],
        **{f"kind_{stage}": ["mbconv", "attention"] for stage in range(2, 5)},
        "head_width": [8, 16, 32],
        "scales": ["5x5"],
        "expand_ratio": [2, 6],
        "classifier": ["1024+1280"],
    }
    small = EfficientViTSpace(224, values)
    largest = Paths.of(small, seed=0).largest
    every = [proxy_config(small.unrank(number)) for number in range(small.size())]
    needed = sliced_extents(every)
    assert sliced_extents([proxy_config(largest)]) != needed
    assert sliced_extents(widest(small, [largest])) == needed


def sliced_extents(variants: Sequence[ModelConfig]) -> dict[str, int]:
    extents = SharedWeights(variants, seed=0).extents
    return {group: size for group, size in extents.items() if not group.isdigit()}


def test_each_step_has_an_extreme_in_turn() -> None:
    steps = iter(paths().steps())
    first, second, third = (next(steps) for _ in range(3))
    assert first[0] == third[0] == paths().largest
    assert second[0] == paths().smallest
    assert len(first) == PATHS


def test_the_largest_is_alone_until_it_has_found_the_relation() -> None:
    found, lost = _Beginning(2 * FOUND_STEPS), _Beginning(2 * FOUND_STEPS)
    lasted = {found: 0, lost: 0}
    for beginning, relation in ((found, FOUND_LOSS / 2), (lost, 2 * FOUND_LOSS)):
        while beginning.goes_on:
            beginning.saw(relation)
            lasted[beginning] += 1
    assert lasted == {found: FOUND_STEPS, lost: 2 * FOUND_STEPS}
    assert not _Beginning(0).goes_on


def test_a_batch_that_cannot_be_split_is_refused_with_the_nearest() -> None:
    recipe = dataclasses.replace(RECIPE, batch=PATHS + 1)
    for refused in (recipe, dataclasses.replace(ROUTED, batch=PATHS + 1)):
        with pytest.raises(ConfigError, match=f"nearest valid: {PATHS}"):
            train_supernet(paths(), refused, 0)


def test_it_is_trained_once_and_loaded_after(tmp_path: Path) -> None:
    steps: list[int] = []
    config = paths().smallest
    recipe = dataclasses.replace(RECIPE, steps=2)
    made = Supernet.obtain(space(), tmp_path, recipe=recipe, after_step=steps.append)
    loaded = Supernet.obtain(space(), tmp_path, recipe=recipe, after_step=steps.append)
    assert steps == [1, 2]
    assert made.score(config) == loaded.score(config)


def test_scores_are_those_of_the_network_with_the_inherited_weights() -> None:
    inherited = Supernet(trained(), RECIPE, 0).score(paths().largest)
    network = trained().weights.network(proxy_config(paths().largest))
    validation = validation_canvases(dataclasses.replace(RECIPE, evaluation_canvases=CANVASES))
    assert inherited.scores == measure(network, validation)
    assert inherited.trained_share == 1.0
    assert inherited.cross_entropy > 0


def test_routing_is_learned_after_the_cue_task_and_measured_with_the_same_weights() -> None:
    on_both = dataclasses.replace(ROUTED, steps=1)
    after = train_supernet(paths(), on_both, 0)
    assert after.keys == trained().keys
    assert all(not torch.equal(t, tensors(trained())[key]) for key, t in tensors(after).items())
    inherited = Supernet(after, on_both, 0).score(paths().largest)
    network = after.weights.network(proxy_config(paths().largest)).eval()
    assert inherited.routing == measure(network, routing_canvases(CANVASES)).relation
    assert Supernet(trained(), RECIPE, 0).score(paths().largest).routing is None


def test_each_variant_of_a_step_has_its_share_of_kept_canvases() -> None:
    for _, chosen in routing_batches(ROUTED, 0):
        first_kept = (ROUTED.batch - ROUTED.kept) * ROUTED.steps
        for own in np.split(_dealt(chosen), PATHS):
            assert (own >= first_kept).sum() == ROUTED.kept / PATHS


def test_batch_norms_have_seen_both_tasks() -> None:
    images = _calibration_images(ROUTED, 0)
    (first, chosen), *_ = routing_batches(ROUTED, 0)
    assert np.array_equal(images[: ROUTED.batch], first.images[chosen])
    of_cue = _calibration_images(RECIPE, 0)
    assert len(of_cue) <= CALIBRATION
    assert not np.array_equal(images[0], of_cue[0])


def test_steps_of_both_tasks_are_told() -> None:
    told: list[int] = []
    recipe = dataclasses.replace(ROUTED, steps=2)
    train_supernet(paths(), recipe, 0, after_step=told.append)
    assert told == list(range(1, steps_of(recipe) + 1))
    assert steps_of(recipe) == RECIPE.steps + 2


def test_a_supernet_of_another_recipe_is_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(RECIPE, steps=9)
    save(trained(), Identity.of(space(), paths(), other, 0, None), tmp_path / FILE)
    with pytest.raises(ConfigError, match=r"a supernet of another recipe: .* delete it"):
        Supernet.obtain(space(), tmp_path, recipe=RECIPE)


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a supernet")
    with pytest.raises(ConfigError, match=r"is no supernet: .* delete it to train anew"):
        Supernet.obtain(space(), tmp_path, recipe=RECIPE)


def test_agreement_counts_pairs_in_the_same_order() -> None:
    # Of the six pairs of 1, 2, 3, 4 against 1, 2, 4, 3 five agree: tau is (5 - 1) / 6.
    found = agreement([1, 2, 3, 4], [1, 2, 4, 3])
    assert found.kendall_tau == pytest.approx(4 / 6)
    assert found.spearman_rho == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert "4 variants agree with Kendall's tau 0.67" in found.statement()


def test_agreement_needs_pairs() -> None:
    with pytest.raises(ValueError, match="got 1 and 2 scores"):
        agreement([1.0], [1.0, 2.0])
