"""Input values as the wire wants them: bytes and files become media objects."""

from __future__ import annotations

import asyncio
import base64
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Media(msgspec.Struct, frozen=True):
    """Bytes for a media input, where their type is to be told rather than found out."""

    data: bytes
    content_type: str | None = None


async def for_wire(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs with bytes, paths and `Media` as `{"base64", "content_type"}`.

    All other values go as they are. A file is read in a thread. Raises OSError.
    """
    return {name: await _value(value) for name, value in inputs.items()}


async def _value(value: Any) -> Any:
    match value:
        case Path():
            content_type, _ = mimetypes.guess_type(value.name)
            return await _media(await asyncio.to_thread(value.read_bytes), content_type)
        case Media(data=data, content_type=content_type):
            return await _media(data, content_type)
        case bytes() | bytearray() | memoryview():
            return await _media(bytes(value), None)
    return value


async def _media(data: bytes, content_type: str | None) -> dict[str, str]:
    encoded = await asyncio.to_thread(base64.b64encode, data)
    media = {"base64": encoded.decode("ascii")}
    if content_type is not None:
        media["content_type"] = content_type
    return media
