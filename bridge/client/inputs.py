"""Input values as the wire wants them: bytes, files and pictures become media objects.

Large ones are uploaded in parts, and continue where they stopped, after a lost connection or in
another run.
"""

from __future__ import annotations

import asyncio
import base64
import io
import mimetypes
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard, runtime_checkable

import msgspec

from bridge.aio import sha256_of
from bridge.client.session import Session
from bridge.contract.errors import Conflict, InvalidInput, QuotaExceeded, TooLarge
from bridge.contract.messages import Axis, BeginUpload, UploadReport, or_unset
from bridge.contract.sinks import Put
from bridge.contract.topics import FIN, UPLOAD

if TYPE_CHECKING:
    from PIL import Image

# What is larger is uploaded, in parts: base64 in a request would have to fit one packet.
INLINE_BYTES: Final = 256 * 1024
# Of a request's room, so that several inputs fit, and a broker may announce more than it takes.
_INLINE_SHARE: Final = 8


class Media(msgspec.Struct, frozen=True):
    """Bytes for a media input, with their type given rather than found out."""

    data: bytes
    content_type: str | None = None


@runtime_checkable
class Readable(Protocol):
    """An open file, or anything else that gives bytes."""

    def read(self) -> bytes:
        """Return all bytes."""


# Uploads some bytes, and returns the input value that names them.
Upload: TypeAlias = Callable[[Media], Awaitable[dict[str, str]]]


def puts_of(given: Sequence[Put | str]) -> list[Put]:
    """Return where outputs are to be delivered; a URL alone is one."""
    return [Put(url=each) if isinstance(each, str) else each for each in given]


def inline_bytes(room: int | None) -> int:
    """Return up to how many bytes an input goes in a request of at most `room` bytes."""
    return INLINE_BYTES if room is None else min(INLINE_BYTES, room // _INLINE_SHARE)


async def for_wire(inputs: Mapping[str, Any], upload: Upload, inline: int) -> dict[str, Any]:
    """Return the inputs with all that stands for media as objects that name its bytes.

    Media are bytes, a `Path`, `Media`, an open file, an image of Pillow's, and lists of these; all
    other values go as they are. Those above `inline` bytes are uploaded. Raises OSError, and what
    `upload` does.
    """
    return {name: await _value(value, upload, inline) for name, value in inputs.items()}


async def each_for_wire(
    each: Sequence[Mapping[str, Any]], upload: Upload, inline: int
) -> list[dict[str, Any]]:
    """Return the inputs of each job of a set as `for_wire` does."""
    return [await for_wire(inputs, upload, inline) for inputs in each]


async def grid_for_wire(
    grid: Mapping[str, Any], upload: Upload, inline: int
) -> dict[str, list[Any] | Axis]:
    """Return the values of a grid as `for_wire` does, but for those that are no list."""
    found: dict[str, list[Any] | Axis] = {}
    for name, values in grid.items():
        if isinstance(values, Mapping):
            found[name] = msgspec.convert(dict(values), Axis)
        else:
            found[name] = [await _value(value, upload, inline) for value in values]
    return found


async def _value(value: Any, upload: Upload, inline: int) -> Any:
    if isinstance(value, list):
        return [await _value(each, upload, inline) for each in value]
    media = await media_of(value)
    if media is None:
        return value
    if len(media.data) > inline:
        return await upload(media)
    return await _inline(media)


async def media_of(value: Any) -> Media | None:
    """Return the media that a value stands for, None for one that stands for itself.

    Files are read, and pictures encoded, in a thread. Raises OSError.
    """
    match value:
        case Media():
            return value
        case bytes() | bytearray() | memoryview():
            return Media(bytes(value))
        case Path():
            content_type, _ = mimetypes.guess_type(value.name)
            return Media(await asyncio.to_thread(value.read_bytes), content_type)
    if _is_picture(value):
        return Media(await asyncio.to_thread(_encoded, value), "image/png")
    if isinstance(value, Readable):
        return Media(await asyncio.to_thread(value.read))
    return None


def _is_picture(value: Any) -> TypeGuard[Image.Image]:
    """True if a value is an image of Pillow's: nobody has one who has not imported it."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _encoded(picture: Image.Image) -> bytes:
    """Return an image as a PNG; blocks."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


async def _inline(media: Media) -> dict[str, str]:
    encoded = await asyncio.to_thread(base64.b64encode, media.data)
    found = {"base64": encoded.decode("ascii")}
    if media.content_type is not None:
        found["content_type"] = media.content_type
    return found


# AWS IoT takes no more, and announces more.
PART_BYTES: Final = 128 * 1024
_ATTEMPTS: Final = 3


async def upload(session: Session, media: Media, name: str | None = None) -> UploadReport:
    """Upload some bytes under a name, by default their SHA-256; once they are there, no more.

    Raises TooLarge, QuotaExceeded, and Conflict or InvalidInput where another upload is in the way.
    """
    sha256 = await sha256_of(media.data)
    name = name or sha256
    content_type = or_unset(media.content_type)
    begin = BeginUpload(size=len(media.data), sha256=sha256, content_type=content_type)
    for attempt in range(_ATTEMPTS):
        report = await session.ask(UPLOAD, begin, UploadReport, name)
        try:
            if not report.complete:
                await _parts(session, media.data, name, report.held)
                report = await _retry_when_busy(session, b"", name, FIN)
        except (Conflict, InvalidInput):
            # Somebody else uploads the same, or has just ended: the next beginning shows which.
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return report
    raise AssertionError("the last attempt raises or returns")


async def _parts(session: Session, data: bytes, name: str, held: int) -> None:
    while held < len(data):
        room = session.room(UPLOAD, name, str(held))
        size = PART_BYTES if room is None else max(1, min(PART_BYTES, room))
        part = data[held : held + size]
        try:
            report = await _retry_when_busy(session, part, name, str(held))
        except TooLarge:
            # A broker that announced more than it takes: what it takes is known by now.
            room = session.room(UPLOAD, name, str(held))
            if room is None or room >= len(part):
                raise
        else:
            held = report.held


async def _retry_when_busy(session: Session, payload: bytes, *names: str) -> UploadReport:
    """Send; where this client is faster than it may be, retry when the bridge says."""
    while True:
        try:
            return await session.ask_bytes(UPLOAD, payload, UploadReport, *names)
        except QuotaExceeded as error:
            pause = error.details.get("retry_after_s")
            if not isinstance(pause, int | float):
                raise
            await asyncio.sleep(pause)
