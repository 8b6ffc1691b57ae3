"""A painting as it comes about: coarse strokes first, finer ones with each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .brush import Brush, Canvas
from .motif import compose
from .palette import colour, mix
from .scene import set_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .arrays import Floats


def paint(prompt: str, seed: int, width: int, height: int, steps: int) -> Iterator[Floats]:
    """The painting after each of `steps` steps: [height, width, 3], 0.0 to 1.0.

    The same arguments give the same painting.
    """
    scene = set_scene(prompt, seed, width, height)
    motif = compose(scene)
    ground = mix(colour("#8a5a3c"), motif.picture.mean(axis=(0, 1)), 0.55)
    canvas = Canvas(motif, ground, scene.dice("brush"))
    vignette = _vignette(width, height)
    for step in range(steps):
        canvas.lay(brush_for(step, steps, height))
        yield (canvas.picture() * vignette).astype(np.float32)


def brush_for(step: int, steps: int, height: int) -> Brush:
    """The brush of one step: from a fourteenth of the height down to under two pixels in 512."""
    done = step / (steps - 1) if steps > 1 else 0.7
    broad, fine = height / 14, max(1.5, height / 290)
    width = broad * (fine / broad) ** (done**0.8)
    return Brush(
        width=width,
        length=width * (4.5 + 2.5 * done),
        coverage=1.6 - 0.9 * done,
        strictness=0.5 - 0.36 * done,
        search=0.2 + 0.78 * done,
        jitter=0.085 - 0.05 * done,
    )


def _vignette(width: int, height: int) -> Floats:
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    return (1.0 - 0.16 * np.clip((x * x + y * y) - 0.55, 0.0, 1.5))[..., None]
