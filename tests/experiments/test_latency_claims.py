"""The claims about latency: verdicts, rows, resuming, the figure's data; meters are faked."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from effvit.backends import Execution
from effvit.config import ConfigError
from effvit.designs.attention.full import FullAttention
from effvit.designs.sepvit import VARIANTS
from effvit.designs.swin import VARIANTS as SWIN
from effvit.designs.twins import VARIANTS as TWINS
from effvit.networks import backbone
from experiments.ablation.subjects import Blocks, Network, Subject, TimmNetwork
from experiments.latency_claims import (
    KEY,
    PROTOCOL,
    Task,
    measure_all,
    tasks,
    write_figure,
)
from experiments.latency_claims_figure import panels
from experiments.latency_claims_meter import (
    Pair,
    PairMeter,
    activation_bytes,
    module_of,
    write_attention_out,
)
from experiments.latency_claims_table import (
    FRONT,
    REFERENCE,
    SEPVIT_CSWIN,
    AttentionLayer,
    comparisons,
    network,
    networks,
)
from experiments.latency_claims_text import show
from experiments.latency_claims_verdicts import Effect, Verdict, effect, verdict
from search.latency import LatencyProtocol

CPU = torch.device("cpu")
SIZE = (64, 64)
FAST = LatencyProtocol(seconds=0.02, patience=5, max_runs=7, max_warm_up=1)


def pair(low: float, high: float, runs: int = 20) -> Pair:
    times = (low + high) / 2
    return Pair(times, low, high, runs, 3, ours_ms=10.0, peer_ms=10.0 * times)


class FakeMeter:
    """Says that a network takes a millisecond for a letter of its key; notes what it was asked."""

    asked: list[str]

    def __init__(self, fails: str = "") -> None:
        self.asked = []
        self._fails = fails

    def __call__(self, protocol: LatencyProtocol, execution: Execution, device: str) -> FakeMeter:
        return self

    def measure(self, ours: Subject, peer: Subject) -> Pair:
        self.asked.append(ours.key)
        if ours.key == self._fails:
            raise MemoryError("too large\nby far")
        times = len(peer.key) / len(ours.key)
        return Pair(times, 0.9 * times, 1.1 * times, 20, 3, len(ours.key), len(peer.key))


def printed(rows: pd.DataFrame) -> str:
    console = Console(file=io.StringIO(), record=True, width=160)
    show(rows, console)
    return console.export_text()


# --- verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "published", "expected"),
    [
        (1.2, 1.3, 1.6, Verdict.HOLDS),
        (0.7, 0.8, 1.6, Verdict.FAILS),
        (0.9, 1.1, 1.6, Verdict.OPEN),
        (1.0, 1.1, 1.6, Verdict.OPEN),  # 1 itself is in the interval
        (0.7, 0.8, 0.8, Verdict.HOLDS),  # the paper itself says slower
        (1.2, 1.3, 0.8, Verdict.FAILS),
        (1.2, 1.3, None, Verdict.HOLDS),  # faster, without a figure
        (0.7, 0.8, None, Verdict.FAILS),
    ],
)
def test_a_claim_holds_where_the_interval_lies_on_its_side_of_1(
    low: float, high: float, published: float | None, expected: Verdict
) -> None:
    assert verdict(pair(low, high), published) is expected


def test_too_few_runs_resolve_nothing() -> None:
    """Below seven values the median has no 95 % interval: 2 / 2**6 is above 0.05 / 2 a side."""
    assert verdict(pair(1.2, 1.3, runs=6), 1.6) is Verdict.OPEN
    assert verdict(pair(1.2, 1.3, runs=7), 1.6) is Verdict.HOLDS


@given(
    low=st.floats(0.1, 10), width=st.floats(0, 5), published=st.floats(0.1, 10)
)  # fmt: skip
def test_turning_a_claim_round_keeps_its_verdict(
    low: float, width: float, published: float
) -> None:
    """Twice as fast as the peer, and a peer half as fast: one claim."""
    high = low + width
    turned = pair(1 / high, 1 / low)
    if published != 1:
        assert verdict(pair(low, high), published) is verdict(turned, 1 / published)


def test_the_effect_says_how_the_interval_lies_to_the_published_figure() -> None:
    assert effect(pair(1.2, 1.3), 1.6) is Effect.LESS
    assert effect(pair(1.5, 1.7), 1.6) is Effect.EQUAL
    assert effect(pair(1.7, 1.8), 1.6) is Effect.MORE
    assert effect(pair(1.7, 1.8), None) is None


# --- the table of claims ------------------------------------------------------------------------


def test_comparisons_are_told_apart_and_carry_their_source() -> None:
    found = comparisons()
    assert len({(each.group, each.name) for each in found}) == len(found)
    for each in found:
        assert bool(each.published.source) == (each.group != FRONT)


def test_every_subject_can_be_built() -> None:
    """Costs are counted from the whole design; timm's networks are counted by name elsewhere."""
    for each in comparisons():
        for side in (each.ours, each.peer):
            if not isinstance(side.subject, TimmNetwork):
                assert side.subject.costs().macs > 0, side.label  # type: ignore[union-attr]


def test_the_published_40_percent_is_that_of_the_largest_size() -> None:
    """The abstract's figure is SepViT-B's; the smaller ones save less."""
    saved = {
        each.name: 1 - 1 / each.published.times
        for each in comparisons()
        if each.group == SEPVIT_CSWIN and each.published.times is not None
    }
    assert len(saved) == 3
    assert max(saved, key=lambda name: saved[name]) == "SepViT-B / CSWin-B"
    assert round(saved["SepViT-B / CSWin-B"], 2) == 0.40


def test_networks_of_the_front_have_a_published_accuracy_with_its_source() -> None:
    assert network("SepViT-B").top1 == 84.2
    assert network("EfficientViT-B3 r288").subject.image_size == (288, 288)
    for side in networks().values():
        assert side.top1 is not None
        assert 60 < side.top1 < 90
        assert side.source
        assert side.family


def test_an_unknown_network_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="SepViT-Lite"):
        network("SepViT-Light")


def test_attention_grows_as_its_design_says() -> None:
    """2 (HW)^2 C of the products: 16 times as many at twice the side."""
    macs = [
        AttentionLayer(FullAttention(channels=32, heads=2), side).costs().macs for side in (8, 16)
    ]
    projections = [4 * side**2 * 32**2 for side in (8, 16)]
    assert macs[1] - projections[1] == 16 * (macs[0] - projections[0])


# --- measuring ----------------------------------------------------------------------------------

LITE = VARIANTS["sepvit_lite"].replace(image_size=SIZE)


@pytest.mark.parametrize(
    ("subject", "shape"),
    [
        (Network(LITE), (2, 1000)),
        (TimmNetwork("resnet10t", SIZE), (2, 1000)),
        (Blocks(LITE, 1, (0, 1)), (2, 8, 8, 64)),
        (Blocks(SWIN["swin_tiny"].replace(image_size=SIZE), 1, (0, 1)), (2, 8, 8, 192)),
        (Blocks(TWINS["twins_svt_small"].replace(image_size=SIZE), 1, (0, 1)), (2, 64, 128)),
        (AttentionLayer(FullAttention(channels=32, heads=2), 8), (2, 8, 8, 32)),
    ],
    ids=["network", "timm", "sepvit", "swin", "twins", "attention"],
)
def test_a_subject_runs_on_its_own_input(subject: Subject, shape: tuple[int, ...]) -> None:
    module, images = module_of(subject, 2, CPU)
    with torch.inference_mode():
        assert module(images).shape == shape


def test_blocks_of_a_network_that_runs_in_pieces_get_the_whole_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, whole = module_of(Blocks(LITE, 1, (0, 1)), 3, CPU)
    monkeypatch.setattr(backbone, "PIECE_ELEMENTS", 1)
    module, images = module_of(Blocks(LITE, 1, (0, 1)), 3, CPU)
    torch.testing.assert_close(images, whole)
    with torch.inference_mode():
        assert module(images).shape == (3, 8, 8, 64)


def test_attention_written_out_computes_the_same() -> None:
    module, images = module_of(
        Blocks(TWINS["twins_svt_small"].replace(image_size=SIZE), 1, (0, 1)), 1, CPU
    )  # fmt: skip
    with torch.inference_mode():
        before = module(images)
        write_attention_out(module)
        assert not any(getattr(part, "fused_attn", False) for part in module.modules())
        torch.testing.assert_close(module(images), before)


def test_the_larger_of_two_layers_takes_longer() -> None:
    small, large = (
        AttentionLayer(FullAttention(channels=32, heads=2), side) for side in (4, 32)
    )  # fmt: skip
    found = PairMeter(FAST, Execution(), "cpu").measure(small, large)
    assert 1 < found.low <= found.times <= found.high
    assert found.state is not None


def test_what_does_not_fit_into_memory_is_not_tried() -> None:
    """2 heads x (4096^2)^2 pairs x 2 maps x 4 bytes: 4.5 petabytes."""
    layer = AttentionLayer(FullAttention(channels=32, heads=2), 4096)
    assert activation_bytes(layer, "onnxruntime") - layer.peak_bytes == 2 * 2 * 4 * 4096**4
    assert activation_bytes(layer, "eager") == layer.peak_bytes
    with pytest.raises(MemoryError, match="are available"):
        PairMeter(LatencyProtocol(batch=4096), Execution(), "cpu").measure(layer, layer)


@pytest.fixture
def wanted() -> list[Task]:
    return tasks(quick=True)


def test_the_small_version_touches_every_kind_of_claim(wanted: list[Task]) -> None:
    assert {task.execution for task in wanted} == {Execution()}
    assert {type(task.comparison.ours.subject) for task in wanted} >= {
        Network, Blocks, AttentionLayer
    }  # fmt: skip
    assert len(wanted) < len(tasks(quick=False)) / 4


def test_claims_are_measured_before_what_the_figure_alone_needs() -> None:
    order = [(task.comparison.group == FRONT, task.batch) for task in tasks(quick=False)]
    assert order == sorted(order)
    assert {(False, 1), (False, 16), (True, 1)} <= set(order)


def test_a_stopped_run_goes_on(wanted: list[Task], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    first, second = FakeMeter(), FakeMeter()
    measure_all(wanted[:3], path, PROTOCOL, first)
    with path.open("a") as file:
        file.write("a line that was not finish")
    rows = measure_all(wanted, path, PROTOCOL, second)
    assert len(first.asked) == 3
    assert len(second.asked) == len(wanted) - 3
    assert [tuple(row) for row in rows[list(KEY)].to_numpy()] == [task.key for task in wanted]


def test_rows_of_another_protocol_are_not_mixed(wanted: list[Task], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    measure_all(wanted[:1], path, FAST, FakeMeter())
    with pytest.raises(ConfigError, match="choose another --out"):
        measure_all(wanted[:2], path, PROTOCOL, FakeMeter())


def test_rows_carry_measurement_source_and_machine(wanted: list[Task], tmp_path: Path) -> None:
    rows = measure_all(wanted[:1], tmp_path / "rows.csv", PROTOCOL, FakeMeter())
    row = rows.iloc[0]
    published = wanted[0].comparison.published
    assert row["low"] <= row["times_faster"] <= row["high"]
    assert row["times_faster"] == pytest.approx(row["peer_ms"] / row["ours_ms"], rel=1e-4)
    assert row["published_source"] == published.source
    assert row["published_times_faster"] == pytest.approx(published.times, rel=1e-4)
    assert {"date", "cpu", "threads", "torch", "loaded", "backend_version"} <= set(rows.columns)


def test_what_fails_becomes_a_row_and_a_line(wanted: list[Task], tmp_path: Path) -> None:
    key = wanted[0].comparison.ours.subject.key
    rows = measure_all(wanted[:2], tmp_path / "rows.csv", PROTOCOL, FakeMeter(fails=key))
    assert rows["error"].tolist()[0] == "too large"
    assert pd.isna(rows["error"].tolist()[1])
    assert f"{wanted[0].comparison.name}, eager, batch 1: too large" in printed(rows)


# --- what is printed and drawn ------------------------------------------------------------------


@pytest.fixture
def rows(wanted: list[Task], tmp_path: Path) -> pd.DataFrame:
    return measure_all(wanted, tmp_path / "rows.csv", PROTOCOL, FakeMeter())


def test_the_figure_has_published_accuracies_and_scaled_ratios(rows: pd.DataFrame) -> None:
    (panel,) = panels(rows)
    reference = network(REFERENCE)
    points = {point.label: point for point in panel.points}
    for label, point in points.items():
        assert point.top1 == network(label).top1
        assert point.low < point.ms < point.high
        assert point.ms == pytest.approx(len(network(label).subject.key), rel=1e-4)
    assert points[REFERENCE].ms == pytest.approx(len(reference.subject.key))


def test_the_front_is_what_nothing_else_beats(rows: pd.DataFrame) -> None:
    (panel,) = panels(rows)
    for point in panel.points:
        beaten = any(
            other.ms <= point.ms and other.top1 >= point.top1 and other[2:6] != point[2:6]
            for other in panel.points
        )
        assert point.front == (not beaten)


def test_figures_are_written_and_tables_name_claims(rows: pd.DataFrame, tmp_path: Path) -> None:
    paths = write_figure(rows, tmp_path)
    assert [path.suffix for path in paths] == [".png", ".svg"]
    assert all(path.stat().st_size > 1000 for path in paths)
    text = printed(rows)
    for group in set(rows["group"]) - {FRONT}:
        assert str(group) in text


def test_without_networks_there_is_no_figure(rows: pd.DataFrame, tmp_path: Path) -> None:
    assert write_figure(rows[rows["group"] != FRONT], tmp_path) == []
