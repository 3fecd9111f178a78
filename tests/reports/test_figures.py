"""Figures can be drawn from every run, repeat exactly, and names keep apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import findings
from reports.figures import draw_plane, encode, figures
from reports.labels import Box, place_labels
from reports.records import Run, load_run
from tests.reports import sample

NAMES = {"accuracy_macs", "accuracy_latency", "accuracy_params", "latency_macs", "hypervolume",
         "importance"}  # fmt: skip


def test_published_variants_are_named_and_names_keep_apart(finished_run: Run) -> None:
    plane = findings.accuracy_plane(finished_run, "macs")
    figure = draw_plane(plane)
    texts = {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}
    assert {point.name for point in plane.points if point.published} <= set(texts)
    boxes = [Box(*extent.extents) for extent in texts.values()]
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def test_the_accuracy_axis_cannot_be_taken_for_imagenet(finished_run: Run) -> None:
    axes = draw_plane(findings.accuracy_plane(finished_run, "macs")).axes[0]
    assert axes.get_ylabel() == "proxy accuracy (validation digits)"
    assert "0.5 G" in [label.get_text() for label in axes.get_xticklabels()]


def test_the_accuracy_axis_says_what_it_is_of(tmp_path: Path) -> None:
    run = load_run(sample.on_images(tmp_path))
    axes = draw_plane(findings.accuracy_plane(run, "macs")).axes[0]
    label = " ".join(axes.get_ylabel().split())
    assert label == run.settings.proxy.accuracy
    assert "birds" in label
    assert draw_plane(findings.latency_plane(run)).axes[0].get_ylabel() == "latency"


def test_the_same_records_give_the_same_bytes(finished_run: Run) -> None:
    plane = findings.latency_plane(finished_run)
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        once, again = encode(draw_plane(plane), kind), encode(draw_plane(plane), kind)
        assert once == again
        assert once.startswith(start)


@pytest.mark.parametrize(
    "rows",
    [[], [sample.trial(0)], [sample.unmeasured(0, "out of memory")]],
    ids=["empty", "one trial", "all failed"],
)
def test_small_runs_can_be_drawn(rows: list[dict[str, object]], tmp_path: Path) -> None:
    drawn = figures(load_run(sample.write_run(tmp_path, rows)))
    assert set(drawn) == NAMES
    for figure in drawn.values():
        figure.draw_without_rendering()


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200)), max_size=12))
def test_labels_stay_inside_and_hide_nothing(anchors: list[tuple[float, float]]) -> None:
    bounds, blocked = Box(0, 0, 300, 200), [Box(x - 4, y - 4, x + 4, y + 4) for x, y in anchors]
    placed = place_labels(anchors, [(60, 12)] * len(anchors), blocked, anchors, bounds)
    boxes = [box for box in placed if box is not None]
    assert all(box.inside(bounds) for box in boxes)
    assert not any(box.overlaps(other) for box in boxes for other in blocked)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_label_without_room_is_left_out() -> None:
    assert place_labels([(5, 5)], [(60, 12)], [], [], Box(0, 0, 10, 10)) == [None]
