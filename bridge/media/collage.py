r"""Contact sheets and animations, of images that are small already. Runs in the worker.

A label is drawn with one font, of any script: Pillow's own, which has the letters of ASCII only,
where that is enough, else the installed one that has the most. Letters that it lacks are escaped,
such as `\u65e5`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from msgspec import Struct
from PIL import Image, ImageDraw, ImageFont

from bridge.media.picture import Picture, Refusal
from bridge.media.pipe import Collage, CollageCell
from bridge.media.profile import DEFAULT_QUALITY

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


# In pixels: around each image of a sheet, and the height of a label of two lines.
_MARGIN = 4
_FONT = 14
_LINE = 18
_LINES = 2
_PAPER, _INK, _EMPTY = "white", "black", "lightgrey"


def make(data: bytes, collage: Collage) -> Picture:
    """Make of several images, one after another in `data`, what is asked.

    Raises Refusal, and whatever Pillow raises at broken images.
    """
    if not any(cell.size for cell in collage.cells):
        raise Refusal("there is no image")
    images = _images(data, collage.cells)
    return _sheet(images, collage) if collage.columns else _animation(images, collage)


def _images(data: bytes, cells: list[CollageCell]) -> Iterator[Image.Image | None]:
    """Decode one image after another; None for a cell that has none."""
    start = 0
    for cell in cells:
        with io.BytesIO(data[start : start + cell.size]) as file:
            yield Image.open(file, formats=["WEBP"]).convert("RGB") if cell.size else None
        start += cell.size


def _sheet(images: Iterator[Image.Image | None], collage: Collage) -> Picture:
    width, height = collage.width + 2 * _MARGIN, collage.height + 2 * _MARGIN + _LINES * _LINE
    rows = -(-len(collage.cells) // collage.columns)
    sheet = Image.new("RGB", (collage.columns * width, rows * height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    labels = letterings([cell.label for cell in collage.cells], _FONT)
    for index, (label, image) in enumerate(zip(labels, images, strict=True)):
        row, column = divmod(index, collage.columns)
        left, top = column * width + _MARGIN, row * height + _MARGIN
        if image is None:
            box = (left, top, left + collage.width - 1, top + collage.height - 1)
            draw.rectangle(box, fill=_EMPTY)
        else:
            beside = (collage.width - image.width) // 2, (collage.height - image.height) // 2
            sheet.paste(image, (left + beside[0], top + beside[1]))
        for number, line in enumerate(_lines(label, collage.width)):
            place = (left, top + collage.height + number * _LINE)
            draw.text(place, line, fill=_INK, font=label.font)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=DEFAULT_QUALITY)
    return Picture(buffer.getbuffer(), *sheet.size)


def _lines(label: Lettering, width: int) -> list[str]:
    """Return as much of a text as fits, in lines that are broken anywhere."""
    lines = [""]
    for letter in label.text:
        if label.font.getlength(lines[-1] + letter) <= width:
            lines[-1] += letter
        elif len(lines) < _LINES:
            lines.append(letter.strip())
        else:
            lines[-1] = f"{lines[-1][:-2]}..."
            break
    return lines


def _animation(images: Iterator[Image.Image | None], collage: Collage) -> Picture:
    # One at a time: the encoder takes the next when it is done with the one before.
    frames = (_framed(image, collage) for image in images if image is not None)
    first = next(frames)
    buffer = io.BytesIO()
    first.save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=frames,
        duration=collage.frame_ms,
        loop=0,
        quality=DEFAULT_QUALITY,
    )
    return Picture(buffer.getbuffer(), *first.size)


def _framed(image: Image.Image, collage: Collage) -> Image.Image:
    if image.size == (collage.width, collage.height):
        return image
    frame = Image.new("RGB", (collage.width, collage.height))
    frame.paste(image, ((collage.width - image.width) // 2, (collage.height - image.height) // 2))
    return frame
