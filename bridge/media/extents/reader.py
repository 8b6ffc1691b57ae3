"""Random access to bytes, wherever they are, with a bound on the steps that a parser takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

# Elements of a container that are looked at. Each takes some microseconds.
MAX_STEPS = 100_000
_BLOCK = 64 * 1024
# What C code does with a megabyte takes as long as so many steps.
_STEPS_A_BLOCK = 1_000


class EndOfBytes(Exception):
    """The bytes end before what is looked for."""


class TooManyParts(Exception):
    """The file consists of more parts than are looked at."""


class Reader:
    """Reads `size` bytes by `read(offset, count)`, in blocks; `of` reads bytes in memory."""

    def __init__(
        self,
        size: int,
        read: Callable[[int, int], bytes],
        max_steps: int = MAX_STEPS,
    ) -> None:
        self.size = size
        self._read = read
        self._steps = max_steps
        self._block = b""
        self._block_at = 0

    @classmethod
    def of(cls, data: bytes | memoryview, max_steps: int = MAX_STEPS) -> Reader:
        """Return one of bytes in memory."""
        view = memoryview(data)
        return cls(len(view), lambda at, count: bytes(view[at : at + count]), max_steps)

    def step(self, count: int = 1) -> None:
        """Count a step, or several. Raises TooManyParts."""
        self._steps -= count
        if self._steps < 0:
            raise TooManyParts

    def at(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes. Raises Short."""
        if offset < 0 or offset + count > self.size:
            raise EndOfBytes
        start = offset - self._block_at
        if start < 0 or start + count > len(self._block):
            self._block_at, start = offset, 0
            self._block = self._read(offset, max(count, _BLOCK))
        found = self._block[start : start + count]
        if len(found) < count:
            raise EndOfBytes
        return found

    def big(self, offset: int, count: int) -> int:
        """Return an unsigned number, the highest byte first. Raises Short."""
        return int.from_bytes(self.at(offset, count), "big")

    def little(self, offset: int, count: int) -> int:
        """Return an unsigned number, the lowest byte first. Raises Short."""
        return int.from_bytes(self.at(offset, count), "little")

    def blocks(self) -> Iterator[bytes]:
        """Yield all bytes, in blocks of up to a megabyte."""
        size = 1 << 20
        for at in range(0, self.size, size):
            self.step(_STEPS_A_BLOCK)
            yield self.at(at, min(size, self.size - at))


class Extent(Struct):
    """The size of media once they are unpacked.

    `width` and `height` are pixels of the largest picture, `frames` counts pictures, `seconds` is
    the length of a film or sound, `samples` counts those of all channels. 0 is unknown or none.
    """

    width: int = 0
    height: int = 0
    frames: int = 0
    seconds: float = 0.0
    samples: int = 0

    @property
    def pixels(self) -> int:
        """The pixels of one picture."""
        return self.width * self.height

    @property
    def unpacked(self) -> int:
        """The bytes as ComfyUI holds them: three floats a pixel, one a sample."""
        return 12 * self.pixels * self.frames + 4 * self.samples

    def picture(self, width: int, height: int) -> None:
        """Take in a picture's size: the largest counts."""
        if width * height > self.pixels:
            self.width, self.height = width, height
