"""Opus: how long a packet lasts, by its first two bytes (RFC 6716, 3.1). Pure."""

from __future__ import annotations

RATE = 48_000
_MS: tuple[tuple[float, ...], ...] = (
    *((10.0, 20.0, 40.0, 60.0),) * 3,
    *((10.0, 20.0, 10.0, 20.0),) * 1,
    *((2.5, 5.0, 10.0, 20.0),) * 4,
)
_COUNTED = 3


def seconds(head: bytes) -> float:
    """Return how long a packet with these first bytes lasts; 0 for one that is no packet."""
    if not head:
        return 0.0
    configuration, code = head[0] >> 3, head[0] & 3
    frames = (1, 2, 2)[code] if code != _COUNTED else (head[1] & 63 if len(head) > 1 else 0)
    return frames * _MS[configuration >> 2][configuration & 3] / 1000
