"""HTTP: an output's bytes by PUT, a webhook's by POST, to where a client may send them.

The guard is that of media inputs by URL (`bridge.media.download`): the address that was checked is
the one that is connected to. No redirect is followed, so that none leads inward.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
from msgspec import Struct
from yarl import URL

from bridge.contract.sinks import Headers
from bridge.media.download import AllowedHosts, checked_host, guarded_session
from bridge.sinks import schedule
from bridge.sinks.schedule import STALL_S, DeliveryRefused

# A store says in its answer which of its rules was broken; no more of it is read.
_READ = 4096
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_FOLDERS_DEEP = 16

# Yields bytes from their beginning, each time that it is called.
Source = Callable[[], AsyncIterator[bytes]]


class Body(Struct, frozen=True):
    """Bytes to send, from where they lie; `size` of them."""

    source: Source
    size: int
    content_type: str


async def put(url: str, headers: Headers, body: Body, reach: AllowedHosts) -> None:
    """Send bytes by PUT, once.

    Raises Forbidden, DeliveryRefused, aiohttp.ClientError, OSError and TimeoutError.
    """
    given = {name.lower(): value for name, value in headers.items()}
    sent = {"content-type": body.content_type, **given, "content-length": str(body.size)}
    await _request("PUT", url, sent, reach, body.source)


async def post(url: str, headers: Mapping[str, str], data: bytes, reach: AllowedHosts) -> None:
    """Send bytes by POST, once; raises as `put`."""

    async def source() -> AsyncIterator[bytes]:
        yield data

    sent = {**headers, "content-type": "application/json", "content-length": str(len(data))}
    await _request("POST", url, sent, reach, source)


async def make_folders(url: str, headers: Headers, reach: AllowedHosts) -> None:
    """Make the folders of WebDAV above a file, from the first that is there; raises as `put`."""
    missing: list[URL] = []
    at = URL(url, encoded=True).with_query(None)
    auth = {name: value for name, value in headers.items() if name.lower() == "authorization"}
    for _ in range(_FOLDERS_DEEP):
        at = at.parent
        if at.raw_path in ("", "/"):
            break
        try:
            await _request("MKCOL", f"{at}/", auth, reach, None)
            break
        except DeliveryRefused as refused:
            if not refused.missing:
                break  # it is there, or is not to be made: the next PUT says so
            missing.append(at)
    for folder in reversed(missing):
        await _request("MKCOL", f"{folder}/", auth, reach, None)


async def _request(
    method: str, url: str, headers: Mapping[str, str], reach: AllowedHosts, source: Source | None
) -> None:
    # As it is: a signature is of the very characters.
    at = URL(url, encoded=True)
    loop = asyncio.get_running_loop()
    unreadable: list[OSError] = []
    try:
        async with (
            asyncio.timeout(STALL_S) as stalled,
            guarded_session(checked_host(at, reach), reach) as session,
        ):

            async def moving(chunks: Source) -> AsyncIterator[bytes]:
                try:
                    async for chunk in chunks():
                        stalled.reschedule(loop.time() + STALL_S)
                        yield chunk
                except OSError as error:
                    unreadable.append(error)
                    raise
                stalled.reschedule(loop.time() + STALL_S)

            async with session.request(
                method,
                at,
                headers=headers,
                data=None if source is None else moving(source),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(),
            ) as response:
                refused = await _refusal(response)
    except aiohttp.ClientError:
        if unreadable:  # the library says only that it could not write
            raise unreadable[0] from None
        raise
    if refused is not None:
        raise refused


async def _refusal(response: aiohttp.ClientResponse) -> DeliveryRefused | None:
    code = None
    if not response.ok:
        code = _CODE.search(await response.content.read(_READ))
    return schedule.judge(
        response.status,
        response.reason or "",
        None if code is None else code[1].decode(),
        response.headers.get("Retry-After"),
    )
