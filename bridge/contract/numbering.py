"""Messages that are encoded before their number `n` is known."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from bridge.contract.messages import JobStatus, Result, encode

# The highest number that JavaScript can distinguish from the next one.
MAX_N = 2**53 - 1


class Numbered(Struct, frozen=True):
    """An encoded message with a hole where its number `n` goes."""

    head: bytes
    tail: bytes

    def with_n(self, n: int) -> bytes:
        """Return the message's JSON bytes, with its number."""
        return b"%b%d%b" % (self.head, n, self.tail)


def numbered(message: JobStatus | Result) -> Numbered:
    """Encode a message before its number is known; `n` of the message does not matter.

    The encodings with the numbers 0 and 1 are of the same length and differ in one byte, the
    number. So the hole is found whatever else the message has, above all in `meta` and `inputs`.
    """
    zero, one = encode(replace(message, n=0)), encode(replace(message, n=1))
    hole = next(
        place for place, pair in enumerate(zip(zero, one, strict=True)) if pair[0] != pair[1]
    )
    return Numbered(zero[:hole], zero[hole + 1 :])
