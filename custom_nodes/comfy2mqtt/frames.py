"""The binary frame in which an output travels on ComfyUI's own socket.

Big-endian, after the event type that ComfyUI itself writes:

    u32 length of the header | header, JSON in UTF-8 | the encoded bytes
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .held import OutputHeader

# "C2MQ". ComfyUI counts its own event types up from 1, so the two cannot meet.
EVENT_TYPE = 0x43324D51

_LENGTH = struct.Struct(">I")


def pack_frame(header: OutputHeader, data: bytes) -> bytes:
    """The frame's payload: one allocation, one copy of `data`.

    ComfyUI's server sends `bytes` as they are and everything else as JSON: no memoryview here.
    """
    text = json.dumps(header.as_dict(), separators=(",", ":"), ensure_ascii=False).encode()
    return b"".join((_LENGTH.pack(len(text)), text, data))
