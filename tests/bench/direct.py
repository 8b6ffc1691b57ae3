"""The reference: a client of ComfyUI's own interface, written to be as fast as asyncio lets it.

One POST a job over kept connections and one WebSocket for all; nothing is validated, kept, asked
twice or tidied up. Bytes are taken as soon as they can be had: from our output node's frame, or by
`/view` the moment that a node tells of its file.
"""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from msgspec import Struct

from tests.bench.delivery import BenchError, Delivery
from tests.support.comfyui import Graph

_OUTPUT = 0x43324D51
_HEAD = struct.Struct(">II")


class _File(Struct):
    filename: str
    subfolder: str
    type: str


class _Output(Struct):
    images: list[_File] = []


class _Data(Struct):
    prompt_id: str | None = None
    node: str | None = None
    output: _Output | None = None


class _Event(Struct):
    type: str
    data: _Data


class _Header(Struct):
    prompt_id: str


class _Job(Struct, eq=False):
    image: asyncio.Future[tuple[float, bytes]]
    end: asyncio.Future[float]


_read_event = msgspec.json.Decoder(_Event).decode
_read_header = msgspec.json.Decoder(_Header).decode


class DirectClient:
    """Use as `async with DirectClient(url) as client`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client_id = uuid.uuid4().hex
        self._jobs: dict[str, _Job] = {}
        self._views: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        try:
            self._socket = await self._session.ws_connect(
                f"{self._url}/ws?clientId={self._client_id}", max_msg_size=0
            )
        except BaseException:
            await self._session.close()
            raise
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, *self._views, return_exceptions=True)
        await self._socket.close()
        await self._session.close()

    async def run(self, graph: Graph) -> Delivery:
        """Run a graph with one output image. Raises BenchError."""
        prompt_id = str(uuid.uuid4())
        loop = asyncio.get_running_loop()
        job = self._jobs[prompt_id] = _Job(loop.create_future(), loop.create_future())
        began = time.perf_counter()
        message = {"prompt": graph, "prompt_id": prompt_id, "client_id": self._client_id}
        async with self._session.post(
            f"{self._url}/prompt",
            data=msgspec.json.encode(message),
            headers={"Content-Type": "application/json"},
        ) as response:
            reply = await response.read()
            if response.status != 200:
                raise BenchError(f"ComfyUI refused: {reply.decode()}")
        at, image = await job.image
        ended = await job.end
        del self._jobs[prompt_id]
        return Delivery(at - began, max(at, ended) - began, image)

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(_read_event(message.data))
                elif message.type is aiohttp.WSMsgType.BINARY:
                    self._take_bytes(message.data)
        finally:
            self._fail("the WebSocket is gone")

    def _take(self, event: _Event) -> None:
        data = event.data
        job = self._jobs.get(data.prompt_id or "")
        if job is None:
            return
        match event.type:
            case "executed" if data.output is not None and data.output.images:
                viewing = asyncio.create_task(self._view(job, data.output.images[0]))
                self._views.add(viewing)
                viewing.add_done_callback(self._views.discard)
            case "executing" if data.node is None:
                job.end.set_result(time.perf_counter())
            case "execution_error":
                self._fail("ComfyUI could not run the graph")

    def _take_bytes(self, message: bytes) -> None:
        kind, length = _HEAD.unpack_from(message)
        if kind == _OUTPUT:
            end = _HEAD.size + length
            job = self._jobs[_read_header(memoryview(message)[_HEAD.size : end]).prompt_id]
            job.image.set_result((time.perf_counter(), message[end:]))

    async def _view(self, job: _Job, file: _File) -> None:
        query: dict[str, Any] = msgspec.to_builtins(file)
        async with self._session.get(f"{self._url}/view", params=query) as response:
            image = await response.read()
            if response.status != 200:
                self._fail(f"no {file.filename}")
                return
        job.image.set_result((time.perf_counter(), image))

    def _fail(self, why: str) -> None:
        for job in self._jobs.values():
            for future in (job.image, job.end):
                if not future.done():
                    future.set_exception(BenchError(why))
                    future.exception()  # asyncio is not to log it where nobody waits
