"""Strokes of a loaded brush on a canvas, many at a time.

A layer of strokes is worked out in whole arrays: every stroke follows the flow from its starting
point and ends where the motif's colour leaves its own; its ribbon is cut into points; each pixel
takes the last stroke that covers it. The bristles leave furrows, which the relief shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Floats, floats
from .motif import blur

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .motif import Motif

    Indices = NDArray[np.int64]


# Points of a ribbon lie this far apart, in pixels: closer than one, or it would show holes.
_SPACING = 0.72
_JOINTS = 10
# Bounds the memory of one go at about 100 MB.
_MOST_POINTS = 1_500_000


@dataclass(frozen=True, slots=True)
class Brush:
    """`width` and `length` of a stroke in pixels; `coverage`: strokes' area over the canvas's.

    `strictness`: how small a change of colour ends a stroke; `search`: 0.0 spreads the strokes
    evenly, 1.0 puts them where the canvas is furthest from the motif; `jitter`: how far colours
    stray.
    """

    width: float
    length: float
    coverage: float
    strictness: float
    search: float
    jitter: float


class Canvas:
    """Paint on a toned ground: colours [height, width, 3], and how thick it lies."""

    def __init__(self, motif: Motif, ground: Floats, rng: np.random.Generator) -> None:
        self._motif, self._rng = motif, rng
        self.size = motif.picture.shape[:2]
        self._paint = np.broadcast_to(ground, motif.picture.shape).astype(np.float32).reshape(-1, 3)
        self._paint = self._paint + rng.normal(0.0, 0.012, (len(self._paint), 1)).astype(np.float32)
        self._thickness = np.zeros(len(self._paint), dtype=np.float32)

    def lay(self, brush: Brush) -> None:
        """One layer of strokes."""
        height, width = self.size
        count = int(brush.coverage * height * width / (brush.width * brush.length)) + 1
        points = (brush.width / _SPACING + 2) * (brush.length / _SPACING + 2)
        batch = max(1, int(_MOST_POINTS / points))
        guide = self._guide(brush)
        starts = self._starts(count, brush)
        for first in range(0, count, batch):
            self._stroke(starts[first : first + batch], guide, brush)

    def picture(self) -> Floats:
        """The canvas as it looks: the furrows lit from the upper left."""
        thick = blur(self._thickness.reshape(self.size), 1.0 + self.size[0] / 700)
        slope = np.gradient(thick, axis=0) + np.gradient(thick, axis=1)
        shade = np.clip(slope * 0.5, -0.16, 0.16)[..., None]
        colours = self._paint.reshape(*self.size, 3)
        return floats(np.clip(colours * (1.0 + shade) + np.maximum(shade, 0.0) * 0.12, 0.0, 1.0))

    def _guide(self, brush: Brush) -> Floats:
        """The motif as coarse as the brush: what is thinner than it is not for it."""
        reach = max(1.0, brush.width * 0.45)
        planes = [blur(np.ascontiguousarray(self._motif.picture[..., i]), reach) for i in range(3)]
        return np.stack(planes, axis=-1).reshape(-1, 3)

    def _starts(self, count: int, brush: Brush) -> Floats:
        """Return the starts of strokes, [count, 2], drawn by how much there is left to do."""
        height, width = self.size
        error = np.abs(self._paint - self._motif.picture.reshape(-1, 3)).sum(axis=1)
        error = blur(error.reshape(self.size), max(1.0, brush.width)).clip(0.0)
        # What the colours stray by is no error: broad strokes stay where nothing finer is missing.
        error = (error - 1.3 * brush.jitter).clip(0.0) + 1e-5
        weight = (1.0 - brush.search) * float(error.mean()) + brush.search * error
        chance = np.cumsum(weight.ravel(), dtype=np.float64)
        # One draw in each of `count` equal slices: chance without clumps and gaps.
        draws = (np.arange(count) + self._rng.random(count)) / count * chance[-1]
        pixel = np.searchsorted(chance, draws).clip(0, height * width - 1)
        self._rng.shuffle(pixel)
        y, x = np.divmod(pixel, width)
        inside = self._rng.random((count, 2))
        return (np.stack([x, y], axis=1) + inside).astype(np.float32)

    def _stroke(self, starts: Floats, guide: Floats, brush: Brush) -> None:
        joints, reach = self._trace(starts, guide, brush)
        colours = self._mix_colours(guide[self._index(starts)], brush)
        along = np.arange(0.0, brush.length + _SPACING, _SPACING, dtype=np.float32) / brush.length
        across = np.arange(-0.5, 0.5001, _SPACING / max(brush.width, _SPACING), dtype=np.float32)
        place = np.minimum(along * (_JOINTS - 1), _JOINTS - 1.001)
        joint, part = place.astype(np.int64), (place % 1.0)[None, :, None]
        spine = joints[:, joint] * (1 - part) + joints[:, joint + 1] * part
        heading = joints[:, joint + 1] - joints[:, joint]
        heading /= np.maximum(np.linalg.norm(heading, axis=2, keepdims=True), 1e-6)
        normal = np.stack([-heading[..., 1], heading[..., 0]], axis=2)
        # Thin where the brush is set down and lifted.
        used = along[None, :] / np.maximum(reach[:, None], 1e-3)
        profile = np.sqrt(np.clip(np.minimum(used * 6.0 + 0.35, (1.0 - used) * 3.5), 0.0, 1.0))
        offset = normal * (profile * brush.width)[..., None]
        x = spine[..., 0, None] + offset[..., 0, None] * across
        y = spine[..., 1, None] + offset[..., 1, None] * across
        self._cover(x, y, (used <= 1.0)[:, :, None], colours, across)

    def _trace(self, starts: Floats, guide: Floats, brush: Brush) -> tuple[Floats, Floats]:
        """Joints of each stroke [count, joints, 2], and the share of its length it is used for."""
        flow = self._motif.flow.reshape(-1, 2)
        step = brush.length / (_JOINTS - 1)
        position = starts.copy()
        own = guide[self._index(starts)]
        heading = flow[self._index(position)] * self._rng.choice([-1.0, 1.0], (len(starts), 1))
        joints, alive = [position], np.ones(len(starts), dtype=bool)
        reach = np.zeros(len(starts), dtype=np.float32)
        for joint in range(1, _JOINTS):
            wish = flow[self._index(position)]
            wish = wish * np.where((wish * heading).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
            heading = 0.45 * heading + 0.55 * wish
            heading = heading / np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-6)
            position = (position + heading * step).astype(np.float32)
            joints.append(position)
            strayed = np.abs(guide[self._index(position)] - own).sum(axis=1)
            alive &= strayed < brush.strictness
            reach[alive] = joint / (_JOINTS - 1)
        return np.stack(joints, axis=1), np.maximum(reach, 1.6 / (_JOINTS - 1))

    def _mix_colours(self, colours: Floats, brush: Brush) -> Floats:
        """Lighter or darker, warmer or cooler, as paint from a palette is."""
        count = len(colours)
        value = self._rng.normal(0.0, brush.jitter, (count, 1))
        warmth = self._rng.normal(0.0, brush.jitter * 0.55, (count, 1)) * np.array([1.0, 0.1, -1.0])
        return floats(np.clip(colours * (1.0 + value) + warmth * 0.6, 0.0, 1.0))

    def _bristles(self, count: int, points: int) -> Floats:
        """Return the paint that each bristle holds: [count, points], smooth across the brush."""
        raw = floats(self._rng.random((count, points + 2)))
        return floats(0.25 * raw[:, :-2] + 0.5 * raw[:, 1:-1] + 0.25 * raw[:, 2:])

    def _cover(
        self, x: Floats, y: Floats, alive: NDArray[np.bool_], colours: Floats, across: Floats
    ) -> None:
        """Put paint at the points x and y: [strokes, along, across].

        Of all that fall on a pixel the last one stays. `alive`: where along it a stroke still is.
        """
        height, width = self.size
        column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        hit = np.flatnonzero(alive & (column >= 0) & (column < width) & (row >= 0) & (row < height))
        owner = np.full(height * width, -1, dtype=np.int64)
        owner[(row * width + column).ravel()[hit]] = hit
        covered = np.flatnonzero(owner >= 0)
        stroke, rest = np.divmod(owner[covered], x.shape[1] * x.shape[2])
        bristle = rest % x.shape[2]
        paint = self._bristles(x.shape[0], x.shape[2])[stroke, bristle]
        soft = np.clip((0.5 - np.abs(across)) * 5.0 + 0.45, 0.0, 1.0)[bristle]
        opacity = soft * np.clip(0.55 + 0.8 * paint, 0.0, 1.0)
        fresh = colours[stroke] * (0.93 + 0.14 * paint[:, None])
        self._paint[covered] += opacity[:, None] * (fresh - self._paint[covered])
        self._thickness[covered] += soft * (paint * 0.9 + 0.1 - self._thickness[covered])

    def _index(self, position: Floats) -> Indices:
        height, width = self.size
        x = np.clip(position[:, 0].astype(np.int64), 0, width - 1)
        y = np.clip(position[:, 1].astype(np.int64), 0, height - 1)
        index: Indices = y * width + x
        return index
