"""Contact sheets and animations, of images that are small already. Runs in the worker."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image, ImageDraw

from bridge.media.lettering import Lettering, letterings
from bridge.media.picture import Picture, Refusal
from bridge.media.pipe import Cell, Collage
from bridge.media.profile import DEFAULT_QUALITY

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


def _images(data: bytes, cells: list[Cell]) -> Iterator[Image.Image | None]:
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
