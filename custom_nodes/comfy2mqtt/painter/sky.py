"""Everything above the horizon: the air's colour, sun or moon, clouds, stars, aurora."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import Floats, floats
from .noise import field, smoothstep, warp
from .palette import colour, gradient

if TYPE_CHECKING:
    from .scene import Scene


_CLOUDINESS = {"storm": 0.9, "night": -0.4, "neon": -0.1}


def blend(below: Floats, above: Floats, share: Floats) -> Floats:
    """`above` over `below` by `share`: [height, width]."""
    return below + (above - below) * share[..., None]


def paint_sky(scene: Scene) -> Floats:
    """The whole canvas as sky: [height, width, 3]."""
    if scene.has("space"):
        return _planet(scene, _stars(scene, _nebula(scene)))
    height = (scene.y / scene.horizon) + 0.05 * field(scene.dice("air"), scene.size, 1.3, 3, 3.0)
    sky = gradient(scene.palette.sky, np.abs(height) ** 1.1)
    if scene.has("night", "stars", "space", "neon"):
        sky = _stars(scene, sky)
    if scene.has("aurora"):
        sky = _aurora(scene, sky)
    sky = _lamp(scene, sky)
    return _clouds(scene, sky)


def lamp_distance(scene: Scene) -> Floats:
    """From each pixel to sun or moon."""
    return floats(np.hypot(scene.x - scene.lamp[0], scene.y - scene.lamp[1]))


def _lamp(scene: Scene, sky: Floats) -> Floats:
    """Sun or moon, and its light in the air around it."""
    if scene.has("storm") and not scene.has("sun", "moon"):
        return sky
    distance = lamp_distance(scene)
    moon = scene.has("night", "moon") and not scene.has("sun")
    radius = float(scene.dice("lamp").uniform(0.045, 0.075)) * (0.8 if moon else 1.15)
    glow = 0.75 * np.exp(-distance / 0.09) + 0.38 * np.exp(-distance / 0.34)
    glow *= 0.6 if moon else 1.0
    sky = 1.0 - (1.0 - sky) * (1.0 - scene.palette.light * glow[..., None])
    disc = smoothstep(radius, radius * 0.93, distance)
    face = np.broadcast_to(scene.palette.light, sky.shape)
    if moon:
        seas = smoothstep(0.1, 1.2, field(scene.dice("seas"), scene.size, 14.0, 3))
        face = face * (1.0 - 0.22 * seas[..., None])
    return blend(sky, face, disc)


def _clouds(scene: Scene, sky: Floats) -> Floats:
    """Banks of cloud: flatter towards the horizon, lit from where the lamp stands."""
    dice = scene.dice("clouds")
    amount = _CLOUDINESS.get(scene.commission.light, 0.28)
    amount += 0.35 if scene.has("clouds") else 0.0
    bank = field(dice, scene.size, 2.2, 6, 2.6)
    drift = field(dice, scene.size, 3.0, 3, 2.0) * 0.045 * scene.size[0]
    bank = warp(bank, drift, drift * 0.3)
    belt = np.exp(-(((scene.y - scene.horizon * 0.5) / (scene.horizon * 0.5)) ** 2))
    density = smoothstep(0.25, 1.5, bank + amount + 0.5 * belt - 0.45)
    reach = 0.035 * scene.size[0]
    away = np.tanh((scene.lamp[0] - scene.x) * 5.0) * reach * np.ones_like(bank)
    lit = smoothstep(-0.5, 0.9, bank - warp(bank, away, -reach * np.ones_like(bank)))
    near = np.exp(-lamp_distance(scene) / 0.45)
    lit = np.clip(lit * (0.7 + 0.5 * near) + 0.25 * near, 0.0, 1.0)
    cloud = blend(
        np.broadcast_to(scene.palette.shade, sky.shape),
        np.broadcast_to(scene.palette.cloud, sky.shape),
        lit,
    )
    cloud = cloud + (scene.palette.light - cloud) * (near**2 * 0.5)[..., None]
    return blend(sky, cloud, density * 0.88)


def _stars(scene: Scene, sky: Floats) -> Floats:
    """Stars of all magnitudes, fewer towards the horizon."""
    dice = scene.dice("stars")
    height, width = scene.size
    count = int(260 * width / height)
    x, y = dice.uniform(0, width / height, count), dice.uniform(0, 1.0, count) ** 1.3
    bright = dice.pareto(2.2, count).clip(0.15, 2.5) * 0.35
    sky = sky.copy()
    for i in np.argsort(bright):
        radius = 0.0016 + 0.003 * bright[i]
        reach = max(1, int(radius * 3.5 * height))
        row, column = int(y[i] * height), int(x[i] * height)
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        distance = np.hypot(scene.x[:, columns] - x[i], scene.y[rows] - y[i])
        shine = np.clip(np.exp(-((distance / radius) ** 2)) * (0.5 + bright[i]), 0.0, 1.0)
        tone = colour("#fff3d6") if i % 3 else colour("#cfe2ff")
        sky[rows, columns] = blend(sky[rows, columns], tone, shine.astype(np.float32))
    return sky


def _aurora(scene: Scene, sky: Floats) -> Floats:
    """Curtains of green light with violet hems."""
    dice = scene.dice("aurora")
    folds = field(dice, scene.size, 1.1, 3, 1.6)
    for curtain in range(3):
        sway = 0.07 * (folds + 0.4 * np.roll(folds, folds.shape[1] // 5, axis=1))
        middle = scene.horizon * (0.3 + 0.17 * curtain) + sway
        above = middle - scene.y
        veil = np.where(above > 0, np.exp(-above / 0.17), np.exp(above / 0.018))
        rays = 0.65 + 0.35 * field(dice, scene.size, 9.0, 2, 0.35)[:1]
        strength = np.clip(veil * rays * (0.75 - 0.16 * curtain), 0.0, 0.9).astype(np.float32)
        tone = gradient([colour("#38f29a"), colour("#2cc8b4"), colour("#8a4ee0")], above / 0.34)
        sky = 1.0 - (1.0 - sky) * (1.0 - tone * strength[..., None])
    return sky


def _nebula(scene: Scene) -> Floats:
    """Glowing gas before the dark, with lanes of dust."""
    dice, size = scene.dice("nebula"), scene.size
    reach = 0.13 * size[0]
    gas = field(dice, size, 1.6, 6)
    gas = warp(gas, field(dice, size, 1.8, 4) * reach, field(dice, size, 1.8, 4) * reach)
    dust = warp(field(dice, size, 2.4, 6), gas * reach * 0.4, -gas * reach * 0.4)
    lean = float(dice.uniform(0.25, 0.9) * dice.choice([-1.0, 1.0]))
    across = (scene.x - size[1] / size[0] / 2) * lean + (scene.y - 0.5)
    band = np.exp(-((across / 0.27) ** 2))
    stops = [colour("#04050c"), *scene.palette.sky, scene.palette.light]
    glow = np.clip(0.1 + 0.42 * band + 0.15 * gas * (0.45 + band), 0.0, 0.93)
    lanes = smoothstep(0.1, 1.4, dust)[..., None] * band[..., None]
    return (gradient(stops, glow) * (1.0 - 0.7 * lanes)).astype(np.float32)


def _planet(scene: Scene, sky: Floats) -> Floats:
    """A banded planet, lit from one side."""
    dice = scene.dice("planet")
    radius = float(dice.uniform(0.15, 0.24))
    x = (scene.x - scene.lamp[0]) / radius
    y = (scene.y - float(dice.uniform(0.36, 0.6))) / radius
    distance = np.hypot(x, y)
    depth = np.sqrt(np.clip(1.0 - distance**2, 0.0, 1.0))
    bands = y * 2.6 + x * 0.5 + 0.25 * field(dice, scene.size, 5.0, 4, 2.5)
    stops = [scene.palette.far, scene.palette.cloud, scene.palette.sky[2], scene.palette.shade]
    face = gradient([*stops, *stops[::-1]], (bands * 0.25) % 1.0)
    sun = np.clip((-0.62 * x - 0.42 * y + 0.66 * depth), 0.0, 1.0) ** 0.8
    rim = 0.12 * (1.0 - depth) * sun
    face = face * (0.05 + 1.05 * sun[..., None]) + rim[..., None]
    halo = 0.35 * np.exp(-np.abs(distance - 1.0) / 0.06) * smoothstep(0.5, -0.2, x + y)
    sky = sky + scene.palette.light * halo[..., None].astype(np.float32)
    return blend(sky, face.astype(np.float32), smoothstep(1.0, 0.985, distance))
