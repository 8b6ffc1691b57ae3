"""The colours of e-ink panels, by the names that a request's `dither` takes.

They are the pure colours by which panel drivers distinguish pigments, not what the pigments look
like: a driver that takes the nearest colour finds each one exactly. The index in the palette is
the place in the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]

_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)
_RED = (255, 0, 0)
_GREEN = (0, 255, 0)
_BLUE = (0, 0, 255)
_YELLOW = (255, 255, 0)
_ORANGE = (255, 128, 0)

PALETTES: Mapping[str, tuple[Colour, ...]] = {
    "1bit": (_BLACK, _WHITE),
    "4grey": (_BLACK, (85, 85, 85), (170, 170, 170), _WHITE),
    "black-white-red": (_BLACK, _WHITE, _RED),
    "black-white-yellow": (_BLACK, _WHITE, _YELLOW),
    "spectra-6": (_BLACK, _WHITE, _YELLOW, _RED, _BLUE, _GREEN),
    "acep-7": (_BLACK, _WHITE, _GREEN, _BLUE, _RED, _YELLOW, _ORANGE),
}
