"""A server that speaks the part of Ollama's API that is used: what is loaded, and unloading it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from aiohttp import web


class Ollama:
    """`loaded` are its models. With `in_use` it unloads none."""

    def __init__(self, *models: str) -> None:
        self.loaded = set(models)
        self.unloaded: list[str] = []
        self.listed = 0
        self.in_use = False
        self.status = 200
        self._asked: set[str] = set()
        app = web.Application()
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/generate", self._generate)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _ps(self, _: web.Request) -> web.Response:
        self.listed += 1
        if not self.in_use:
            self.loaded -= self._asked
        models = [{"name": each, "model": each, "size_vram": 4_600_000_000} for each in self.loaded]
        return web.json_response({"models": models}, status=self.status)

    async def _generate(self, request: web.Request) -> web.Response:
        asked: dict[str, Any] = await request.json()
        assert asked.keys() == {"model", "keep_alive"}
        assert asked["keep_alive"] == 0
        self._asked.add(asked["model"])
        self.unloaded.append(asked["model"])
        return web.json_response(
            {"model": asked["model"], "response": "", "done": True, "done_reason": "unload"}
        )
