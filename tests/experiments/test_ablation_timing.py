"""Timing of rows on this machine, with small networks and few runs."""

from __future__ import annotations

import dataclasses

import pytest

from effvit.designs.sepvit import VARIANTS
from experiments.ablation.store import LatencyRatio
from experiments.ablation.subjects import Absent, Blocks, Network, TimmNetwork
from experiments.ablation.timing import SubjectMeter
from search.latency import LatencyProtocol

SIZE = (64, 64)
LITE = VARIANTS["sepvit_lite"].replace(image_size=SIZE, num_classes=0)
QUICK = LatencyProtocol(seconds=0.05, patience=1, max_runs=8, max_warm_up=2)


@pytest.fixture(scope="module")
def meter() -> SubjectMeter:
    return SubjectMeter(QUICK, SIZE)


@pytest.mark.parametrize(
    "subject",
    [Network(LITE), Blocks(LITE, 2, (0, 1)), TimmNetwork("resnet10t", SIZE)],
    ids=lambda subject: type(subject).__name__,
)
def test_a_ratio_lies_in_its_interval(
    meter: SubjectMeter, subject: Network | Blocks | TimmNetwork
) -> None:
    found = meter.measure(subject)
    assert isinstance(found, LatencyRatio)
    assert 0 < found.low <= found.ratio <= found.high
    assert "torch" in found.environment


def test_nothing_cannot_be_timed(meter: SubjectMeter) -> None:
    with pytest.raises(ValueError, match="nothing to run"):
        meter.measure(Absent("there is none"))


def test_half_of_a_network_takes_less_than_all_of_it(meter: SubjectMeter) -> None:
    """Two of eleven blocks, beside the network that has them."""
    assert meter.measure(Blocks(LITE, 1, (0, 1))).ratio < meter.measure(Network(LITE)).ratio


def test_an_uncertain_ratio_is_noisy() -> None:
    strict = SubjectMeter(dataclasses.replace(QUICK, noisy_interval=1e-9), SIZE)
    assert strict.measure(Network(LITE)).noisy
