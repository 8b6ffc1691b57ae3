"""Colours: a palette for each light, and mixing in Oklab, where equal steps look equal.

Colours are float arrays [..., 3] of sRGB, 0.0 to 1.0. Oklab's matrices are Björn Ottosson's:
https://bottosson.github.io/posts/oklab/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Floats, floats

if TYPE_CHECKING:
    from collections.abc import Sequence


_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=np.float32,
)
# Where sRGB's curve turns into a line: IEC 61966-2-1.
_SRGB_KNEE, _LINEAR_KNEE = 0.04045, 0.0031308
_FROM_CONES = np.linalg.inv(_TO_CONES).astype(np.float32)
_FROM_LAB = np.linalg.inv(_TO_LAB).astype(np.float32)


def colour(text: str) -> Floats:
    """An `#rrggbb` as a colour."""
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32) / 255.0


def to_oklab(srgb: Floats) -> Floats:
    """Lightness 0 to 1, then green to red and blue to yellow, about -0.3 to 0.3."""
    linear = np.where(srgb > _SRGB_KNEE, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    return floats(np.cbrt(floats(linear) @ _TO_CONES.T) @ _TO_LAB.T)


def from_oklab(lab: Floats) -> Floats:
    """Back to sRGB; what no screen can show is clipped."""
    linear = np.clip((lab @ _FROM_LAB.T) ** 3 @ _FROM_CONES.T, 0.0, 1.0)
    srgb = np.where(linear > _LINEAR_KNEE, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return floats(srgb)


def mix(first: Floats, second: Floats, share: float) -> Floats:
    """`share` of the second colour in the first."""
    return from_oklab(to_oklab(first) * (1.0 - share) + to_oklab(second) * share)


def gradient(stops: Sequence[Floats], at: Floats) -> Floats:
    """Colours along evenly spaced stops, `at` 0.0 to 1.0, of any shape."""
    steps = 512
    labs = to_oklab(np.stack(stops))
    position = np.linspace(0.0, len(stops) - 1, steps)
    ramp = np.stack(
        [np.interp(position, np.arange(len(stops)), labs[:, i]) for i in range(3)], axis=1
    )
    table = from_oklab(ramp.astype(np.float32))
    return table[(np.clip(at, 0.0, 1.0) * (steps - 1)).astype(np.int32)]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one light. `sky`: from the zenith to the horizon."""

    sky: tuple[Floats, ...]
    light: Floats
    cloud: Floats
    shade: Floats
    far: Floats
    near: Floats


# Four of the sky, then light, cloud, shade of a cloud, far land, near land.
_LIGHTS = {
    "dawn": "34487c 7d7cb8 f0a8a6 ffe2b4  fff2cc ffd9c4 8b7ba8 9a93bd 28324e",
    "noon": "1c63b8 4a9be0 9fd2f0 e8f5f2  fffbe6 ffffff 9db9d2 8fb6c8 24503a",
    "sunset": "1f1c50 6e2c70 e4573f ffc45e  ffeeb0 ff9c62 5c2a5e 8f4a68 1c1328",
    "dusk": "10173c 323878 8f5d98 f2a78e  ffe4c4 d68fae 3c3a72 6a5a90 171832",
    "night": "050a1e 0c1d46 1d4076 4a7ca0  f6f2da 4f74a6 12254c 2b4c74 060b18",
    "storm": "1e252f 3c4754 6d7984 b9bdb2  eceada a7afb2 333c48 76828a 1d252a",
    "autumn": "4f7aa2 a2bcc6 f0dcb2 ffd390  fff0c4 fff1dc b79a8c b98a6a 5c2814",
    "winter": "4a76ac 8fb6da d2e4f2 ffeedd  fff8ea ffffff 8aa4c6 9db6d4 2c4058",
    "neon": "0b0524 2c0b5e 9c1c8c ff5ca2  86f2ff e04ab8 2a0f58 5a2a8e 0c0620",
    "space": "0a0a24 2a1f6e a03a9c ff9a62  fff0d8 f2c49a 3a2a5e 4a86c8 07060f",
}


def palette_for(light: str, tints: Sequence[str]) -> Palette:
    """The palette of a light, drawn towards the colours that were asked for."""
    colours = [colour(f"#{text}") for text in _LIGHTS[light].split()]
    palette = Palette(tuple(colours[:4]), *colours[4:])
    if not tints:
        return palette
    wanted = [colour(text) for text in tints]
    sky = tuple(tint(stop, wanted[i % len(wanted)], 0.62) for i, stop in enumerate(palette.sky))
    return Palette(
        sky=sky,
        light=tint(palette.light, wanted[0], 0.35),
        cloud=tint(palette.cloud, wanted[-1], 0.5),
        shade=tint(palette.shade, wanted[0], 0.5),
        far=tint(palette.far, wanted[-1], 0.45),
        near=tint(palette.near, wanted[0], 0.3),
    )


def tint(base: Floats, wanted: Floats, share: float) -> Floats:
    """The base with the hue of another colour, and a little of its lightness."""
    lab, towards = to_oklab(base), to_oklab(wanted)
    shares = np.array([share * 0.3, share, share], dtype=np.float32)
    return from_oklab(lab * (1.0 - shares) + towards * shares)


COLOUR_OF_PLACE = {
    "mountains": colour("#56617a"),
    "hills": colour("#6f9a3c"),
    "forest": colour("#1f5236"),
    "desert": colour("#d08c4a"),
    "city": colour("#23283c"),
}
AUTUMN = {"hills": colour("#d09a34"), "forest": colour("#c2501e")}


def enliven(picture: Floats, contrast: float, chroma: float) -> Floats:
    """A picture with its lightness spread about its mean, and its colours deepened."""
    lab = to_oklab(np.clip(picture, 0.0, 1.0))
    mean = float(lab[..., 0].mean())
    factors = np.array([contrast, chroma, chroma], dtype=np.float32)
    offset = np.array([mean * (1.0 - contrast), 0.0, 0.0], dtype=np.float32)
    return from_oklab(lab * factors + offset)
