"""Scores of many variants, in this process and in others."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from effvit import ModelConfig
from effvit.config import ConfigError
from effvit.designs.sepvit import SepViTConfig
from search.proxy.digits import CELLS
from search.scores import many
from search.scores.many import Scored, canvas_batch, score_all, score_network, score_variant
from tests.search.scores.networks import FAMILIES, built, images_and_classes

TINY = SepViTConfig(widths=(32, 64, 128, 256), depths=(1, 2, 1, 1), heads=(1, 2, 4, 8))
NAMES = ("synflow", "zen", "grad_norm")


def test_a_variant_is_scored_as_the_proxy_trains_it() -> None:
    scored = score_variant(TINY, seed=3, names=NAMES, images=2)
    batch = canvas_batch(2, 3)
    assert batch.targets is not None
    assert (batch.images.shape, batch.targets.shape) == ((2, 3, 96, 96), (2, CELLS))
    assert float(batch.images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(batch.images.std()) == pytest.approx(1, abs=1e-5)
    assert scored == score_network(many.proxy_network(TINY, 3), batch, 3, NAMES)
    assert all(math.isfinite(value) for value in scored.values.values())
    assert all(seconds > 0 for seconds in scored.seconds.values())


def test_building_a_network_draws_nothing_from_the_shared_generator() -> None:
    before = torch.get_rng_state()
    many.proxy_network(TINY, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_changes_network_and_canvases() -> None:
    assert not torch.equal(canvas_batch(2, 0).images, canvas_batch(2, 1).images)
    first, other = (score_variant(TINY, seed, ("synflow",), images=2) for seed in (0, 1))
    assert first != other


def test_any_network_can_be_scored() -> None:
    scored = score_network(built(FAMILIES["sepvit"]), images_and_classes(), names=("snip",))
    assert scored.values["snip"] > 0


def test_a_variant_that_cannot_be_scored_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Scored:
        raise RuntimeError("can't allocate\nmemory")

    monkeypatch.setattr(many, "score_variant", fails)
    assert many._scored(TINY, 0, NAMES, 2) == Scored({}, {}, "can't allocate memory")


def test_a_family_without_a_scaling_rule_is_refused() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(ModelConfig):
        family = "other"

    with pytest.raises(ConfigError, match="other"):
        score_variant(Other(), names=("synflow",))


@pytest.mark.slow
def test_other_processes_find_the_same_to_the_bit() -> None:
    configs = [TINY, TINY.replace(depths=(1, 1, 1, 1))]
    found = dict(score_all(configs, seed=1, images=4, workers=1))
    for index, config in enumerate(configs):
        assert found[index] == score_variant(config, seed=1, images=4)
