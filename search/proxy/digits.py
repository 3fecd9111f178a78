"""Embedded training data: scikit-learn's scanned digits, composed into canvases, no download.

A canvas is 96 x 96 pixels, 6 x 6 cells of 16 pixels. Each cell holds one real 8 x 8 digit under a
random affine map, in one of two colours, with random amplitude; some cells carry a fragment of
another digit; all carry noise. One block of cells, the cue, is filled with one colour instead.

The cue task: a cell's target is its digit's class if the digit has the cue's colour, otherwise
"background". Colours are drawn with probability 1/2, independently of the cue's, so within a cell
nothing tells whether it matches: that takes communication with the cue's place. Cue cells are not
scored.

The halves task: each half of the canvas has a cue of its own, and a cell must match the cue of the
*other* half. It asks for routing that depends on position.

Canvases come from digits of one split. The split is by source digit, before any composition, so no
scanned digit occurs in two splits. :class:`Split` has no member for the test digits on purpose:
they are reached by :func:`held_out_canvases` alone.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

CELL: Final = 16
"""Side of a cell in pixels."""
GRID: Final = 6
"""Cells along a side of the canvas."""
CANVAS: Final = CELL * GRID
"""Side of a canvas in pixels."""
CELLS: Final = GRID * GRID
DIGITS: Final = 10
BACKGROUND: Final = DIGITS
"""Target of a cell whose digit has not the cue's colour."""
CLASSES: Final = DIGITS + 1
IGNORED: Final = -100
"""Target of a cue cell: not scored (the value torch's cross entropy ignores)."""
COLOURS: Final = 2

_SOURCE: Final = 8  # side of a scanned digit
_SPLIT_SEED: Final = 20220329  # one split for everybody; the day arXiv 2203.15380 appeared
_TRAIN_SHARE, _VALIDATION_SHARE = 1000 / 1797, 400 / 1797
_VIEWS: Final = 8  # affine views of each digit from which canvases draw
_ZOOM, _ROTATION, _SHIFT = (1.55, 1.95), 0.2, 1.5  # pixels a source pixel; radians; pixels
_AMPLITUDE, _CUE_AMPLITUDE = (0.55, 1.0), (0.8, 1.0)
_CLUTTER_SHARE, _CLUTTER_SIDE, _CLUTTER_AMPLITUDE = 1 / 6, 7, (0.3, 0.6)
_NOISE = 0.12  # standard deviation, for intensities from 0 to 1
_NOISE_TABLE: Final = 1 << 20
_EQUAL_CUES = 0.3  # share of training canvases of the halves task whose two cues agree
_CHUNK: Final = 128  # canvases composed at once, bounding the memory

UInt8Array = NDArray[np.uint8]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]


class Split(enum.Enum):
    """Digits that training and search may see. The test digits are deliberately no member."""

    TRAIN = "train"
    VALIDATION = "validation"


class Task(enum.Enum):
    """What relates a cell to the cue: one cue for all cells, or that of the other half."""

    CUE = "cue"
    HALVES = "halves"


@dataclasses.dataclass(frozen=True)
class Canvases:
    """A set of canvases.

    Attributes:
        images: (n, 96, 96, 3) intensities from 0 to 255, channels last.
        targets: (n, 36) class of each cell, row by row; :data:`BACKGROUND` or :data:`IGNORED`.
        classes: (n, 36) class of the digit in each cell whatever the cue; :data:`IGNORED` for cues.
        sources: (n, 36) index of the scanned digit each cell shows; -1 for cue cells.
    """

    images: UInt8Array
    targets: IntArray
    classes: IntArray
    sources: IntArray

    def __len__(self) -> int:
        return len(self.images)


@functools.lru_cache(maxsize=1)
def _scans() -> tuple[FloatArray, IntArray]:
    """Return all scanned digits (1797, 8, 8), from 0 to 1, and their classes (1797,)."""
    data = load_digits()
    return (data.images / 16.0).astype(np.float32), data.target.astype(np.int64)


@functools.lru_cache(maxsize=1)
def _split_sources() -> tuple[IntArray, IntArray, IntArray]:
    """Indices of training, validation and test digits: the same shares of every class."""
    _, classes = _scans()
    rng = np.random.default_rng(_SPLIT_SEED)
    parts: tuple[list[IntArray], ...] = ([], [], [])
    for digit in range(DIGITS):
        members = rng.permutation(np.flatnonzero(classes == digit))
        first = round(len(members) * _TRAIN_SHARE)
        second = first + round(len(members) * _VALIDATION_SHARE)
        for part, chunk in zip(parts, np.split(members, [first, second]), strict=True):
            part.append(chunk)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return train, validation, test


def split_sources(split: Split) -> IntArray:
    """Indices of the scanned digits of a split."""
    return _split_sources()[0 if split is Split.TRAIN else 1]


def held_out_sources() -> IntArray:
    """Indices of the test digits."""
    return _split_sources()[2]


def canvases(
    split: Split,
    count: int,
    seed: int,
    *,
    task: Task = Task.CUE,
    cue_sides: tuple[int, ...] = (2,),
) -> Canvases:
    """Compose canvases for training or for validation.

    Args:
        split: Whose digits.
        count: Number of canvases.
        seed: Same seed, same canvases, bit for bit.
        task: How cells relate to cues. Both cues of the halves task are 2 x 2 cells; they agree on
            30 % of the training canvases and never on others, where averaging them is chance.
        cue_sides: Sides of the cue block in cells, drawn with equal probability (cue task).

    Raises:
        ValueError: Fewer than one canvas, or a cue that does not leave room for cells.
    """
    equal = _EQUAL_CUES if split is Split.TRAIN else 0.0
    stream = 0 if split is Split.TRAIN else 1
    return _compose(split_sources(split), count, (seed, stream), task, cue_sides, equal)


def held_out_canvases(count: int, seed: int, *, task: Task = Task.CUE) -> Canvases:
    """Compose canvases of the test digits, as validation has them. For a final report only.

    Raises:
        ValueError: Fewer than one canvas.
    """
    return _compose(held_out_sources(), count, (seed, 2), task, (2,), 0.0)


def cue_distance(targets: IntArray) -> IntArray:
    """How many cells away the nearest cue cell is, in the larger of both directions.

    Args:
        targets: (n, 36) as of :class:`Canvases`; every canvas has a cue.

    Returns:
        (n, 36), 0 for the cue's own cells.
    """
    rows, columns = np.divmod(np.arange(CELLS), GRID)
    apart = np.maximum(abs(rows[:, None] - rows), abs(columns[:, None] - columns))
    away = np.where((targets == IGNORED)[:, None, :], apart, GRID)
    distances: IntArray = away.min(2)
    return distances


def _compose(
    sources: IntArray,
    count: int,
    seed: tuple[int, int],
    task: Task,
    cue_sides: tuple[int, ...],
    equal: float,
) -> Canvases:
    if count < 1:
        raise ValueError(f"count must be at least 1 canvas, got {count}")
    if not cue_sides or not 1 <= min(cue_sides) <= max(cue_sides) < GRID:
        raise ValueError(f"cue_sides must be 1 to {GRID - 1} cells, got {cue_sides!r}")
    rng = np.random.default_rng(seed)
    bank = _views(sources, rng)
    noise = rng.standard_normal(_NOISE_TABLE, dtype=np.float32) * np.float32(_NOISE)
    if task is Task.CUE:
        is_cue, wanted = _one_cue(count, cue_sides, rng)
    else:
        is_cue, wanted = _two_cues(count, equal, rng)
    colours = rng.integers(COLOURS, size=(count, CELLS))
    chosen = rng.integers(len(sources), size=(count, CELLS))
    classes = np.where(is_cue, IGNORED, _scans()[1][sources[chosen]])
    targets = np.where((colours == wanted) | is_cue, classes, BACKGROUND)
    shown = np.where(is_cue, _cue_colours(task, wanted), colours)
    images = _draw(bank, noise, chosen, shown, is_cue, rng)
    return Canvases(images, targets, classes, np.where(is_cue, -1, sources[chosen]))


def _cue_colours(task: Task, wanted: IntArray) -> IntArray:
    """Colour that a cue in each cell has: in the halves task the one the *other* half wants."""
    if task is Task.CUE:
        return wanted
    mirrored = wanted.reshape(-1, GRID, GRID)[:, :, ::-1]
    return mirrored.reshape(-1, CELLS)


def _one_cue(
    count: int, sides: tuple[int, ...], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], IntArray]:
    """One block a canvas: which cells it takes, and the colour wanted of each cell (n, 36)."""
    side = rng.choice(np.array(sides), size=count)
    blocks = _blocks(side, rng.random(count), rng.random(count), 0, GRID)
    return blocks, np.repeat(rng.integers(COLOURS, size=(count, 1)), CELLS, axis=1)


def _two_cues(
    count: int, equal: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], IntArray]:
    """Return two 2 x 2 blocks a canvas, one in each half, and the colours wanted (n, 36)."""
    half = GRID // 2
    side = np.full(count, 2)
    left, right = (
        _blocks(side, rng.random(count), rng.random(count), start, half) for start in (0, half)
    )
    left_wants = rng.integers(COLOURS, size=count)
    right_wants = np.where(rng.random(count) < equal, left_wants, 1 - left_wants)
    in_left = np.arange(CELLS) % GRID < half
    return left | right, np.where(in_left, left_wants[:, None], right_wants[:, None])


def _blocks(
    side: IntArray, down: NDArray[np.float64], across: NDArray[np.float64], start: int, width: int
) -> NDArray[np.bool_]:
    """Cells (n, 36) of square blocks at relative places within columns start..start + width."""
    top = np.floor(down * (GRID - side + 1))[:, None]
    left = start + np.floor(across * (width - side + 1))[:, None]
    rows, columns = np.divmod(np.arange(CELLS), GRID)
    size = side[:, None]
    inside: NDArray[np.bool_] = (
        (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
    )
    return inside


def _views(sources: IntArray, rng: np.random.Generator) -> FloatArray:
    """Affine views (8, sources, 16, 16) of scanned digits, sampled bilinearly."""
    shape = (_VIEWS, len(sources), 1, 1)
    zoom = rng.uniform(*_ZOOM, size=shape)
    angle = rng.uniform(-_ROTATION, _ROTATION, size=shape)
    shift = rng.uniform(-_SHIFT, _SHIFT, size=(2, *shape))
    centre = (CELL - 1) / 2
    y, x = np.mgrid[:CELL, :CELL] - centre
    dy, dx = y - shift[0], x - shift[1]
    inner = (_SOURCE - 1) / 2
    rows = (np.cos(angle) * dy + np.sin(angle) * dx) / zoom + inner
    columns = (np.cos(angle) * dx - np.sin(angle) * dy) / zoom + inner
    return _bilinear(_scans()[0][sources], rows, columns)


def _bilinear(
    scans: FloatArray, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> FloatArray:
    """Sample scans (s, 8, 8) at places (v, s, 16, 16); dark outside."""
    padded = np.pad(scans, ((0, 0), (1, 2), (1, 2)))
    limit = _SOURCE + 0.999
    rows, columns = (np.clip(places + 1, 0.0, limit) for places in (rows, columns))
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, across = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    width = padded.shape[2]
    flat = padded.reshape(-1)
    base = np.arange(len(scans))[:, None, None] * padded.shape[1] * width + top * width + left
    upper = flat[base] * (1 - across) + flat[base + 1] * across
    lower = flat[base + width] * (1 - across) + flat[base + width + 1] * across
    sampled: FloatArray = upper * (1 - down) + lower * down
    return sampled


def _draw(
    bank: FloatArray,
    noise: FloatArray,
    chosen: IntArray,
    colours: IntArray,
    is_cue: NDArray[np.bool_],
    rng: np.random.Generator,
) -> UInt8Array:
    """Draw canvases (n, 96, 96, 3): cells from the bank or filled, then clutter, then noise."""
    count = len(chosen)
    view = rng.integers(len(bank), size=chosen.shape)
    low, high = (np.where(is_cue, c, d) for c, d in zip(_CUE_AMPLITUDE, _AMPLITUDE, strict=True))
    amplitude = rng.uniform(low, high).astype(np.float32)
    clutter = _Clutter.draw(chosen.shape, bank.shape[1], rng)
    offsets = rng.integers(len(noise) - CANVAS * CANVAS * 3, size=count)
    images = np.empty((count, CANVAS, CANVAS, 3), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        cells = bank[view[part], chosen[part]]
        cells[is_cue[part]] = 1.0
        cells *= amplitude[part, :, None, None]
        coloured = np.zeros((*cells.shape, 3), np.float32)
        for colour in range(COLOURS):
            coloured[..., colour] = cells * (colours[part] == colour)[..., None, None]
        clutter.add_to(coloured, part, bank)
        drawn = coloured.reshape(-1, GRID, GRID, CELL, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
        canvas = drawn.reshape(-1, CANVAS, CANVAS, 3)
        for index, offset in enumerate(offsets[part]):
            table = noise[offset : offset + canvas[index].size]
            canvas[index] += table.reshape(canvas[index].shape)
        np.clip(canvas, 0.0, 1.0, out=canvas)
        images[part] = (canvas * 255 + 0.5).astype(np.uint8)
    return images


@dataclasses.dataclass(frozen=True)
class _Clutter:
    """Fragments of other digits over some cells: everything (n, 36), in a random colour."""

    present: NDArray[np.bool_]
    digit: IntArray
    colour: IntArray
    corner: IntArray
    amplitude: NDArray[np.float64]

    @classmethod
    def draw(cls, shape: tuple[int, ...], digits: int, rng: np.random.Generator) -> _Clutter:
        return cls(
            present=rng.random(shape) < _CLUTTER_SHARE,
            digit=rng.integers(digits, size=shape),
            colour=rng.integers(COLOURS, size=shape),
            corner=rng.integers(CELL - _CLUTTER_SIDE + 1, size=(2, *shape)),
            amplitude=rng.uniform(*_CLUTTER_AMPLITUDE, size=shape),
        )

    def add_to(self, cells: FloatArray, part: slice, bank: FloatArray) -> None:
        """Add the fragments of the canvases ``part`` to their cells (m, 36, 16, 16, 3)."""
        canvas, cell = np.nonzero(self.present[part])
        where = (canvas + part.start, cell)
        steps = np.arange(_CLUTTER_SIDE)
        rows = self.corner[0][where][:, None, None] + steps[:, None]
        columns = self.corner[1][where][:, None, None] + steps
        # The fragment is the other end of the digit, so that it is not simply a second digit.
        fragment = bank[0, self.digit[where][:, None, None], CELL - 1 - rows, columns]
        fragment = fragment * self.amplitude[where][:, None, None]
        colour = self.colour[where][:, None, None]
        cells[canvas[:, None, None], cell[:, None, None], rows, columns, colour] += fragment
