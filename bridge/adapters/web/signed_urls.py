"""Outputs by signed URL; their bytes are fetched from the bridge in parts."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from bridge.adapters.web import responses
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.http_headers import byte_range, etag_matches
from bridge.adapters.web.requests import PartOf
from bridge.adapters.web.responses import Streamed
from bridge.contract import links
from bridge.contract.errors import BridgeError, Busy, Error, Expired, Forbidden
from bridge.contract.links import Link
from bridge.contract.messages import Fetch, Part, encode
from bridge.contract.reading import UNREADABLE
from bridge.contract.sets import FetchSet

_WIDEST: Final = 65_535
_PIXELS: Final = re.compile(r"[0-9]{1,5}")
# A part that did not come beside its answer is asked for again: it may travel at QoS 0.
_ATTEMPTS: Final = 3
_LONGEST_WAIT_S: Final = 5.0
# What a browser shows as itself; all else is offered to be saved.
_INLINE: Final = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif")
_STATUS: Final = {
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "quota_exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "unknown_job": HTTPStatus.GONE,
    "expired": HTTPStatus.GONE,
}
_PASSING: Final = ("busy", "quota_exceeded")


class NotGiven(Exception):
    """The bridge does not give the bytes."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


class SignedUrls:
    """Makes URLs of outputs, and serves them. `key` signs, `lasts_s`: for how long they hold."""

    def __init__(self, broker: Broker, key: bytes, lasts_s: float) -> None:
        self._broker = broker
        self._key = key
        self._lasts_s = lasts_s

    def make(
        self, client: str, name: str, output: int, *, of_set: bool = False
    ) -> Mapping[str, object]:
        """Return the answer to the verb `link`: a URL of an output of this client's.

        `name` is the id of the job, or of the set.
        """
        expires = int(time.time() + self._lasts_s)
        token = links.sign(self._key, Link(client, name, output, expires, of_set))
        return {"url": f"{links.PREFIX}{token}", "expires_at": expires}

    async def get(self, token: str, request: web.BaseRequest) -> web.StreamResponse:
        """Respond to a request for a signed URL."""
        try:
            link = links.read(self._key, token, time.time())
        except Forbidden as error:
            return responses.text(HTTPStatus.FORBIDDEN, error.message)
        except Expired as error:
            return responses.text(HTTPStatus.GONE, error.message)
        width: int | UnsetType = UNSET
        if (given := request.query.get("width")) is not None:
            if _PIXELS.fullmatch(given) is None or not 0 < int(given) <= _WIDEST:
                return responses.text(HTTPStatus.BAD_REQUEST, "width: expected pixels, 1 to 65535")
            width = int(given)
        wanted: Fetch | FetchSet
        if link.of_set:
            wanted = FetchSet(set_id=link.job_id, output=link.output, width=width)
        else:
            wanted = Fetch(job_id=link.job_id, output=link.output, width=width)
        try:
            async with self._broker.listening(link.client):
                return await self._respond(link, wanted, request)
        except NotGiven as refused:
            status = _STATUS.get(refused.error.code, HTTPStatus.BAD_GATEWAY)
            again = {"Retry-After": "5"} if refused.error.code in _PASSING else {}
            return responses.text(status, refused.error.message, again)

    async def _respond(
        self, link: Link, wanted: Fetch | FetchSet, request: web.BaseRequest
    ) -> web.StreamResponse:
        # Where not all may be sent, no more than a first byte is fetched for now.
        asked, head = request.headers, request.method == "HEAD"
        brief = head or "Range" in asked or "If-None-Match" in asked
        part, data = await self._part(link.client, wanted, 0, 1 if brief else None)
        tag = f'"{part.sha256[:32]}"'
        headers = _headers(link, part, tag)
        if etag_matches(tag, asked.get("If-None-Match")):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        try:
            # A range of a HEAD has no meaning (RFC 9110, 14.2).
            wants_part = not head and asked.get("If-Range") in (None, tag)
            span = byte_range(asked.get("Range") if wants_part else None, part.size)
        except ValueError:
            size = {"Content-Range": f"bytes */{part.size}"}
            return responses.text(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=size)
        start, end = span or (0, part.size)
        status = HTTPStatus.OK
        if span is not None:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{part.size}"
        if head:
            response = web.StreamResponse(headers=headers)
            response.content_length = part.size
            return response
        pieces = self._body(link.client, wanted, (start, end), data if not brief else b"")
        return Streamed(status, headers, end - start, pieces)

    async def _body(
        self, client: str, wanted: Fetch | FetchSet, span: tuple[int, int], first: bytes
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes, of which the first are here; each part is asked for when it is due."""
        at, end = span
        if first:
            yield first[: end - at]
            at += len(first)
        async with self._broker.listening(client):
            while at < end:
                part, data = await self._part(client, wanted, at, end - at)
                if not data:
                    raise NotGiven(Error("lost", f"nothing at byte {at} of {part.size}"))
                yield data
                at += len(data)

    async def _part(
        self, client: str, wanted: Fetch | FetchSet, offset: int, count: int | None
    ) -> tuple[Part, bytes]:
        """Fetch one part. Raises NotGiven."""
        asked = msgspec.structs.replace(
            wanted, offset=offset, count=UNSET if count is None else count
        )
        for _ in range(_ATTEMPTS):
            came: list[PartOf] = []
            reply = await self._broker.request(client, "fetch", encode(asked), came.append)
            if reply.status != "ok" or reply.data is UNSET:
                error = _error(reply.error)
                wait_s = error.details.get("retry_after_s")
                if not isinstance(wait_s, int | float):
                    raise NotGiven(error)
                # The client's requests are counted, these too: a long film takes its time.
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
                continue
            try:
                part = msgspec.json.decode(reply.data, type=Part)
            except UNREADABLE:
                raise NotGiven(BridgeError("the bridge's answer is unreadable").wire()) from None
            data = next((each.data for each in came if each.offset == offset), b"")
            if len(data) == part.count:
                return part, data
        raise NotGiven(Busy("the bytes did not come").wire())


def _error(raw: msgspec.Raw | UnsetType) -> Error:
    try:
        return msgspec.json.decode(b"" if raw is UNSET else raw, type=Error)
    except UNREADABLE:
        return BridgeError("the bridge gives no reason").wire()


def _headers(link: Link, part: Part, tag: str) -> dict[str, str]:
    inline = part.content_type in _INLINE or part.content_type.startswith(("audio/", "video/"))
    lasts = max(0, link.expires - int(time.time()))
    name = f"{link.job_id}-{link.output}"
    return {
        # No header can begin another one.
        "Content-Type": " ".join(part.content_type.split()),
        "ETag": tag,
        "Accept-Ranges": "bytes",
        # An output never changes, and the address is its reader's own.
        "Cache-Control": f"private, max-age={lasts}, immutable",
        "Content-Disposition": f'{"inline" if inline else "attachment"}; filename="{name}"',
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
