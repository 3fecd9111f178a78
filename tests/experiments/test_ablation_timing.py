"""Timing of rows on this machine, with small networks and few runs."""

from __future__ import annotations

import pytest
import torch

from effvit.designs.sepvit import VARIANTS
from effvit.designs.swin import VARIANTS as SWIN
from effvit.designs.twins import VARIANTS as TWINS
from experiments.ablation.store import LatencyRatio
from experiments.ablation.subjects import Absent, Blocks, Network, TimmNetwork
from experiments.ablation.timing import SubjectMeter, blocks_runner
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


@pytest.mark.parametrize(
    ("subject", "shape"),
    [
        (Blocks(LITE, 1, (0, 1)), (1, 8, 8, 64)),
        (Blocks(SWIN["swin_tiny"].replace(image_size=SIZE), 1, (0, 1)), (1, 8, 8, 192)),
        (Blocks(TWINS["twins_svt_small"].replace(image_size=SIZE), 1, (0, 1)), (1, 64, 128)),
    ],
    ids=["sepvit", "swin", "twins"],
)
def test_blocks_run_on_the_maps_of_their_stage(subject: Blocks, shape: tuple[int, ...]) -> None:
    """Strides 4 and 8: a map of 8 x 8."""
    run = blocks_runner(subject, torch.rand(1, 3, *SIZE))
    with torch.inference_mode():
        assert run().shape == shape
