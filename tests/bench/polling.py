"""Another reference: what scripts do without a WebSocket. POST, ask the history until it is there,
then `/view`.

Between two questions it pauses less than any script would: what it takes to poll is counted, not
what it takes to sleep.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.bench.delivery import BenchError, Delivery
from tests.support.comfyui import Graph

PAUSE_S = 0.001


class PollingClient:
    """Use as `async with PollingClient(url) as client`."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def run(self, graph: Graph) -> Delivery:
        """Run a graph that saves one image. Raises BenchError."""
        prompt_id = str(uuid.uuid4())
        began = time.perf_counter()
        message = {"prompt": graph, "prompt_id": prompt_id}
        async with self._session.post(f"{self._url}/prompt", json=message) as response:
            answer = await response.text()
            if response.status != 200:
                raise BenchError(f"ComfyUI refused: {answer}")
        entry = await self._entry(prompt_id)
        ended = time.perf_counter()
        (file,) = (each for output in entry["outputs"].values() for each in output["images"])
        async with self._session.get(f"{self._url}/view", params=file) as response:
            image = await response.read()
        took = time.perf_counter() - began
        return Delivery(took, max(took, ended - began), image)

    async def _entry(self, prompt_id: str) -> Any:
        """Ask until the prompt has ended."""
        while True:
            async with self._session.get(f"{self._url}/history/{prompt_id}") as response:
                history = await response.json()
            if prompt_id in history:
                return history[prompt_id]
            await asyncio.sleep(PAUSE_S)
