"""Sounds: their samples and seconds, in WAV, FLAC, Ogg and MP3. Pure.

Where a header names no length that a decoder would keep to, what is there is counted, and the
most that it may unpack to is taken.
"""

from __future__ import annotations

import re
from collections import Counter

from bridge.media.extents.reader import Extent, Reader

_FLAC_FRAME = re.compile(rb"\xff[\xf8\xf9]")
_OGG_FIRST, _OGG_MORE = 0x02, 255
_VORBIS, _OPUS, _FLAC = b"\x01vorbis", b"OpusHead", b"\x7fFLAC"
_OPUS_HEADERS = 2
_OPUS_RATE = 48_000
_OPUS_MS: tuple[tuple[float, ...], ...] = (
    *((10.0, 20.0, 40.0, 60.0),) * 3,
    *((10.0, 20.0, 10.0, 20.0),) * 1,
    *((2.5, 5.0, 10.0, 20.0),) * 4,
)
_OPUS_COUNTED = 3
_NO_TIME = 0xFFFFFFFFFFFFFFFF
_LARGEST_FLAC_BLOCK = 65_535
_ID3_HEAD = 10
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MONO = 3
_LONG_FRAME, _SHORT_FRAME = 1152, 576


def wav(file: Reader, extent: Extent) -> None:
    """Count the samples that all bytes of the file would be."""
    at = 12
    while True:
        file.step()
        name, size = file.at(at, 4), file.little(at + 4, 4)
        if name == b"fmt ":
            channels, rate = file.little(at + 10, 2), file.little(at + 12, 4)
            bits = file.little(at + 22, 2) or 4
            extent.samples = file.size * 8 // bits
            extent.seconds = extent.samples / max(1, channels * rate)
            return
        at += 8 + size + size % 2


def flac(file: Reader, extent: Extent) -> None:
    """Count the largest block for each place that may begin a frame: silence has 14 bytes each."""
    most = file.big(10, 2) or _LARGEST_FLAC_BLOCK
    packed = file.big(18, 8)
    rate, channels = packed >> 44, (packed >> 41 & 7) + 1
    frames = sum(len(_FLAC_FRAME.findall(block)) for block in file.blocks())
    total = max(frames * most, packed & (1 << 36) - 1)
    _sound(extent, total, channels, rate)


def ogg(file: Reader, extent: Extent) -> None:
    """Add all streams, by their pages; each packet of Opus says how long it lasts."""
    streams: dict[int, tuple[bytes, int, int]] = {}
    lasts: dict[int, float] = {}
    packets: Counter[int] = Counter()
    at = 0
    try:
        while at < file.size:
            file.step()
            if file.at(at, 4) != b"OggS":
                return
            flags, granule = file.big(at + 5, 1), file.little(at + 6, 8)
            serial, count = file.little(at + 14, 4), file.big(at + 26, 1)
            sizes, body = file.at(at + 27, count), at + 27 + count
            if flags & _OGG_FIRST:
                streams[serial] = _ogg_stream(file, body)
            codec, _, rate = streams.get(serial, (b"", 0, 0))
            if granule != _NO_TIME and rate and codec != _OPUS:
                lasts[serial] = max(lasts.get(serial, 0.0), granule / rate)
            position, whole = body, True
            for size in sizes:
                if whole and codec == _OPUS:
                    packets[serial] += 1
                    if packets[serial] > _OPUS_HEADERS:
                        head = file.at(position, min(2, size))
                        lasts[serial] = lasts.get(serial, 0.0) + opus_seconds(head)
                whole = size < _OGG_MORE
                position += size
            at = position
    finally:
        for serial, (_, channels, rate) in streams.items():
            _sound(extent, round(lasts.get(serial, 0.0) * rate), channels, rate)


def _ogg_stream(file: Reader, at: int) -> tuple[bytes, int, int]:
    """Return a stream's codec, channels and rate by its first packet."""
    if file.at(at, 7) == _VORBIS:
        return _VORBIS, file.big(at + 11, 1), file.little(at + 12, 4)
    if file.at(at, 8) == _OPUS:
        return _OPUS, file.big(at + 9, 1), _OPUS_RATE
    if file.at(at, 5) == _FLAC:
        packed = file.big(at + 27, 8)
        return _FLAC, (packed >> 41 & 7) + 1, packed >> 44
    return b"", 0, 0


def opus_seconds(head: bytes) -> float:
    """Return how long an Opus packet with these first two bytes lasts (RFC 6716, 3.1).

    0 for what is no packet.
    """
    if not head:
        return 0.0
    configuration, code = head[0] >> 3, head[0] & 3
    counted = head[1] & 63 if len(head) > 1 else 0
    frames = counted if code == _OPUS_COUNTED else (1, 2, 2)[code]
    return frames * _OPUS_MS[configuration >> 2][configuration & 3] / 1000


def mp3(file: Reader, extent: Extent) -> None:
    """Count an MP3's frames: the places that may begin one of the first one's kind."""
    at = 0
    if file.at(0, 3) == b"ID3":
        size = 0
        for byte in file.at(6, 4):
            size = size << 7 | byte & 0x7F
        at = _ID3_HEAD + size
    head = file.at(at, 4)
    version = head[1] >> 3 & 3
    rates = _MP3_RATES.get(version)
    if head[0] != 0xFF or rates is None or head[2] >> 2 & 3 == len(rates):  # noqa: PLR2004
        return
    second = bytes((head[1] & 0xFE, head[1] | 1))
    frame = re.compile(b"\xff[" + re.escape(second) + b"][\x10-\xef]")
    count = sum(len(frame.findall(block)) for block in file.blocks())
    channels = 1 if head[3] >> 6 == _MONO else 2
    samples = _LONG_FRAME if version == 3 else _SHORT_FRAME  # noqa: PLR2004 - MPEG 1
    _sound(extent, count * samples, channels, rates[head[2] >> 2 & 3])


def _sound(extent: Extent, samples: int, channels: int, rate: int) -> None:
    """Add a track of so many samples in each channel."""
    extent.samples += samples * channels
    extent.seconds = max(extent.seconds, samples / rate if rate else 0.0)
