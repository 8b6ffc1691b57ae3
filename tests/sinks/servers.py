"""A web server on loopback that takes what is put and posted, or misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from msgspec import Struct

Answer = Callable[[web.Request], web.StreamResponse | Awaitable[web.StreamResponse]]


class Taken(Struct):
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def created(_: web.Request) -> web.Response:
    return web.Response(status=201)


class Receiver:
    """`answer` answers each request once its body is here, unless it `refuses` it before."""

    def __init__(self) -> None:
        self.port = 0
        self.taken: list[Taken] = []
        self.came = asyncio.Event()
        self.answer: Answer = created
        self.refuses: Answer | None = None

    def url(self, path: str = "/x", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuses is not None:
            return await _answered(self.refuses, request)
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.taken.append(Taken(request.method, request.path_qs, headers, body))
        self.came.set()
        return await _answered(self.answer, request)


async def _answered(answer: Answer, request: web.Request) -> web.StreamResponse:
    found = answer(request)
    return found if isinstance(found, web.StreamResponse) else await found


def in_turn(*answers: int | Answer) -> Answer:
    """Answer with each status in turn, and with the last one from then on."""
    left = list(answers)

    def answer(request: web.Request) -> web.StreamResponse | Awaitable[web.StreamResponse]:
        each = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=each) if isinstance(each, int) else each(request)

    return answer


async def never(_: web.Request) -> web.StreamResponse:
    """Hang until the client gives up."""
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(application, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
