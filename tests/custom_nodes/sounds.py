"""Sound to send: WAV files, written and read without FFmpeg."""

from __future__ import annotations

import math
import random
import struct
import wave
from io import BytesIO


def noise(count: int = 2_000, channels: int = 2, seed: int = 0) -> bytes:
    """Samples of 16 bits, interleaved, the smallest and the largest among them."""
    draw = random.Random(seed)
    values = [draw.randint(-(2**15), 2**15 - 1) for _ in range(count * channels - 2)]
    return struct.pack(f"<{count * channels}h", -(2**15), 2**15 - 1, *values)


def tone(count: int, rate: int, hertz: float = 440.0) -> bytes:
    """A tone of 16 bits, one channel, at half of the full scale."""
    steps = (math.sin(2 * math.pi * hertz * index / rate) for index in range(count))
    return struct.pack(f"<{count}h", *(round(16_000 * step) for step in steps))


def wav(samples: bytes, *, rate: int = 44_100, channels: int = 2, width: int = 2) -> bytes:
    """A file with these samples of `width` bytes."""
    stream = BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples)
    return stream.getvalue()


def read_wav(data: bytes) -> tuple[int, int, int, bytes]:
    """Rate, channels, bytes a sample, and the samples."""
    # Python's own reader knows files of more than two channels from 3.12 on.
    assert data[:4] + data[8:12] == b"RIFFWAVE"
    chunks = {}
    place = 12
    while place < len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        chunks[name] = data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    _, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    return rate, channels, bits // 8, chunks[b"data"]
