"""Another reference: comfy-api-proxy, the official HTTP API in front of a ComfyUI, from PyPI.

Its client asks as often as the proxy answers, which is the fastest way to learn of an end: its
event stream opens a WebSocket for each job.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.bench.delivery import BenchError, Delivery
from tests.bench.installed import installed
from tests.bench.polling import PAUSE_S
from tests.support.comfyui import Graph

PACKAGE, VERSION = "comfy-api-proxy", "0.1.6"
START_S = 30.0


class ProxyClient:
    """Of a running proxy: see `proxied`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/api/v2"

    async def run(self, graph: Graph) -> Delivery:
        """Run a graph that saves one image. Raises BenchError."""
        began = time.perf_counter()
        async with self._session.post(f"{self._url}/jobs", json={"workflow": graph}) as response:
            job = await response.json()
            if response.status != 201:
                raise BenchError(f"the proxy refused: {job}")
        url = job["urls"]["self"]
        while job["status"] != "succeeded":
            # "expired" too: it says so of a job that ends between its look at the history and its
            # look at the queue.
            if job["status"] not in ("queued", "running", "expired"):
                raise BenchError(f"the proxy's job: {job}")
            await asyncio.sleep(PAUSE_S)
            async with self._session.get(url) as response:
                job = await response.json()
        ended = time.perf_counter()
        async with self._session.get(job["outputs"][0]["url"]) as response:
            image = await response.read()
        took = time.perf_counter() - began
        return Delivery(took, max(took, ended - began), image)

    async def answers(self) -> bool:
        """True if it is up."""
        try:
            async with self._session.get(f"{self._url}/health") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def proxied(comfyui: str) -> AsyncIterator[ProxyClient]:
    """Run the proxy in front of a ComfyUI. Raises BenchError."""
    python = await asyncio.to_thread(installed, PACKAGE, VERSION)
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-m", "comfy_api_proxy.cli", "run"),
        *("--comfyui", comfyui, "--port", str(port)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            client = ProxyClient(session, f"http://127.0.0.1:{port}")
            async with asyncio.timeout(START_S):
                while not await client.answers():  # noqa: ASYNC110 - it does not tell otherwise
                    await asyncio.sleep(0.05)
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
