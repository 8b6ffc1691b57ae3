# ruff: noqa: PLR2004 - the numbers are the shapes
"""Figures in a landscape: a lighthouse on its rock, a barn, a cat that watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ground import between, spread
from .palette import colour, mix
from .sky import blend

if TYPE_CHECKING:
    from .arrays import Floats, Mask
    from .scene import Scene


def paint_lighthouse(scene: Scene, picture: Floats, level: float) -> Floats:
    """A striped tower on a rock, away from the lamp; its light burns when the day has gone."""
    size = 0.3
    x = (scene.x - _aside(scene, "lighthouse")) / size
    y = (level + 0.03 - scene.y) / size
    waist = 0.085 - 0.035 * y
    tower = between(x, -waist, waist) & between(y, 0.1, 0.82)
    rock = between(y, -0.12, 0.14 - 1.6 * x * x + 0.04 * np.sin(31.0 * x))
    gallery = between(x, -0.085, 0.085) & between(y, 0.82, 0.845)
    room = between(x, -0.042, 0.042) & between(y, 0.845, 0.93)
    roof = between(np.abs(x), -1.0, 0.06 - 0.75 * (y - 0.93)) & between(y, 0.93, 1.01)
    door = between(x, -0.02, 0.02) & between(y, 0.1, 0.19)
    dark = mix(scene.palette.near, colour("#241d1c"), 0.5)
    white = mix(scene.palette.cloud, colour("#f6f2ea"), 0.7)
    stripe = tower & ((y * 6.0) % 2.0 < 1.0)
    shaded = tower & (((x > 0) & (scene.lamp[0] < scene.x)) | ((x < 0) & (scene.lamp[0] > scene.x)))
    light = colour("#ffe9a8")
    beam = np.abs(y - 0.89) < 0.012 + 0.1 * np.abs(x)
    strength = np.clip(1.0 - np.abs(x) / 2.2, 0.0, 1.0) * 0.42
    if scene.has("night", "dusk", "storm", "sunset", "neon"):
        picture = blend(picture, spread(scene, light), beam * strength)
    return _layers(
        scene,
        picture,
        (
            (rock, mix(dark, scene.palette.shade, 0.25), 1.0),
            (tower, white, 0.97),
            (stripe, colour("#c8372d"), 0.95),
            (shaded, dark, 0.3),
            (door | gallery | roof, dark, 1.0),
            (room, light, 1.0),
        ),
    )


def paint_barn(scene: Scene, picture: Floats, level: float) -> Floats:
    """A barn of boards with a gambrel roof, red unless the words name a colour."""
    size = 0.3
    x = (scene.x - _aside(scene, "barn")) / size
    foot = level + 0.13
    y = (foot - scene.y) / size
    gable = 0.5 - np.maximum(0.35 * (y - 0.42), 1.25 * (y - 0.56))
    front = between(x, -0.5, 0.5) & between(y, 0.0, 0.42)
    front |= (np.abs(x) < gable) & between(y, 0.42, 0.86)
    inner = (np.abs(x) < gable - 0.06) & between(y, 0.42, 0.81) | (
        between(x, -0.46, 0.46) & between(y, 0.0, 0.42)
    )
    boards = inner & (np.abs((x * 11.0) % 1.0 - 0.5) < 0.07)
    gate = between(x, -0.17, 0.17) & between(y, 0.0, 0.34)
    cross = gate & (np.abs(np.abs(x) - y * 0.5) < 0.018)
    edge = gate & ~(between(x, -0.15, 0.15) & between(y, 0.0, 0.315))
    loft = between(x, -0.07, 0.07) & between(y, 0.5, 0.63)
    shadow = between(x, -0.55, 0.6) & between(y, -0.05, 0.0)
    named = scene.commission.colours
    paint = mix(colour(named[0] if named else "#a8322a"), scene.palette.shade, 0.15)
    dark = mix(paint, colour("#1d1412"), 0.6)
    white = mix(scene.palette.cloud, colour("#f4eee2"), 0.7)
    return _layers(
        scene,
        picture,
        (
            (shadow, mix(scene.palette.near, colour("#101410"), 0.5), 0.6),
            (front, mix(dark, colour("#4a4440"), 0.6), 1.0),
            (inner, paint, 1.0),
            (boards, dark, 0.45),
            (gate | loft, dark, 1.0),
            (cross | edge, white, 0.95),
        ),
    )


def paint_cat(scene: Scene, picture: Floats) -> Floats:
    """A cat that sits in the foreground and looks at who looks."""
    size = 0.34
    x = (scene.x - _aside(scene, "cat")) / size
    y = (0.97 - scene.y) / size
    body = (x / 0.27) ** 2 + ((y - 0.3) / 0.36) ** 2 < 1.0
    haunches = (x / 0.36) ** 2 + ((y - 0.12) / 0.16) ** 2 < 1.0
    head = (x / 0.22) ** 2 + ((y - 0.74) / 0.185) ** 2 < 1.0
    ears = between(y, 0.8, 1.05) & (np.abs(np.abs(x) - 0.145) < (1.05 - y) * 0.34)
    round_x, round_y = x - 0.34, y - 0.2
    ring = np.abs(np.hypot(round_x / 1.0, round_y / 1.35) - 0.2)
    tail = (ring < 0.045) & between(x, 0.3, 0.6) & between(y, -0.02, 0.5)
    eyes = ((np.abs(x) - 0.09) / 0.05) ** 2 + ((y - 0.77) / 0.035) ** 2 < 1.0
    pupils = ((np.abs(x) - 0.09) / 0.014) ** 2 + ((y - 0.77) / 0.034) ** 2 < 1.0
    nose = between(y, 0.675, 0.7) & (np.abs(x) < (y - 0.67) * 0.9)
    whiskers = (np.abs(y - 0.68 - 0.12 * (np.abs(x) - 0.1)) < 0.006) & between(
        np.abs(x), 0.08, 0.34
    )
    bib = (x / 0.11) ** 2 + ((y - 0.42) / 0.17) ** 2 < 1.0
    named = scene.commission.colours
    fur = mix(colour(named[0] if named else "#3a302c"), scene.palette.shade, 0.15)
    light = mix(fur, colour("#f2ece2"), 0.75)
    return _layers(
        scene,
        picture,
        (
            (tail | haunches | body | head | ears, fur, 1.0),
            (bib, light, 0.85),
            (eyes, colour("#d8c94a"), 1.0),
            (pupils, colour("#121212"), 1.0),
            (nose, colour("#d88a86"), 1.0),
            (whiskers, light, 0.8),
        ),
    )


def _aside(scene: Scene, part: str) -> float:
    """Return a place for a figure: off the middle, on the side away from the lamp."""
    width = float(scene.x[0, -1])
    share = float(scene.dice(part).uniform(0.26, 0.34))
    return width * (1.0 - share if scene.lamp[0] < width / 2 else share)


def _layers(
    scene: Scene, picture: Floats, layers: tuple[tuple[Mask, Floats, float], ...]
) -> Floats:
    for shape, tone, share in layers:
        picture = blend(picture, spread(scene, tone), shape * np.float32(share))
    return picture
