"""A proxy before a server that speaks S3, which does harm to the requests that a test chooses."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>no</Message></Error>"
_REFUSALS = {
    "slow down": (503, "SlowDown"),
    "internal": (500, "InternalError"),
    "skew": (403, "RequestTimeTooSkewed"),
    "denied": (403, "AccessDenied"),
    "full": (507, "XMinioStorageFull"),
}
_SLOW_S = 0.3
_DROPPED = ("transfer-encoding", "content-length", "content-encoding", "connection", "date")


class FaultyS3:
    """`faults` happen to the next requests, one each; `always` to all of them.

    A fault is one of `_REFUSALS`, or `slow`, `hang` (nothing is done until `always` is another),
    `half request` (the connection is cut while the request's body comes), `lost answer` (cut after
    the server has done it) or `half answer`.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.faults: list[str] = []
        self.always: str | None = None
        self.requests: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultyS3]:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.method)
        fault = self.always or (self.faults.pop(0) if self.faults else "")
        if fault in _REFUSALS:
            await request.read()
            status, code = _REFUSALS[fault]
            return web.Response(status=status, text=_ERROR.format(code), content_type="text/xml")
        if fault == "half request":
            await request.content.read(1000)
            return self._cut(request)
        body = await request.read()
        while fault == "hang" and self.always == "hang":  # noqa: ASYNC110 - set by hand
            await asyncio.sleep(_SLOW_S)
        if fault == "slow":
            await asyncio.sleep(_SLOW_S)
        async with self._session.request(
            request.method,
            # As it came: it is signed.
            f"{self.target}{request.raw_path}",
            headers=request.headers,
            data=io.BytesIO(body),  # aiohttp warns of many plain bytes
        ) as answer:
            data = await answer.read()
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in _DROPPED
            }
        if fault == "lost answer":
            return self._cut(request)
        if fault == "half answer":
            half = web.StreamResponse(status=answer.status, headers=headers)
            half.content_length = len(data)
            await half.prepare(request)
            await half.write(data[: len(data) // 2])
            return self._cut(request)
        if request.method == "HEAD":
            headers["Content-Length"] = answer.headers["Content-Length"]
        return web.Response(status=answer.status, headers=headers, body=data or None)

    def _cut(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
