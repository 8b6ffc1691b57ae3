"""The motif: the picture that the brush works towards, and the way it runs while doing so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .arrays import Floats, floats
from .figures import paint_barn, paint_cat, paint_lighthouse
from .landscape import paint_dunes, paint_flowers, paint_forest, paint_hills, paint_mountains
from .noise import field
from .palette import enliven
from .sky import lamp_distance, paint_sky
from .waterside import paint_bank, paint_boat, paint_city, paint_islands, paint_water

if TYPE_CHECKING:
    from .scene import Scene


@dataclass(frozen=True, slots=True)
class Motif:
    """`picture`: [height, width, 3]; `flow`: unit vectors (x, y), [height, width, 2]."""

    picture: Floats
    flow: Floats


def compose(scene: Scene) -> Motif:
    """The motif of a scene."""
    picture = paint_sky(scene)
    if not scene.has("space"):
        ground = scene.horizon if scene.water is None else scene.water
        picture = _paint_water(scene, _paint_land(scene, picture, ground))
        picture = _paint_figures(scene, picture, ground)
        picture = _glow(scene, picture)
    picture = enliven(picture, contrast=1.1, chroma=1.16)
    return Motif(picture, _flow(scene, picture))


def _paint_land(scene: Scene, picture: Floats, ground: float) -> Floats:
    """Paint the land that the prompt names, the farthest first."""
    if scene.has("mountains"):
        picture = paint_mountains(scene, picture, ground)
    if scene.has("desert"):
        picture = paint_dunes(scene, picture)
    elif scene.has("hills") or (scene.water is None and not scene.has("city")):
        picture = paint_hills(scene, picture, ground)
    if scene.has("city"):
        picture = paint_city(scene, picture, ground)
    if scene.has("forest"):
        picture = paint_forest(scene, picture, ground)
    if scene.has("hills") and scene.has("flowers") and scene.water is None:
        picture = paint_flowers(scene, picture)
    return picture


def _paint_water(scene: Scene, picture: Floats) -> Floats:
    if scene.water is None:
        return picture
    if scene.has("sea") and not scene.has("mountains", "city", "forest", "hills"):
        picture = paint_islands(scene, picture)
    picture = paint_water(scene, picture, scene.water)
    if not scene.has("sea", "city"):
        picture = paint_bank(scene, picture)
    return paint_boat(scene, picture, scene.water) if scene.has("boat") else picture


def _paint_figures(scene: Scene, picture: Floats, ground: float) -> Floats:
    """Paint the figures in front of the land and the water."""
    if scene.has("lighthouse"):
        picture = paint_lighthouse(scene, picture, ground)
    if scene.has("barn"):
        picture = paint_barn(scene, picture, ground)
    return paint_cat(scene, picture) if scene.has("cat") else picture


def _glow(scene: Scene, picture: Floats) -> Floats:
    """The lamp's light over the land: warm near it, as air and lens would have it."""
    if scene.has("storm"):
        return picture
    glow = 0.2 * np.exp(-lamp_distance(scene) / 0.28)
    return floats(1.0 - (1.0 - picture) * (1.0 - scene.palette.light * glow[..., None]))


def blur(plane: Floats, pixels: float) -> Floats:
    """A plane without what is smaller than `pixels`, by shrinking and enlarging it."""
    height, width = plane.shape
    small = (max(2, round(width / pixels)), max(2, round(height / pixels)))
    shrunk = Image.fromarray(floats(plane)).resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _flow(scene: Scene, picture: Floats) -> Floats:
    """Along the edges where there are any; elsewhere the wind in the sky, level on water.

    The direction along edges comes from the smoothed structure tensor, as in painterly rendering
    since Litwinowicz; opposite directions are the same to a brush, so angles are averaged doubled.
    """
    height = scene.size[0]
    grey = picture @ np.array([0.3, 0.59, 0.11], dtype=np.float32)
    grey = blur(grey, max(1.0, height / 256))
    gy, gx = np.gradient(grey, axis=0), np.gradient(grey, axis=1)
    reach = max(2.0, height / 48)
    double_x, double_y = blur(gy * gy - gx * gx, reach), blur(-2.0 * gx * gy, reach)
    strength = np.hypot(double_x, double_y)
    edge = strength / (strength + 0.00004 * (512 / height) ** 2 + 1e-12)
    along = 0.5 * np.arctan2(double_y, double_x)
    wind = _wind(scene)
    x = edge * np.cos(2 * along) + (1 - edge) * np.cos(2 * wind)
    y = edge * np.sin(2 * along) + (1 - edge) * np.sin(2 * wind)
    angle = 0.5 * np.arctan2(y, x)
    return floats(np.stack([np.cos(angle), np.sin(angle)], axis=-1))


def _wind(scene: Scene) -> Floats:
    """Eddies in the air, around the lamp too; calm on the water."""
    dice = scene.dice("wind")
    stream = field(dice, scene.size, 2.0, 2, 1.4)
    down, right = np.gradient(stream, 1.0 / scene.size[0])
    dx, dy = scene.x - scene.lamp[0], scene.y - scene.lamp[1]
    distance = np.hypot(dx, dy) + 1e-3
    around = 9.0 * np.exp(-distance / 0.16)
    x = -down - dy / distance * around + 3.0
    y = right + dx / distance * around
    angle = np.arctan2(y, x)
    if scene.water is not None:
        angle = np.where(scene.y > scene.water, 0.12 * stream, angle)
    return floats(angle)
