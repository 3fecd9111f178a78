"""The embedded data: splits, canvases, targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from search.proxy.digits import (
    BACKGROUND,
    CANVAS,
    CELL,
    CELLS,
    CLASSES,
    COLOURS,
    GRID,
    IGNORED,
    Canvases,
    Split,
    Task,
    canvases,
    held_out_canvases,
    held_out_sources,
    split_sources,
)


def shown_colours(made: Canvases) -> NDArray[np.int64]:
    """Colour of each cell as its pixels say: the brighter channel, (n, 36)."""
    cells = made.images.reshape(-1, GRID, CELL, GRID, CELL, 3).astype(int).sum(axis=(2, 4))
    colours: NDArray[np.int64] = cells.reshape(-1, CELLS, 3)[..., :COLOURS].argmax(-1)
    return colours


def test_every_scanned_digit_is_in_exactly_one_split() -> None:
    parts = [split_sources(Split.TRAIN), split_sources(Split.VALIDATION), held_out_sources()]
    assert sorted(np.concatenate(parts)) == list(range(1797))
    assert [round(len(part), -1) for part in parts] == [1000, 400, 400]


def test_no_member_of_split_reaches_the_test_digits() -> None:
    assert {split.name for split in Split} == {"TRAIN", "VALIDATION"}
    for split in Split:
        assert not np.isin(split_sources(split), held_out_sources()).any()


@pytest.mark.parametrize("split", list(Split))
def test_canvases_show_digits_of_their_split_only(split: Split) -> None:
    made = canvases(split, 20, 0)
    used = made.sources[made.sources >= 0]
    assert np.isin(used, split_sources(split)).all()


def test_held_out_canvases_show_test_digits_only() -> None:
    made = held_out_canvases(20, 0)
    used = made.sources[made.sources >= 0]
    assert np.isin(used, held_out_sources()).all()


def test_shapes_and_value_ranges() -> None:
    made = canvases(Split.TRAIN, 3, 0)
    assert made.images.shape == (3, CANVAS, CANVAS, 3)
    assert made.images.dtype == np.uint8
    assert made.targets.shape == made.classes.shape == made.sources.shape == (3, CELLS)
    assert len(made) == 3
    assert set(np.unique(made.targets)) <= {IGNORED, *range(CLASSES)}


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = (canvases(Split.TRAIN, 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert (first.images != other.images).any()


def test_splits_with_the_same_seed_draw_differently() -> None:
    train, validation = (canvases(split, 5, 3) for split in Split)
    assert (train.targets != validation.targets).any()


@settings(max_examples=10, deadline=None)
@given(side=st.integers(1, 5), seed=st.integers(0, 1000))
def test_a_cue_is_one_square_block_of_ignored_cells(side: int, seed: int) -> None:
    made = canvases(Split.TRAIN, 4, seed, cue_sides=(side,))
    for targets in made.targets.reshape(-1, GRID, GRID):
        rows, columns = np.nonzero(targets == IGNORED)
        assert len(rows) == side**2
        assert np.ptp(rows) == np.ptp(columns) == side - 1


def test_cue_task_targets_say_whether_pixels_have_the_cues_colour() -> None:
    made = canvases(Split.VALIDATION, 100, 0)
    colours = shown_colours(made)
    cue = made.targets == IGNORED
    wanted = np.array([row[mask][0] for row, mask in zip(colours, cue, strict=True)])
    assert all(len(set(row[mask])) == 1 for row, mask in zip(colours, cue, strict=True))
    matches = (made.targets != BACKGROUND)[~cue]
    agrees = (colours == wanted[:, None])[~cue]
    # Clutter of the other colour can outshine a faint digit, in few cells.
    assert (matches == agrees).mean() > 0.97


def test_half_of_the_cells_match_and_all_digits_occur_equally() -> None:
    made = canvases(Split.TRAIN, 500, 0)
    scored = made.targets[made.targets != IGNORED]
    assert len(scored) == 500 * (CELLS - 2 * 2)
    # Standard deviation of a share over 16,000 cells: 0.5 / sqrt(16000) = 0.004. The cue's colour
    # is drawn apart from the cells', so cells of a canvas are independent.
    assert abs((scored == BACKGROUND).mean() - 0.5) < 4 * 0.004
    shares = np.bincount(scored[scored != BACKGROUND], minlength=10) / (scored != BACKGROUND).sum()
    assert abs(shares - 0.1).max() < 0.02


def test_colour_of_the_cells_says_nothing_about_the_cues() -> None:
    """A majority vote over the cells' colours must not reveal the cue's (a known shortcut)."""
    made = canvases(Split.TRAIN, 2000, 1)
    colours, cue = shown_colours(made), made.targets == IGNORED
    wanted = np.array([row[mask][0] for row, mask in zip(colours, cue, strict=True)])
    ones = np.where(cue, 0, colours).sum(1)
    majority = (ones > (~cue).sum(1) / 2).astype(int)
    # Standard deviation of a share over 2000 canvases: 0.5 / sqrt(2000) = 0.011.
    assert abs((majority == wanted).mean() - 0.5) < 4 * 0.011


def test_targets_are_classes_where_cells_match() -> None:
    made = canvases(Split.TRAIN, 20, 0)
    matching = (made.targets != IGNORED) & (made.targets != BACKGROUND)
    np.testing.assert_array_equal(made.targets[matching], made.classes[matching])
    np.testing.assert_array_equal(made.classes == IGNORED, made.targets == IGNORED)


def test_halves_have_a_cue_each_and_match_the_other_one() -> None:
    made = canvases(Split.VALIDATION, 100, 0, task=Task.HALVES)
    colours = shown_colours(made).reshape(-1, GRID, GRID)
    targets = made.targets.reshape(-1, GRID, GRID)
    agree = []
    for canvas, target in zip(colours, targets, strict=True):
        halves = [(slice(None), slice(0, 3)), (slice(None), slice(3, 6))]
        cues = [set(canvas[half][target[half] == IGNORED]) for half in halves]
        assert [len(cue) for cue in cues] == [1, 1]
        assert cues[0] != cues[1], "cues must disagree in evaluation"
        for half, other in zip(halves, reversed(cues), strict=True):
            scored = target[half] != IGNORED
            matches = (target[half] != BACKGROUND)[scored]
            agree.append(matches == (canvas[half] == min(other))[scored])
    assert np.concatenate(agree).mean() > 0.97


def test_halves_sometimes_agree_in_training() -> None:
    made = canvases(Split.TRAIN, 400, 0, task=Task.HALVES)
    colours, cue = shown_colours(made), made.targets == IGNORED
    same = np.mean([len(set(row[mask])) == 1 for row, mask in zip(colours, cue, strict=True)])
    # 30 % +- sqrt(0.3 * 0.7 / 400) = 0.023.
    assert abs(same - 0.3) < 4 * 0.023


@pytest.mark.parametrize("sides", [(), (0,), (6,), (2, 9)])
def test_impossible_cues_are_refused(sides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cue_sides must be 1 to 5"):
        canvases(Split.TRAIN, 1, 0, cue_sides=sides)


def test_no_canvases_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 canvas"):
        canvases(Split.TRAIN, 0, 0)
