"""Batches are functions of seed and place, whoever loads them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from effvit.config import ConfigError
from search.datasets import ImageSet
from search.train import feed
from search.train.feed import Plan, training_batches, training_transform
from search.train.processes import Group
from tests.search.train.small import FULL, PLAIN, images
from tests.search.train.small import settings as small_settings

CPU = torch.device("cpu")


def flat(plan: Plan) -> list[tuple[int, int]]:
    return [key for piece in plan for key in piece]


def plan(
    *, batch: int = 8, count: int = 30, rank: int = 0, size: int = 1, micro: int | None = None
) -> Plan:
    recipe = dataclasses.replace(PLAIN, batch=batch)
    return Plan(small_settings(recipe, micro_batch=micro), count, Group(rank, size, CPU))


def test_an_epoch_sees_no_image_twice_and_another_one_in_another_order() -> None:
    keys = flat(plan())
    first, second = keys[:24], keys[24:]  # 3 steps of 8, of 30 images
    for epoch in (first, second):
        assert len({number for number, _ in epoch}) == 24
    assert [number for number, _ in first] != [number for number, _ in second]
    assert len({seed for _, seed in keys}) == 48


@settings(max_examples=30, deadline=None)
@given(epoch=st.integers(0, 1), step=st.integers(0, 2), micro=st.sampled_from([None, 2, 4]))
def test_a_plan_goes_on_where_another_stopped(epoch: int, step: int, micro: int | None) -> None:
    whole = plan(micro=micro)
    rest = dataclasses.replace(whole, epoch=epoch, step=step)
    done = (epoch * 3 + step) * 8
    assert flat(rest) == flat(whole)[done:]
    assert len(rest) == len(list(rest))


@settings(max_examples=30, deadline=None)
@given(size=st.sampled_from([1, 2, 4]), micro=st.sampled_from([None, 2]))
def test_processes_and_pieces_share_the_same_batches(size: int, micro: int | None) -> None:
    alone = flat(plan())
    shares = [flat(plan(rank=rank, size=size, micro=micro)) for rank in range(size)]
    local = 8 // size
    together = [
        key
        for step in range(6)
        for share in shares
        for key in share[step * local : (step + 1) * local]
    ]
    assert together == alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 3}, "batch must divide among 3 processes, got 8"),
        ({"micro": 3}, "micro-batch must divide 8 images"),
        ({"batch": 31}, "batch must be at most the 30 training images, got 31"),
    ],
)
def test_batches_that_do_not_divide_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(plan(**changes))


def test_pieces_that_are_mixed_are_even() -> None:
    with pytest.raises(ConfigError, match="mixed in pairs"):
        small_settings(FULL, micro_batch=1).pieces(1)


def test_loading_workers_change_nothing() -> None:
    data = images()
    assert isinstance(data.train, ImageSet)
    train = data.train.transformed(training_transform(FULL, (32, 32)))
    wanted = Plan(small_settings(FULL), len(train), Group(0, 1, CPU), epoch=1, step=1)
    here, there = (list(training_batches(train, wanted, workers)) for workers in (0, 2))
    assert len(here) == 2
    for (x, y), (other_x, other_y) in zip(here, there, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_posterising_to_no_bits_is_black() -> None:
    """timm asks Pillow for it now and then, which refuses."""
    transform = create_transform(32, is_training=True, auto_augment="rand-m9-mstd0.5-inc1")
    feed._take_no_bits(transform)
    randomly = next(part for part in transform.transforms if hasattr(part, "ops"))
    operation = next(each for each in randomly.ops if each.name == "PosterizeIncreasing")
    white = Image.new("RGB", (4, 4), (255, 255, 255))
    assert operation.aug_fn(white, 0).getextrema() == ((0, 0),) * 3
    assert operation.aug_fn(white, 2).getextrema() == ((192, 192),) * 3
