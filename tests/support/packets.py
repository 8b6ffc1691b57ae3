"""MQTT packets off a stream, whatever they are."""

from __future__ import annotations

import asyncio


async def read_packet(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the next packet's fixed header and its body. Raises IncompleteReadError at the end."""
    head = await reader.readexactly(1)
    length = shift = 0
    while True:
        byte = await reader.readexactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return head, await reader.readexactly(length)
