"""A server on loopback that speaks ComfyUI's protocol and does what a test says.

For what the real ComfyUI does not do on demand, and for tests that have no ten seconds to start it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import WSCloseCode, web

# What a request is answered with instead: a status, or None for a connection that is closed.
Fault = int | None


class ScriptedComfyUI:
    """Its queue and history are what a test puts there; `requests` is what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.running: list[str] = []
        self.pending: list[str] = []
        self.history: dict[str, Any] = {}
        self.outputs: dict[tuple[str, str, int], bytes] = {}
        self.hello: dict[str, Any] | None = {"protocol": 1, "version": "0", "pid": 1}
        # The answer to a prompt, beside its number; or a refusal with status 400.
        self.node_errors: dict[str, Any] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.interrupted: list[str] = []
        self.submitted: asyncio.Queue[str] = asyncio.Queue()
        # By method and path, in turn: the faults of the next requests.
        self.faults: dict[str, list[Fault]] = {}
        # Called with each request before it is answered.
        self.on_request: Callable[[str, Any], None] = lambda _request, _body: None
        self.hanging: set[str] = set()
        self.released = asyncio.Event()
        self.connections: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()
        self._sockets: list[web.WebSocketResponse] = []

    def asked(self, method: str, path: str) -> list[Any]:
        """Return the bodies of all requests to one path."""
        return [body for verb, where, body in self.requests if (verb, where) == (method, path)]

    async def send(self, kind: str, **data: Any) -> None:
        """Send a message to everybody who is connected."""
        for socket in self._sockets:
            if not socket.closed:
                await socket.send_str(json.dumps({"type": kind, "data": data}))

    async def send_queue_length(self) -> None:
        remaining = len(self.running) + len(self.pending)
        await self.send("status", status={"exec_info": {"queue_remaining": remaining}})

    async def cut(self) -> None:
        """Close every socket."""
        for socket in self._sockets:
            await socket.close(code=WSCloseCode.GOING_AWAY)
        self._sockets.clear()

    def remembers(self, prompt_id: str, outputs: dict[str, Any] | None = None) -> None:
        """Put a prompt that succeeded into the history."""
        self.history[prompt_id] = {
            "prompt": [1, prompt_id, {}, {}, []],
            "outputs": outputs or {},
            "status": {"status_str": "success", "completed": True, "messages": []},
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/ws":
            return await self._socket(request)
        raw = await request.read()
        body = raw
        with suppress(ValueError):
            body = json.loads(raw)
        self.requests.append((request.method, request.path, body))
        name = f"{request.method} {request.path}"
        self.on_request(name, body)
        if name in self.hanging:
            await self.released.wait()
        faults = self.faults.get(name)
        if faults:
            fault = faults.pop(0)
            if fault is not None:
                return web.Response(status=fault)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return self._answer(request.method, request.path, body)

    def _answer(self, method: str, path: str, body: Any) -> web.Response:
        match method, path.split("/")[1:]:
            case "POST", [verb]:
                return self._carry_out(verb, body)
            case "GET", ["comfy2mqtt", "outputs", prompt_id, node, index]:
                found = self.outputs.get((prompt_id, node, int(index)))
                return web.Response(status=404) if found is None else web.Response(body=found)
            case "GET", _:
                described = self._described(path)
                return (
                    web.Response(status=404) if described is None else web.json_response(described)
                )
            case _:
                return web.Response()

    def _described(self, path: str) -> Any:
        match path.split("/")[1:]:
            case ["system_stats"]:
                return {"system": {"comfyui_version": "0.0"}}
            case ["comfy2mqtt", "hello"]:
                return self.hello
            case ["queue"]:
                return {
                    "queue_running": [[1, each, {}, {}, []] for each in self.running],
                    "queue_pending": [[2, each, {}, {}, []] for each in self.pending],
                }
            case ["history", prompt_id]:
                entry = self.history.get(prompt_id)
                return {} if entry is None else {prompt_id: entry}
        return None

    def _carry_out(self, verb: str, body: Any) -> web.Response:
        match verb:
            case "prompt":
                self.submitted.put_nowait(body["prompt_id"])
                self.pending.append(body["prompt_id"])
                return web.json_response({"number": 1, "node_errors": self.node_errors})
            case "queue":
                self.pending = [each for each in self.pending if each not in body["delete"]]
            case "interrupt":
                # As servers before 0.3.57: whoever runs is stopped, whatever id was named.
                self.interrupted += self.running
                self.running = []
        return web.Response()

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        self.connections.put_nowait(socket)
        async for _ in socket:
            pass
        return socket


@asynccontextmanager
async def scripted_comfyui() -> AsyncIterator[ScriptedComfyUI]:
    """Run one on a free port."""
    comfyui = ScriptedComfyUI()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", comfyui.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    comfyui.url = f"http://{host}:{port}"
    try:
        yield comfyui
    finally:
        comfyui.released.set()
        await comfyui.cut()
        await runner.cleanup()
