"""Sound and film files, read and written by FFmpeg's libraries (PyAV, which ComfyUI brings)."""

from __future__ import annotations

from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

import av

from ..errors import MediaUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer, OutputContainer

# What recorders, cameras and browsers write. Others stay shut: playlists and lists of files, for
# one, would have FFmpeg open whatever path or address a client writes into them.
FORMATS = (
    ("MP4", "mov"),
    ("WebM", "matroska"),
    ("AVI", "avi"),
    ("MPEG", "mpegts"),
    ("MPEG", "mpeg"),
    ("FLAC", "flac"),
    ("MP3", "mp3"),
    ("Ogg", "ogg"),
    ("WAV", "wav"),
    ("AAC", "aac"),
    ("AIFF", "aiff"),
)
_READ_OPTIONS = {
    "format_whitelist": ",".join(demuxer for _, demuxer in FORMATS),
    # No file but these bytes is read, whatever they ask for.
    "protocol_whitelist": "",
}
# No version of a library, no date, no random number: equal sound or film is equal bytes.
_WRITE_OPTIONS = {"fflags": "+bitexact"}


@contextmanager
def reading(data: bytes, kind: str) -> Iterator[InputContainer]:
    """The container in `data`, which should hold `kind` (audio, video).

    What fails inside the block for the sake of the bytes raises MediaUnreadable as well.
    """
    opened = False
    try:
        with av.open(BytesIO(data), "r", options=_READ_OPTIONS) as container:
            opened = True
            yield container
    except av.FFmpegError as error:
        names = ", ".join(dict.fromkeys(name for name, _ in FORMATS))
        reason = f"it is broken ({error.strerror})" if opened else f"it is none of {names}"
        raise MediaUnreadable(kind, reason) from error


@contextmanager
def writing(stream: BytesIO, muxer: str) -> Iterator[OutputContainer]:
    """A container of the format `muxer`, whose bytes are in `stream` after the block."""
    with av.open(stream, "w", format=muxer, options=_WRITE_OPTIONS) as container:
        yield container
