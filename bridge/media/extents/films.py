"""Films, and sound in their containers: MP4 and QuickTime, WebM and Matroska, AVI. Pure.

Frames are counted where they lie, not taken from a field that says how many there are, as decoders
decode what is there.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from bridge.media.extents.reader import Extent, Reader
from bridge.media.extents.sounds import opus_seconds

# Boxes of an ISO file that hold boxes.
_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex"))
_LARGE, _TO_THE_END = 1, 0
_AAC_SAMPLES = 1024
# No time or rate is smaller, or larger.
_LEAST, _MOST = 1e-9, 1e12


class _Track(Struct):
    """A track of a film."""

    film: bool = False
    sound: bool = False
    codec: bytes = b""
    width: int = 0
    height: int = 0
    channels: int = 0
    rate: float = 0.0
    frames: int = 0
    packets: int = 0
    seconds: float = 0.0

    def add_to(self, extent: Extent, seconds: float = 0.0) -> None:
        """Add this track to what the file unpacks to; `seconds` is what the file says."""
        lasts = max(self.seconds, seconds)
        if self.film:
            extent.picture(self.width, self.height)
            extent.frames += self.frames
        if self.sound:
            if self.codec == b"mp4a" and self.rate:
                lasts = max(lasts, self.packets * _AAC_SAMPLES / self.rate)
            extent.samples += round(lasts * self.rate) * self.channels
        if self.film or self.sound:
            extent.seconds = max(extent.seconds, lasts)


# ISO base media: MP4, QuickTime, M4A, and pictures that move in AVIF.


def iso(file: Reader, extent: Extent) -> None:
    """Read the boxes of `moov`, and of each `moof` of a file in fragments."""
    tracks: list[_Track] = []
    by_id: dict[int, _Track] = {}
    fragment = _Track()
    lasts = 0.0
    at = 0
    try:
        while at < file.size:
            file.step()
            size, kind, head = file.big(at, 4), file.at(at + 4, 4), 8
            if size == _LARGE:
                size, head = file.big(at + 8, 8), 16
            elif size == _TO_THE_END:
                size = file.size - at
            body = at + head
            if kind == b"trak":
                tracks.append(_Track())
            elif kind == b"mvhd":
                lasts = _duration(file, body)
            elif kind == b"tfhd":
                fragment = by_id.get(file.big(body + 4, 4), _Track())
            elif kind == b"trun":
                count = file.big(body + 4, 4)
                fragment.frames += count
                fragment.packets += count
            elif tracks:
                _of_track(file, kind, body, tracks[-1], by_id)
            at = body if kind in _PARENTS else at + max(size, head)
    finally:
        for track in tracks:
            track.add_to(extent, lasts)


def _of_track(
    file: Reader, kind: bytes, body: int, track: _Track, by_id: dict[int, _Track]
) -> None:
    if kind == b"tkhd":
        long = file.big(body, 1) == 1
        by_id[file.big(body + (20 if long else 12), 4)] = track
        size = body + (88 if long else 76)
        track.width = max(track.width, file.big(size, 4) >> 16)
        track.height = max(track.height, file.big(size + 4, 4) >> 16)
    elif kind == b"mdhd":
        track.seconds = _duration(file, body)
    elif kind == b"hdlr":
        # QuickTime has a second one, of the data.
        track.film |= file.at(body + 8, 4) in (b"vide", b"pict")
        track.sound |= file.at(body + 8, 4) == b"soun"
    elif kind == b"stsd":
        entry = body + 8
        track.codec = file.at(entry + 4, 4)
        if track.film:
            track.width = max(track.width, file.big(entry + 32, 2))
            track.height = max(track.height, file.big(entry + 34, 2))
        elif track.sound:
            track.channels = file.big(entry + 24, 2)
            track.rate = file.big(entry + 32, 4) / 65536
    elif kind in (b"stsz", b"stz2"):
        track.frames += file.big(body + 8, 4)
        track.packets += file.big(body + 8, 4)


def _duration(file: Reader, body: int) -> float:
    """Return the seconds of an `mvhd` or `mdhd`; 0 if it does not say."""
    long = file.big(body, 1) == 1
    scale = file.big(body + (20 if long else 12), 4)
    length = file.big(body + (24 if long else 16), 8 if long else 4)
    unknown = length in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
    return 0.0 if unknown or not scale else length / scale


# Matroska and WebM.

_SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
_INFO, _TRACKS, _TRACK, _VIDEO, _AUDIO = 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0xE1
_MASTERS = frozenset((_SEGMENT, _CLUSTER, _BLOCK_GROUP, _INFO, _TRACKS, _TRACK, _VIDEO, _AUDIO))
_SCALE, _DURATION, _TIME = 0x2AD7B1, 0x4489, 0xE7
_NUMBER, _TYPE, _CODEC = 0xD7, 0x83, 0x86
_WIDTH, _HEIGHT = 0xB0, 0xBA
_RATE, _OUTPUT_RATE, _CHANNELS = 0xB5, 0x78B5, 0x9F
_SIMPLE_BLOCK, _BLOCK = 0xA3, 0xA1
_IS_VIDEO, _IS_AUDIO = 1, 2
_LACING = 0x06
_DEFAULT_SCALE_NS = 1_000_000
_CODEC_NAME = 32
_LONGEST_NUMBER = 8


def matroska(file: Reader, extent: Extent) -> None:
    """Walk over all elements: what holds elements is entered, whatever its own size says."""
    scale, duration, cluster, last = _DEFAULT_SCALE_NS, 0.0, 0, 0
    tracks: dict[int, _Track] = {}
    track = _Track()
    at = 0
    try:
        while at < file.size:
            file.step()
            name, at = _name(file, at)
            size, at = _length(file, at)
            if name in _MASTERS:
                if name == _TRACK:
                    track = _Track()
                continue
            if name == _SCALE:
                scale = _number(file, at, size)
            elif name == _DURATION:
                duration = _float(file, at, size)
            elif name == _TIME:
                cluster = _number(file, at, size)
            elif name == _NUMBER:
                tracks[_number(file, at, size)] = track
            elif name in (_SIMPLE_BLOCK, _BLOCK):
                last = max(last, cluster + _block(file, at, size, tracks))
            else:
                _of_entry(file, name, at, size, track)
            at += size
    finally:
        lasts = max(duration, last) * scale / 1e9
        for each in tracks.values():
            each.add_to(extent, lasts)


def _of_entry(file: Reader, name: int, at: int, size: int, track: _Track) -> None:
    if name == _TYPE:
        kind = _number(file, at, size)
        track.film, track.sound = kind == _IS_VIDEO, kind == _IS_AUDIO
        # The format's own values where a track does not say.
        track.rate, track.channels = track.rate or 8000.0, track.channels or 1
    elif name == _CODEC:
        track.codec = file.at(at, min(size, _CODEC_NAME))
    elif name == _WIDTH:
        track.width = _number(file, at, size)
    elif name == _HEIGHT:
        track.height = _number(file, at, size)
    elif name in (_RATE, _OUTPUT_RATE):
        track.rate = max(track.rate, _float(file, at, size))
    elif name == _CHANNELS:
        track.channels = _number(file, at, size)


def _block(file: Reader, at: int, size: int, tracks: dict[int, _Track]) -> int:
    """Count a block's frames for its track; return its time within the cluster."""
    number, body = _length(file, at)
    time, flags = file.big(body, 2), file.big(body + 2, 1)
    track = tracks.get(number)
    if track is not None:
        count = 1 + file.big(body + 3, 1) if flags & _LACING else 1
        track.frames += count
        track.packets += count
        if track.codec == b"A_OPUS":
            head = file.at(body + 3, min(2, at + size - body - 3))
            track.seconds += count * opus_seconds(head)
    return time if time < 1 << 15 else 0


def _name(file: Reader, at: int) -> tuple[int, int]:
    """Return an element's id, with its marker, and where its size stands."""
    first = file.big(at, 1)
    count = 9 - first.bit_length()
    return file.big(at, count), at + count


def _length(file: Reader, at: int) -> tuple[int, int]:
    """Return a number of variable length, 0 for one that is unknown, and where it ends."""
    first = file.big(at, 1)
    count = 9 - first.bit_length()
    value = file.big(at, count) & ((1 << 7 * count) - 1)
    return 0 if value == (1 << 7 * count) - 1 else value, at + count


def _number(file: Reader, at: int, size: int) -> int:
    """Return a number of up to eight bytes; 0 for what is longer, which is none."""
    return file.big(at, size) if size <= _LONGEST_NUMBER else 0


def _float(file: Reader, at: int, size: int) -> float:
    """Return a float of 4 or 8 bytes; 0 for what is no length of time or rate."""
    layout = {4: ">f", 8: ">d"}.get(size)
    value = 0.0 if layout is None else struct.unpack(layout, file.at(at, size))[0]
    return float(value) if _LEAST < value < _MOST else 0.0


# AVI.


def avi(file: Reader, extent: Extent) -> None:
    """Count the chunks of pictures; their size is in the stream's own header."""
    film = _Track(film=True)
    sound = _Track(sound=True)
    kind = b""
    micros = 0
    at = 12
    try:
        while at < file.size:
            file.step()
            name, size = file.at(at, 4), file.little(at + 4, 4)
            body = at + 8
            if name in (b"LIST", b"RIFF"):
                at = body + 4
                continue
            if name == b"avih":
                micros = file.little(body, 4)
                film.width, film.height = file.little(body + 32, 4), file.little(body + 36, 4)
            elif name == b"strh":
                kind = file.at(body, 4)
            elif name == b"strf" and kind == b"vids":
                film.width = max(film.width, abs(_signed(file, body + 4)))
                film.height = max(film.height, abs(_signed(file, body + 8)))
            elif name == b"strf" and kind == b"auds":
                sound.channels = file.little(body + 2, 2)
                sound.rate = file.little(body + 4, 4)
            elif name[2:] in (b"dc", b"db"):
                film.frames += 1
            at = body + size + size % 2
    finally:
        lasts = film.frames * micros / 1e6
        film.add_to(extent, lasts)
        sound.add_to(extent, lasts)


def _signed(file: Reader, at: int) -> int:
    return int.from_bytes(file.at(at, 4), "little", signed=True)
