"""The SHA-256 of bytes, without holding the event loop."""

from __future__ import annotations

import asyncio
import hashlib

# A quarter of a millisecond's work: below it, a thread's hand-over costs more than it saves.
_IN_PLACE = 256 * 1024


async def sha256_of(data: bytes | memoryview) -> str:
    """Return the hexadecimal SHA-256 of `data`; large ones are hashed in a thread."""
    if len(data) <= _IN_PLACE:
        return hashlib.sha256(data).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
