"""The values that all parts of a picture share: size, horizon, light, palette and dice."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .palette import Palette, palette_for
from .words import Commission, read_prompt

if TYPE_CHECKING:
    from .arrays import Floats


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture to be painted. Lengths are in units of its height, `y` runs down from the top.

    `lamp` is where the sun or moon stands, `horizon` the y of the horizon.
    """

    commission: Commission
    palette: Palette
    seed: int
    size: tuple[int, int]
    x: Floats
    y: Floats
    horizon: float
    lamp: tuple[float, float]
    water: float | None

    def dice(self, part: str) -> np.random.Generator:
        """Random numbers of one part's own: adding a part leaves the others as they were."""
        words = (self.seed, self.commission.fingerprint, zlib.crc32(part.encode()))
        return np.random.Generator(np.random.PCG64(words))

    def has(self, *names: str) -> bool:
        """True if any of these places, details or lights is asked for."""
        asked = self.commission
        return any(
            name in asked.places or name in asked.details or name == asked.light for name in names
        )


def set_scene(prompt: str, seed: int, width: int, height: int) -> Scene:
    """The scene that a prompt and a seed describe."""
    commission = read_prompt(prompt)
    dice = np.random.Generator(np.random.PCG64((seed, commission.fingerprint)))
    places = commission.places
    horizon = float(dice.uniform(0.56, 0.66) if "sea" in places else dice.uniform(0.6, 0.72))
    low = commission.light in {"dawn", "sunset", "neon", "autumn"}
    above = dice.uniform(0.06, 0.16) if low else dice.uniform(0.3, 0.46)
    lamp = (float(width / height * dice.choice([0.3, 0.36, 0.64, 0.7])), float(horizon - above))
    wet = bool(places & {"sea", "lake"}) or ("city" in places and not places & {"desert", "hills"})
    shore = 0.0 if "sea" in places else dice.uniform(0.03, 0.09)
    return Scene(
        commission=commission,
        palette=palette_for("space" if "space" in places else commission.light, commission.colours),
        seed=seed,
        size=(height, width),
        x=(np.arange(width, dtype=np.float32)[None, :] + 0.5) / height,
        y=(np.arange(height, dtype=np.float32)[:, None] + 0.5) / height,
        horizon=horizon,
        lamp=lamp,
        water=float(horizon + shore) if wet else None,
    )
