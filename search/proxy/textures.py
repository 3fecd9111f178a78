"""Canvases of textures: every cell is a grating under noise, to be told by direction and pitch.

What a cell shows can be read off its own pixels, and nothing else tells: the opposite of the cue
task (:mod:`search.proxy.digits`), whose relation no cell can read off by itself. A grating's class
is its direction, one of five, and its pitch, one of two; phase, exact direction and pitch, contrast
and colour vary, and there is noise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from search.proxy.digits import CANVAS, CELL, CELLS, GRID, Split

DIRECTIONS: Final = 5
PITCHES: Final = (2.0, 3.5)
"""Periods of a grating across a cell."""
CLASSES: Final = DIRECTIONS * len(PITCHES)

_DIRECTION_SPREAD: Final = 0.25  # of the step from a direction to the next, to either side
_PITCH_SPREAD: Final = 0.1  # relative, to either side: pitches of two classes stay apart
_GREY: Final = 0.4
_CONTRAST: Final = (0.3, 0.5)
_NOISE: Final = 0.15  # standard deviation, for intensities from 0 to 1
_CHANNELS: Final = 3


def textures(split: Split, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw canvases of textures.

    Args:
        split: Whose: training and validation never see the same numbers.
        count: Number of canvases.
        seed: Same seed, same canvases, bit for bit.

    Returns:
        Images (count, 96, 96, 3) from 0 to 255, and the classes of their cells (count, 36).
    """
    return _draw(count, (seed, 0 if split is Split.TRAIN else 1))


def held_out_textures(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw canvases that neither training nor validation see. For a final report only."""
    return _draw(count, (seed, 2))


def _draw(count: int, seed: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    shape = (count, CELLS)
    classes = rng.integers(CLASSES, size=shape)
    direction, pitch = classes % DIRECTIONS, np.asarray(PITCHES)[classes // DIRECTIONS]
    angle = (direction + rng.uniform(-1, 1, shape) * _DIRECTION_SPREAD) * np.pi / DIRECTIONS
    frequency = 2 * np.pi / CELL * pitch * (1 + rng.uniform(-1, 1, shape) * _PITCH_SPREAD)
    phase, contrast = rng.uniform(0, 2 * np.pi, shape), rng.uniform(*_CONTRAST, shape)
    across, down = ((frequency * turn(angle))[..., None, None] for turn in (np.cos, np.sin))
    y, x = np.mgrid[:CELL, :CELL]
    waves = np.sin(across * x + down * y + phase[..., None, None]) * contrast[..., None, None]
    colours = 2 * rng.dirichlet(np.ones(_CHANNELS), size=shape)
    cells = waves[..., None] * colours[:, :, None, None, :]
    cells = cells.reshape(count, GRID, GRID, CELL, CELL, _CHANNELS).transpose(0, 1, 3, 2, 4, 5)
    images = _GREY + cells.reshape(count, CANVAS, CANVAS, _CHANNELS)
    images += rng.standard_normal(images.shape, dtype=np.float32) * _NOISE
    return (np.clip(images, 0.0, 1.0) * 255 + 0.5).astype(np.uint8), classes
