"""A server that answers every request in one way, for what no real ComfyUI would say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.comfyui.client import ComfyClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[ComfyClient]:
    """A client of a server that answers everything with one handler."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with ComfyClient(f"http://{host}:{port}") as client:
            yield client
    finally:
        await runner.cleanup()


def saying(body: bytes | str, status: int = 200) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        encoded = body.encode() if isinstance(body, str) else body
        return web.Response(status=status, body=encoded)

    return answer
