"""HTTP responses: text, whole bytes, bytes in pieces, and the headers of all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web
from msgspec import Struct

from bridge.adapters.web.http_headers import accepts_gzip, etag_matches

# For everything that is no page of ours: whatever it is, it runs nothing.
INERT: Final = "default-src 'none'; sandbox"
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Content(Struct, frozen=True):
    """Whole bytes; `tag` is a quoted entity tag, `modified_at` in seconds since the epoch.

    `gzipped` are the same bytes compressed, None if that saves nothing.
    """

    data: bytes
    content_type: str
    tag: str
    modified_at: int | None = None
    gzipped: bytes | None = None


class Streamed(web.StreamResponse):
    """A response of `length` bytes that come in pieces; whoever sends it closes `pieces`."""

    def __init__(
        self,
        status: HTTPStatus,
        headers: Mapping[str, str],
        length: int,
        pieces: AsyncGenerator[bytes, None],
    ) -> None:
        super().__init__(status=status, headers=headers)
        self.content_length = length
        self.pieces = pieces


def text(
    status: HTTPStatus, message: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a line of text that is not stored; without a message, the status in words."""
    return web.Response(
        status=status,
        text=f"{message or status.phrase}\n",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def conditional(
    request: web.BaseRequest, content: Content, headers: Mapping[str, str]
) -> web.Response:
    """Return content, or 304 if the client has it (If-None-Match, else If-Modified-Since)."""
    body, tag, given = content.data, content.tag, dict(headers)
    if content.gzipped is not None:
        given["Vary"] = "Accept-Encoding"
        if accepts_gzip(request.headers.get("Accept-Encoding")):
            # Other bytes, so another entity tag.
            body, tag = content.gzipped, f'{content.tag[:-1]}-gzip"'
            given["Content-Encoding"] = "gzip"
    given["ETag"] = tag
    if content.modified_at is not None:
        given["Last-Modified"] = formatdate(content.modified_at, usegmt=True)
    if _client_has(request, content, tag):
        given.pop("Content-Encoding", None)
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=given)
    given["Content-Type"] = content.content_type
    return web.Response(body=body, headers=given)


def _client_has(request: web.BaseRequest, content: Content, tag: str) -> bool:
    tags = request.headers.get("If-None-Match")
    if tags is not None:
        return etag_matches(tag, tags)
    since = request.headers.get("If-Modified-Since")
    if since is None or content.modified_at is None:
        return False
    try:
        return parsedate_to_datetime(since).timestamp() >= content.modified_at
    except (ValueError, OverflowError):
        return False


async def secure(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that every response has; a signal, run before they are written."""
    response.headers.pop("Server", None)
    if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
        return  # an idle socket keeps its headers in memory
    response.headers.update(_ALWAYS)
    response.headers.setdefault("Content-Security-Policy", INERT)
