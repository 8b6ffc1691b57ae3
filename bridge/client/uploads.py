"""Uploads in parts: they continue where they stopped, after a lost connection or in another run."""

from __future__ import annotations

import asyncio
from typing import Final

from bridge.aio import sha256_of
from bridge.client.inputs import Media
from bridge.client.session import Session
from bridge.contract.errors import Conflict, InvalidInput, QuotaExceeded, TooLarge
from bridge.contract.messages import BeginUpload, UploadReport, or_unset
from bridge.contract.topics import FIN, UPLOAD

# AWS IoT takes no more, and announces more.
PART_BYTES: Final = 128 * 1024
_ATTEMPTS: Final = 3


async def upload(session: Session, media: Media, name: str | None = None) -> UploadReport:
    """Upload some bytes under a name, by default their SHA-256; once they are there, no more.

    Raises TooLarge, QuotaExceeded, and Conflict or InvalidInput where another upload is in the way.
    """
    sha256 = await sha256_of(media.data)
    name = name or sha256
    content_type = or_unset(media.content_type)
    begin = BeginUpload(size=len(media.data), sha256=sha256, content_type=content_type)
    for attempt in range(_ATTEMPTS):
        report = await session.ask(UPLOAD, begin, UploadReport, name)
        try:
            if not report.complete:
                await _parts(session, media.data, name, report.held)
                report = await _retry_when_busy(session, b"", name, FIN)
        except (Conflict, InvalidInput):
            # Somebody else uploads the same, or has just ended: the next beginning shows which.
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return report
    raise AssertionError("the last attempt raises or returns")


async def _parts(session: Session, data: bytes, name: str, held: int) -> None:
    while held < len(data):
        room = session.room(UPLOAD, name, str(held))
        size = PART_BYTES if room is None else max(1, min(PART_BYTES, room))
        part = data[held : held + size]
        try:
            report = await _retry_when_busy(session, part, name, str(held))
        except TooLarge:
            # A broker that announced more than it takes: what it takes is known by now.
            room = session.room(UPLOAD, name, str(held))
            if room is None or room >= len(part):
                raise
        else:
            held = report.held


async def _retry_when_busy(session: Session, payload: bytes, *names: str) -> UploadReport:
    """Send; where this client is faster than it may be, retry when the bridge says."""
    while True:
        try:
            return await session.ask_bytes(UPLOAD, payload, UploadReport, *names)
        except QuotaExceeded as error:
            pause = error.details.get("retry_after_s")
            if not isinstance(pause, int | float):
                raise
            await asyncio.sleep(pause)
