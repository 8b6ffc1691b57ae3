"""Paints what stands at the water, and the water, which mirrors what was painted before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ground import between, lay, relief, spread, tone_of
from .noise import curve, field, smoothstep, warp
from .palette import colour, gradient, mix
from .sky import blend

if TYPE_CHECKING:
    from .arrays import Floats
    from .scene import Scene


_MAST_SHARE = 0.25
_MAST_WIDTH = 0.0025
_WINDOW_PITCH = (0.0085, 0.0125)


def paint_islands(scene: Scene, picture: Floats) -> Floats:
    """A coast in the distance."""
    dice = scene.dice("islands")
    for near in (0.0, 0.5):
        rise = curve(dice, scene.size, 1.3, 6) - 0.75
        outline = scene.horizon - np.clip(rise, 0.0, 1.5) * (0.05 + 0.06 * near) + 0.001
        tone = relief(scene, f"isle{near}", tone_of(scene, "mountains", 0.75 - near), 8.0, 0.7)
        picture = lay(scene, picture, outline.astype(np.float32), tone, 0.35)
    return picture


def paint_city(scene: Scene, picture: Floats, ground: float) -> Floats:
    """Blocks against the sky, windows lit when the light goes."""
    dice = scene.dice("city")
    centre = float(scene.x[0, -1] * dice.uniform(0.35, 0.65))
    for row in range(3):
        near = row / 2
        tall, blocks = _blocks(scene, dice, near, centre)
        outline = (ground - tall * (1.05 - 0.45 * near)).astype(np.float32)
        body = spread(scene, tone_of(scene, "city", 0.7 * (1 - near)))
        if scene.has("night", "neon", "dusk", "sunset", "storm"):
            body = _windows(scene, body, blocks, near)
        picture = lay(scene, picture, outline, body, 0.5 * (1 - near))
    return picture


def _blocks(
    scene: Scene, dice: np.random.Generator, near: float, centre: float
) -> tuple[Floats, Floats]:
    """A row of buildings: their heights, and how lively each is, for each column."""
    x = scene.x[0]
    tall, lively = np.zeros_like(x), np.zeros_like(x)
    place = -0.05
    while place < x[-1]:
        breadth = dice.uniform(0.025, 0.075) * (0.75 + 0.5 * near)
        core = np.exp(-(((place - centre) / (0.42 * x[-1])) ** 2))
        tower = dice.uniform(0.06, 0.2) + core * dice.uniform(0.02, 0.3) * (1.1 - 0.6 * near)
        inside = between(x, place, place + breadth)
        tall[inside], lively[inside] = tower, dice.uniform()
        if dice.uniform() < _MAST_SHARE:
            mast = np.abs(x - place - breadth / 2) < _MAST_WIDTH
            tall[mast] = tower + dice.uniform(0.02, 0.07)
        place += breadth * dice.uniform(0.75, 1.15)
    return tall, lively


def _windows(scene: Scene, body: Floats, blocks: Floats, near: float) -> Floats:
    dice = scene.dice(f"windows{near}")
    across, down = scene.x / _WINDOW_PITCH[0], scene.y / _WINDOW_PITCH[1]
    columns, rows = np.floor(across).astype(int), np.floor(down).astype(int)
    table = dice.uniform(size=(rows.max() + 1, columns.max() + 1)).astype(np.float32)
    burning = table[rows, columns] < 0.2 + 0.3 * blocks[None, :]
    panes = between(across % 1.0, 0.0, 0.6) & between(down % 1.0, 0.0, 0.58)
    stops = [colour("#ffb84a"), colour("#ffe9b0"), scene.palette.light]
    glass = gradient(stops, table[rows, columns] * 3)
    return blend(body, glass, (burning & panes) * np.float32(0.55 + 0.4 * near))


def paint_water(scene: Scene, picture: Floats, level: float) -> Floats:
    """The picture above mirrored, broken by waves that grow towards the viewer."""
    height = scene.size[0]
    depth = np.clip((scene.y - level) / (1.0 - level), 0.0, 1.0).astype(np.float32)
    waves = _waves(scene, depth) * (1.0 if scene.has("sea", "storm") else 0.45)
    mirror = level - (scene.y - level) * min(level / (1.0 - level), 1.25) * 0.9
    mirror = np.minimum(mirror - (0.012 + 0.06 * depth) * waves, level - 0.004)
    reflected = warp(picture, waves * 0.01 * height, (mirror - scene.y) * height)
    deep = mix(scene.palette.near, scene.palette.sky[1], 0.45)
    share = np.clip(0.2 + 0.4 * depth + 0.14 * waves, 0.0, 0.8)
    surface = _glitter(scene, blend(reflected, spread(scene, deep), share), waves, depth)
    edge = 1.0 / height
    shore = smoothstep(-edge, edge, (scene.y - level).astype(np.float32))
    return blend(picture, surface, shore * np.ones_like(waves))


def _waves(scene: Scene, depth: Floats) -> Floats:
    """Short waves at the horizon, longer ones towards the viewer."""
    dice = scene.dice("water")
    total = np.zeros(scene.size, dtype=np.float32)
    for middle, frequency in ((0.0, 110.0), (0.25, 60.0), (0.6, 34.0), (1.0, 20.0)):
        part = field(dice, scene.size, frequency, 2, 5.5)
        total += part * np.exp(-(((depth - middle) / 0.25) ** 2))
    return total


def _glitter(scene: Scene, surface: Floats, waves: Floats, depth: Floats) -> Floats:
    """The lamp's path on the water."""
    if scene.has("storm"):
        return surface
    path = np.exp(-((np.abs(scene.x - scene.lamp[0]) / (0.045 + 0.17 * depth)) ** 2))
    crests = smoothstep(0.1, 0.9, waves / max(float(waves.std()), 1e-6))
    return blend(surface, spread(scene, scene.palette.light), path * crests * 0.9)


def paint_bank(scene: Scene, picture: Floats) -> Floats:
    """A bank in the corner to stand on."""
    dice = scene.dice("bank")
    x = scene.x[0] / scene.x[0, -1]
    side = x if dice.integers(2) else 1.0 - x
    outline = 0.86 + 0.2 * side**0.8 + 0.012 * curve(dice, scene.size, 2.0, 4)
    reeds = np.clip(curve(dice, scene.size, 34.0, 2), 0.0, 3.0) * 0.012
    tone = relief(scene, "reeds", tone_of(scene, "forest", 0.05), 14.0, 0.7)
    return lay(scene, picture, (outline - reeds).astype(np.float32), tone, 0.0)


def paint_boat(scene: Scene, picture: Floats, level: float) -> Floats:
    """A sailing boat, off the lamp's path enough to be seen."""
    dice = scene.dice("boat")
    size = float(dice.uniform(0.11, 0.15))
    foot = level + 0.1 * (1.0 - level) + 0.02
    x = (scene.x - (scene.lamp[0] + float(dice.choice([-0.17, 0.17])))) / size
    y = (foot - scene.y) / size
    bow = 0.465 + 0.25 * y
    hull = between(x, -bow, bow) & between(y, 0.0, 0.14)
    sail = between(x, -0.42 * (1.2 - y), 0.02) & between(y, 0.19, 1.2)
    jib = between(x, 0.05, 0.36 - 0.45 * (y - 0.19)) & between(y, 0.19, 1.0)
    mirrored = between(x, -0.4, 0.4) & between(y, -0.35, 0.0)
    dark = mix(scene.palette.near, colour("#1a1414"), 0.5)
    canvas = mix(scene.palette.cloud, colour("#fff6e6"), 0.6)
    for shape, tone, share in (
        (mirrored, dark, 0.35),
        (sail | jib, canvas, 0.95),
        (hull, dark, 1.0),
    ):
        picture = blend(picture, spread(scene, tone), shape * np.float32(share))
    return picture
