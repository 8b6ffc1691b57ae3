"""The last picture of each display, for who asks for it by HTTP."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from msgspec import Struct

from bridge.adapters.web import answers, web
from bridge.adapters.web.answers import Answer, Headers

# Of all pictures together so much is remembered; that of the display longest unchanged goes first.
MAX_BYTES: Final = 64 * 1024 * 1024
_MAGIC: Final = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"BM", "image/bmp"))


class _Picture(Struct, frozen=True):
    data: bytes
    content_type: str
    tag: str
    came_at: int


class Displays:
    """Pictures as they are retained."""

    def __init__(self) -> None:
        self._pictures: dict[str, _Picture] = {}

    def show(self, name: str, data: bytes, content_type: str | None) -> None:
        """Take a picture; empty: the display has none any more."""
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        before = self._pictures.get(name)
        if before is not None and before.tag == tag:
            return  # retained, and come again
        self._pictures.pop(name, None)
        if data:
            found = content_type or _sniffed(data)
            self._pictures[name] = _Picture(data, found, tag, int(time.time()))
        while sum(len(each.data) for each in self._pictures.values()) > MAX_BYTES:
            del self._pictures[next(iter(self._pictures))]

    def get(self, name: str, if_none_match: str | None, if_modified_since: str | None) -> Answer:
        """Answer a request for a display's picture."""
        found = self._pictures.get(name)
        if found is None:
            return answers.said(HTTPStatus.NOT_FOUND, "nothing was shown there")
        headers: Headers = (
            ("ETag", found.tag),
            ("Last-Modified", formatdate(found.came_at, usegmt=True)),
            ("Cache-Control", "private, no-cache"),
        )
        fresh = web.has(found.tag, if_none_match)
        if if_none_match is None:
            fresh = _not_before(if_modified_since, found.came_at)
        if fresh:
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        return answers.whole(HTTPStatus.OK, found.data, found.content_type, headers)


def _not_before(header: str | None, came_at: int) -> bool:
    try:
        return header is not None and parsedate_to_datetime(header).timestamp() >= came_at
    except (ValueError, OverflowError):
        return False


def _sniffed(data: bytes) -> str:
    found = (media for magic, media in _MAGIC if data.startswith(magic))
    return next(found, "application/octet-stream")
