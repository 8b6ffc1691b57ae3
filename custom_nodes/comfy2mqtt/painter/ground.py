"""Paints land in layers behind each other, each with relief, haze and a colour of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import Floats, floats
from .noise import field, smoothstep, warp
from .palette import AUTUMN, COLOUR_OF_PLACE, colour, mix
from .sky import blend

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .scene import Scene


def lay(scene: Scene, picture: Floats, outline: Floats, tone: Floats, veil: float) -> Floats:
    """One layer over the picture, below its outline (the y where it begins, for each column).

    `tone`: one colour, or a picture of them; `veil`: haze that gathers at its foot.
    """
    depth = (scene.y - outline[None, :]).astype(np.float32)
    haze = np.clip(depth / 0.22, 0.0, 1.0) * veil
    body = blend(spread(scene, tone), spread(scene, scene.palette.sky[-1]), haze)
    edge = 1.0 / scene.size[0]
    return blend(picture, body, smoothstep(-edge, edge, depth))


def spread(scene: Scene, tone: Floats) -> Floats:
    """A colour as a picture of it."""
    return np.broadcast_to(tone, (*scene.size, 3))


def tone_of(scene: Scene, place: str, distance: float) -> Floats:
    """The colour of a place's layer: 0.0 is at the viewer's feet, 1.0 at the horizon."""
    own = COLOUR_OF_PLACE[place]
    if scene.has("autumn") and place in AUTUMN:
        own = AUTUMN[place]
    return mix(mix(scene.palette.near, own, 0.6), scene.palette.far, distance)


def relief(scene: Scene, part: str, tone: Floats, frequency: float, strength: float) -> Floats:
    """A tone with light and shade on it, from the lamp's side."""
    bumps = field(scene.dice(part), scene.size, frequency, 5, 1.6)
    reach = 0.012 * scene.size[0] * np.tanh((scene.lamp[0] - scene.x) * 5.0) * np.ones_like(bumps)
    light = np.clip(bumps - warp(bumps, reach, -np.abs(reach) * 0.5), -1.5, 1.5) * strength
    near = 0.5 + np.exp(-np.abs(scene.x - scene.lamp[0]) / 0.6)
    lit = np.clip(light * near, 0.0, 1.0)[..., None]
    dark = np.clip(-light, 0.0, 1.0)[..., None]
    shaded = tone * (1.0 - 0.6 * dark)
    return floats(shaded + (scene.palette.light - shaded) * lit * 0.55)


def snowed(scene: Scene, part: str, tone: Floats, outline: Floats, share: float) -> Floats:
    """A tone under snow: `share` of its height below the outline, down to a ragged line."""
    ragged = field(scene.dice(part), scene.size, 8.0, 5, 0.7)
    depth = scene.y - outline[None, :] + 0.022 * ragged * np.sqrt(max(share, 0.0))
    cover = smoothstep(share + 0.02, share - 0.02, depth.astype(np.float32))
    white = mix(colour("#f6f9fd"), scene.palette.sky[-1], 0.2)
    blue = mix(mix(white, scene.palette.sky[0], 0.45), scene.palette.shade, 0.25)
    light = tone.mean(axis=2)
    lit = smoothstep(-0.07, 0.1, light - float(light.mean()))
    return blend(tone, blend(spread(scene, blue), spread(scene, white), lit), cover * 0.94)


def between(value: Floats, low: float | Floats, high: float | Floats) -> NDArray[np.bool_]:
    """Return a mask of the values between two bounds."""
    return (value > low) & (value < high)


def stamp(scene: Scene, x: float, y: float, radius: float) -> tuple[slice, slice, Floats]:
    """The rows and columns around a spot, and the distance of each pixel there from it."""
    height = scene.size[0]
    reach = max(1, int(radius * height)) + 2
    row, column = int(y * height), int(x * height)
    rows = slice(max(0, row - reach), row + reach + 1)
    columns = slice(max(0, column - reach), column + reach + 1)
    return rows, columns, np.hypot(scene.x[:, columns] - x, scene.y[rows] - y).astype(np.float32)
