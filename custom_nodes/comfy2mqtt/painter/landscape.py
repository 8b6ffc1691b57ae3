"""Land far from water: mountains, hills with flowers, forests and dunes, from far to near."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ground import lay, relief, snowed, spread, stamp, tone_of
from .noise import curve, field, smoothstep
from .palette import colour, gradient, mix
from .sky import blend

if TYPE_CHECKING:
    from .arrays import Floats
    from .scene import Scene


def paint_mountains(scene: Scene, picture: Floats, ground: float) -> Floats:
    """Three ranges; the farthest is the highest and holds a peak of its own."""
    dice = scene.dice("mountains")
    winter = scene.has("snow", "winter")
    peak_at = float(scene.x[0, -1] * dice.uniform(0.3, 0.7))
    for layer in range(3):
        near = layer / 2
        ridge = 1.0 - np.abs(curve(dice, scene.size, 1.3 + 0.8 * layer, 7)) * 0.6
        rise = (0.26 - 0.13 * near) * (0.55 + 0.45 * ridge)
        if layer == 0:
            rise += 0.19 * np.clip(1.0 - np.abs(scene.x[0] - peak_at) / 0.42, 0.0, 1.0) ** 1.4
        rise += 0.03 * curve(dice, scene.size, 0.8, 2)
        outline = (ground - np.clip(rise, 0.01, ground - 0.08)).astype(np.float32)
        tone = tone_of(scene, "mountains", 0.72 - 0.62 * near)
        tone = relief(scene, f"rock{layer}", tone, 6.0 + 2 * layer, 1.25)
        share = (0.3 if winter else 0.13) - 0.1 * near
        if winter or layer == 0:
            tone = snowed(scene, f"snow{layer}", tone, outline, share)
        picture = lay(scene, picture, outline, tone, 0.6 - 0.35 * near)
    return picture


def paint_hills(scene: Scene, picture: Floats, ground: float) -> Floats:
    """Rolling land towards the viewer, or a strip of it behind water."""
    dice = scene.dice("hills")
    layers = 3 if scene.water is not None else 5
    reach = 0.1 if scene.water is not None else 1.02 - ground
    for layer in range(layers):
        near = layer / (layers - 1)
        swell = curve(dice, scene.size, 0.8 + 0.35 * (1 - near), 3)
        base = ground - 0.05 + (near**1.5) * reach * 0.72
        outline = (base + swell * (0.022 + 0.026 * near)).astype(np.float32)
        tone = _fields(scene, layer, tone_of(scene, "hills", 0.75 * (1 - near)))
        tone = relief(scene, f"hill{layer}", tone, 5.0 + 4 * near, 0.75)
        if scene.has("winter", "snow"):
            tone = snowed(scene, f"drift{layer}", tone, outline, 2.0)
        picture = lay(scene, picture, outline, tone, 0.45 * (1 - near))
        if layer in {1, 2}:
            picture = _copse(scene, picture, outline, near)
    return picture


def _fields(scene: Scene, layer: int, tone: Floats) -> Floats:
    """A hill's tone with ripe and with shaded fields on it."""
    patches = field(scene.dice(f"fields{layer}"), scene.size, 4.0 + layer, 2, 3.0)
    ripe = mix(tone, scene.palette.light, 0.28)
    shaded = mix(tone, scene.palette.near, 0.4)
    body = blend(spread(scene, tone), spread(scene, ripe), smoothstep(0.2, 0.45, patches))
    return blend(body, spread(scene, shaded), smoothstep(-0.5, -0.75, patches))


def _copse(scene: Scene, picture: Floats, outline: Floats, near: float) -> Floats:
    """Round trees along a hill."""
    dice = scene.dice(f"copse{near}")
    x = scene.x[0]
    crown = np.zeros_like(outline)
    for _ in range(int(26 * x[-1])):
        size = dice.uniform(0.006, 0.022) * (0.6 + near)
        bush = np.sqrt(np.clip(1.0 - ((x - dice.uniform(0, x[-1])) / size) ** 2, 0.0, 1.0))
        crown = np.maximum(crown, bush * size * 1.7)
    tone = relief(scene, "leaves", tone_of(scene, "forest", 0.5 * (1 - near)), 30.0, 0.7)
    inside = smoothstep(0.0, 0.002, scene.y - (outline - crown)[None, :])
    inside *= smoothstep(0.006, 0.003, scene.y - outline[None, :])
    return blend(picture, tone, inside)


def paint_flowers(scene: Scene, picture: Floats) -> Floats:
    """Flowers in the foreground, smaller towards the distance."""
    dice = scene.dice("flowers")
    width = float(scene.x[0, -1])
    wanted = [colour(text) for text in scene.commission.colours]
    tones = wanted or [colour(text) for text in ("#e8433c", "#f4c93e", "#f7f2ea", "#a05ad0")]
    picture = picture.copy()
    start = scene.horizon + 0.08
    for depth in np.sort(dice.uniform(0.0, 1.0, int(900 * width)) ** 0.8):
        radius = 0.002 + 0.0085 * depth * dice.uniform(0.6, 1.2)
        y = start + (0.99 - start) * depth
        rows, columns, distance = stamp(scene, dice.uniform(0, width), y, radius)
        tone = (tones[int(dice.integers(len(tones)))] * dice.uniform(0.78, 1.05)).astype(np.float32)
        petal = smoothstep(radius, radius * 0.55, distance)
        picture[rows, columns] = blend(picture[rows, columns], tone, petal)
    return picture


def paint_dunes(scene: Scene, picture: Floats) -> Floats:
    """Crests of sand; the side away from the lamp lies in shadow."""
    dice = scene.dice("dunes")
    layers = 5
    sand = tone_of(scene, "desert", 0.0)
    dark = mix(mix(sand, scene.palette.near, 0.45), scene.palette.shade, 0.25)
    bright = mix(sand, scene.palette.light, 0.3)
    towards = float(np.sign(scene.lamp[0] - scene.x[0, -1] / 2))
    for layer in range(layers):
        near = layer / (layers - 1)
        bent = scene.x[0] + 0.07 * curve(dice, scene.size, 2.0, 2)
        phase = dice.uniform(0.0, 6.3)
        swell = np.sin(bent * (9.0 - 5.0 * near) + phase) + 0.4 * curve(dice, scene.size, 1.1, 2)
        outline = scene.horizon + near**1.4 * 0.32 - 0.012 + swell * (0.008 + 0.042 * near)
        depth = scene.y - outline[None, :]
        # Below its crest the shadow's edge runs down aslant, as sand slides.
        aslant = scene.x + depth * towards * 1.6 + 0.02 * field(dice, scene.size, 3.0, 3)
        slope = np.interp(aslant, scene.x[0], np.gradient(outline, 1.0 / scene.size[0])) * towards
        lit = smoothstep(-0.05, 0.05, slope.astype(np.float32))
        ripples = 0.05 * np.sin(depth * 300 / (0.5 + near) + 3.0 * field(dice, scene.size, 4.0, 2))
        shares = np.clip(lit * 0.85 + 0.08 + ripples * lit, 0.0, 1.0)
        veil = 0.65 * (1 - near)
        stops = [mix(dark, scene.palette.far, veil), mix(bright, scene.palette.sky[-1], veil * 0.6)]
        tone = gradient(stops, shares.astype(np.float32))
        picture = lay(scene, picture, outline.astype(np.float32), tone, 0.2 * (1 - near))
    return picture


def paint_forest(scene: Scene, picture: Floats, ground: float) -> Floats:
    """Rows of firs, mist between them."""
    dice = scene.dice("forest")
    x = scene.x[0]
    rows = 4
    open_land = scene.water is None
    for row in range(rows):
        near = row / (rows - 1)
        base = ground + (0.3 * near if open_land else -0.015 + 0.02 * near)
        foot = base + 0.012 * curve(dice, scene.size, 1.2, 3)
        size = (0.07 + 0.3 * near**1.5) if open_land else (0.07 + 0.09 * near)
        tops = np.zeros_like(x)
        for place in np.arange(-size * 0.2, x[-1] + size * 0.2, size * 0.2):
            tall = size * dice.uniform(0.45, 1.1)
            offset = np.abs(x - place - dice.uniform(-0.1, 0.1) * size) / (tall * 0.24)
            boughs = 0.14 * np.abs(((offset * 5.0 + dice.uniform()) % 1.0) - 0.5)
            tops = np.maximum(tops, tall * np.clip(1.0 - offset - boughs, 0.0, 1.0))
        tone = tone_of(scene, "forest", 0.72 * (1 - near))
        tone = relief(scene, f"fir{row}", tone, 16.0, 0.6)
        if scene.has("snow", "winter"):
            frost = field(scene.dice(f"frost{row}"), scene.size, 22.0, 3, 1.5)
            tone = blend(tone, spread(scene, colour("#e6eef7")), smoothstep(0.2, 1.0, frost) * 0.6)
        mist = 0.85 if scene.has("fog") else 0.5
        outline = (foot - tops).astype(np.float32)
        picture = lay(scene, picture, outline, tone, mist * (1 - near))
    return picture
