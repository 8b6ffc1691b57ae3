"""Smooth randomness: lattices of random numbers, read between their points with cubic splines.

Frequencies are cells for each unit of height, so a picture keeps its shapes when its size
changes. What comes out is centred on 0 with a standard deviation of about 1.
"""

from __future__ import annotations

import numpy as np

from .arrays import Floats, floats

# Variance of a uniform -1..1 lattice after a cubic B-spline in one direction.
_SPLINE_DEVIATION = 0.40


def smoothstep(low: float, high: float, value: Floats) -> Floats:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return floats(t * t * (3.0 - 2.0 * t))


def _spline(positions: Floats, cells: int) -> Floats:
    """The weights of `cells` + 3 lattice points at each position: [positions, points]."""
    whole = np.clip(np.floor(positions).astype(np.int64), 0, cells - 1)
    t = (positions - whole).astype(np.float32)
    weights = np.zeros((len(positions), cells + 3), dtype=np.float32)
    rows = np.arange(len(positions))
    parts = (
        (1 - t) ** 3,
        3 * t**3 - 6 * t**2 + 4,
        -3 * t**3 + 3 * t**2 + 3 * t + 1,
        t**3,
    )
    for offset, part in enumerate(parts):
        weights[rows, whole + offset] = part / 6.0
    return weights


def curve(
    rng: np.random.Generator, size: tuple[int, int], frequency: float, octaves: int
) -> Floats:
    """One-dimensional noise along the picture's width: [width]. `size`: height and width."""
    height, width = size
    x = np.arange(width, dtype=np.float32) / height
    total = np.zeros(width, dtype=np.float32)
    for octave in range(octaves):
        f = frequency * 2.0**octave
        cells = int(np.ceil(x[-1] * f)) + 1
        lattice = rng.uniform(-1.0, 1.0, cells + 3).astype(np.float32)
        total += 0.5**octave * (_spline(x * f, cells) @ lattice)
    return total / _SPLINE_DEVIATION


def field(
    rng: np.random.Generator,
    size: tuple[int, int],
    frequency: float,
    octaves: int = 5,
    stretch: float = 1.0,
) -> Floats:
    """Two-dimensional noise: [height, width]. `stretch` draws it out horizontally."""
    height, width = size
    y = np.arange(height, dtype=np.float32) / height
    x = np.arange(width, dtype=np.float32) / height / stretch
    total = np.zeros(size, dtype=np.float32)
    for octave in range(octaves):
        f = frequency * 2.0**octave
        # Cells of less than two pixels are not smooth any more, only expensive.
        if f * 2.0 > height:
            break
        rows, columns = int(np.ceil(f)) + 1, int(np.ceil(x[-1] * f)) + 1
        lattice = rng.uniform(-1.0, 1.0, (rows + 3, columns + 3)).astype(np.float32)
        total += 0.5**octave * (_spline(y * f, rows) @ lattice @ _spline(x * f, columns).T)
    return total / (_SPLINE_DEVIATION * 0.75)


def warp(picture: Floats, dx: Floats, dy: Floats) -> Floats:
    """The picture read elsewhere: pixel (x, y) from (x + dx, y + dy), in pixels, edges kept."""
    height, width = picture.shape[:2]
    x = np.clip(np.arange(width, dtype=np.float32) + dx, 0, width - 1.001)
    y = np.clip(np.arange(height, dtype=np.float32)[:, None] + dy, 0, height - 1.001)
    column, row = x.astype(np.int32), y.astype(np.int32)
    fx, fy = x - column, y - row
    if picture.ndim > fx.ndim:  # with channels
        fx, fy = fx[..., None], fy[..., None]
    right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    top = picture[row, column] * (1 - fx) + picture[row, right] * fx
    bottom = picture[below, column] * (1 - fx) + picture[below, right] * fx
    return floats(top * (1 - fy) + bottom * fy)
