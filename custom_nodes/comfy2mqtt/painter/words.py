"""Reads a prompt, as far as the painter understands it.

A table of words; whatever a prompt leaves open, a hash of it decides. So the same words always
give the same kind of picture, other words another, and the seed arranges it differently.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_PLACES = {
    "sea": "sea ocean wave coast beach bay island harbour harbor sail boat ship lighthouse",
    "lake": "lake water river pond fjord reflection mirror",
    "mountains": "mountain alp peak summit cliff rock volcano highland valley",
    "hills": "hill meadow field grass countryside farm barn vineyard tuscany prairie garden flower",
    "forest": "forest black-forest wood tree pine fir jungle grove woodland spruce",
    "city": "city town skyline tower street metropolis urban building skyscraper cyberpunk",
    "desert": "desert dune sand sahara canyon mesa mars",
    "space": "space galaxy nebula planet red-planet cosmos universe cosmic astronaut interstellar",
}

_LIGHTS = {
    "dawn": "dawn sunrise morning spring pastel",
    "noon": "day noon summer bright sunny blue-sky midday tropical",
    "sunset": "sunset evening golden-hour warm fire burning",
    "dusk": "dusk twilight gloaming blue-hour dream mystic magic fantasy",
    "night": "night midnight moon moonlight star starry dark moonlit",
    "storm": "storm rain thunder cloudy overcast grey gray grim tempest",
    "autumn": "autumn fall october harvest",
    "winter": "winter snow ice frost frozen arctic cold december snowy",
    "neon": "neon cyberpunk synthwave electric vaporwave futuristic",
}

_DETAILS = {
    "sun": "sun sunrise sunset sunny sunlight dawn",
    "moon": "moon moonlight moonlit night",
    "stars": "star starry night galaxy midnight space",
    "clouds": "cloud cloudy storm overcast sky",
    "snow": "snow snowy winter ice alp frozen arctic",
    "aurora": "aurora northern-lights borealis",
    "flowers": "flower meadow garden poppy tulip lavender spring blossom bloom rose",
    "fog": "fog mist misty haze foggy dream",
    "boat": "boat sail ship sailing",
    "lighthouse": "lighthouse beacon",
    "barn": "barn house cottage cabin hut",
    "cat": "cat kitten kitty",
}

COLOURS = {
    "red": "#d8342c", "crimson": "#b0122c", "scarlet": "#ea3a1e", "orange": "#f2842a",
    "amber": "#f6ac2c", "gold": "#f0bc42", "golden": "#f0bc42", "yellow": "#f5d63c",
    "green": "#3f9a4a", "emerald": "#138a5c", "olive": "#8a8a36", "teal": "#148a8a",
    "turquoise": "#2cb8b0", "cyan": "#30c4dc", "blue": "#2c62d0", "azure": "#3a92e6",
    "indigo": "#3c32a0", "purple": "#7a34b0", "violet": "#8a48d0", "magenta": "#d030a8",
    "pink": "#f284b0", "rose": "#e66a86", "brown": "#8a5a34", "silver": "#b4bcc6",
    "white": "#f0f0ec", "black": "#18181c", "copper": "#c2703c", "lavender": "#aa94e0",
}  # fmt: skip

# Two words that mean something else than each of them.
_COMPOUNDS = (
    "golden hour",
    "northern lights",
    "blue hour",
    "blue sky",
    "red planet",
    "black forest",
)

_HASHED_PLACES = (("mountains", "lake"), ("sea",), ("hills",), ("forest", "lake"), ("desert",))
_HASHED_LIGHTS = ("dawn", "noon", "sunset", "dusk", "night")


@dataclass(frozen=True, slots=True)
class Commission:
    """The content of a picture. `colours` are hex triplets, in the order of the prompt."""

    places: frozenset[str]
    light: str
    details: frozenset[str]
    colours: tuple[str, ...]
    fingerprint: int


def read_prompt(prompt: str) -> Commission:
    """Return the content that a prompt names; its hash chooses the rest."""
    text = " ".join(re.findall(r"\w+", prompt.lower()))
    for compound in _COMPOUNDS:
        text = text.replace(compound, compound.replace(" ", "-"))
    digest = hashlib.sha256(text.encode()).digest()
    words = _words(text)
    details = frozenset(_named(_DETAILS, words))
    places = frozenset(_named(_PLACES, words))
    if not places and "cat" in details:
        places = frozenset(("hills",))  # it does not sit on water
    lights = _named(_LIGHTS, words)
    return Commission(
        places=places or frozenset(_HASHED_PLACES[digest[0] % len(_HASHED_PLACES)]),
        light=lights[0] if lights else _HASHED_LIGHTS[digest[1] % len(_HASHED_LIGHTS)],
        details=details,
        colours=tuple(COLOURS[word] for word in words if word in COLOURS),
        fingerprint=int.from_bytes(digest[:8], "big"),
    )


def _words(text: str) -> list[str]:
    """The words, and plurals also without their ending."""
    words = text.split()
    singulars = [word[:-1] for word in words if word.endswith("s")]
    singulars += [word[:-2] for word in words if word.endswith("es")]
    return words + singulars


def _named(table: dict[str, str], words: list[str]) -> list[str]:
    """The rows of the table that the words name, in the order of the words, each once."""
    known = {row: set(row_words.split()) for row, row_words in table.items()}
    rows = [row for word in words for row, row_words in known.items() if word in row_words]
    return list(dict.fromkeys(rows))
