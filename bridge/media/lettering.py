r"""Fonts for labels in any script: Pillow's own has the letters of ASCII only. Runs in the worker.

A label is drawn with one font: Pillow's where that has all of its letters, else the installed one
that has the most. Letters that it lacks are escaped, such as `\u65e5`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from msgspec import Struct
from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Where systems have fonts: those that fontconfig looks into, of macOS and of Windows.
FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("/Library/Fonts"),
    Path("/System/Library/Fonts"),
    Path("C:/Windows/Fonts"),
)
_SUFFIXES = (".ttf", ".otf", ".ttc")
# The most fonts that are read, different letters looked up, and fonts used.
_MOST_FONTS, _MOST_LETTERS, _MOST_USED = 200, 500, 8
_STYLES = ("bold", "italic", "oblique", "condensed", "mono", "light", "thin", "black")
# No font has a letter there: what is drawn for it is what is drawn for all that a font lacks.
_NO_LETTER = "\U0010ffff"


class Lettering(Struct, frozen=True):
    """A font, and the text to draw with it."""

    font: Font
    text: str


def letterings(
    labels: Sequence[str], size: int, folders: Iterable[Path] = FOLDERS
) -> list[Lettering]:
    """Return how each label is drawn, in letters of so many pixels."""
    own = ImageFont.load_default(size)
    letters = set(islice(dict.fromkeys("".join(labels)), _MOST_LETTERS))
    fonts: list[tuple[Font, set[str]]] = [(own, _had(own, letters))]
    missing = letters - fonts[0][1]
    if missing:
        fonts += _installed(letters, missing, size, folders)
    return [_lettered(label, fonts) for label in labels]


def _lettered(label: str, fonts: Sequence[tuple[Font, set[str]]]) -> Lettering:
    font, had = max(fonts, key=lambda each: sum(letter in each[1] for letter in label))
    return Lettering(font, "".join(each if each in had else _escaped(each) for each in label))


def _escaped(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()


def _installed(
    letters: set[str], missing: set[str], size: int, folders: Iterable[Path]
) -> Iterator[tuple[Font, set[str]]]:
    """Yield fonts that have letters which the ones before lack, those with the most first."""
    found: list[tuple[Path, set[str]]] = []
    for path in islice(_files(folders), _MOST_FONTS):
        # A font of pictures has one size only, and a broken one none.
        with suppress(OSError, ValueError):
            found.append((path, _had(ImageFont.truetype(path, size), letters)))
            if found[-1][1] == letters:
                break
    for _ in range(_MOST_USED):
        useful = [(len(has & missing), len(has), path, has) for path, has in found]
        new, _, path, has = max(useful, key=lambda each: each[:2], default=(0, 0, Path(), set()))
        if not new:
            return
        missing = missing - has
        yield ImageFont.truetype(path, size), has


def _files(folders: Iterable[Path]) -> list[Path]:
    """Return the files of fonts, upright ones of a usual weight first."""
    found = [
        path for each in folders for path in each.rglob("*") if path.suffix.lower() in _SUFFIXES
    ]
    return sorted(found, key=lambda each: (_is_styled(each), each))


def _is_styled(path: Path) -> bool:
    return any(each in path.name.lower() for each in _STYLES)


def _had(font: Font, letters: Iterable[str]) -> set[str]:
    """Return those of the letters that a font has."""
    lacking = _drawn(font, _NO_LETTER)
    return {each for each in letters if each.isspace() or _drawn(font, each) != lacking}


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
