"""A real ComfyUI for the tests, and prompts for it.

`COMFY2MQTT_TEST_COMFYUI_PATH` and `COMFY2MQTT_TEST_COMFYUI_PYTHON` name an install to use; without
them it is the managed one, installed if need be.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bridge.comfyui.errors import StartFailed
from bridge.comfyui.install import ensure, find
from bridge.comfyui.settings import OUR_NODES, SuperviseConfig
from bridge.comfyui.supervisor import PlannedRestart, Running, Supervisor

FAULT_NODES = Path(__file__).with_name("fault_nodes")
START_TIMEOUT_S = 120

Graph = dict[str, dict[str, Any]]


def installed() -> tuple[Path, Path]:
    """Return the folder and the interpreter of the ComfyUI to test with."""
    path = os.environ.get("COMFY2MQTT_TEST_COMFYUI_PATH")
    python = os.environ.get("COMFY2MQTT_TEST_COMFYUI_PYTHON")
    if path and python:
        return Path(path), Path(python)
    found = find()
    if found is None:
        # In a thread of its own: the caller may have an event loop running.
        with ThreadPoolExecutor() as pool:
            found = pool.submit(lambda: asyncio.run(ensure(_print))).result()
    return found.path, found.python


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def supervised() -> SuperviseConfig:
    """Return settings for a ComfyUI of the bridge's own, on the CPU, with the nodes that fail."""
    path, python = installed()
    return SuperviseConfig(
        path=path,
        python=python,
        args=("--cpu",),
        custom_nodes=(OUR_NODES, FAULT_NODES),
        start_timeout_s=START_TIMEOUT_S,
        stop_grace_s=5,
    )


class Server:
    """A ComfyUI that runs by itself, as somebody else's would; it comes back when it is killed.

    Its supervisor has a thread and an event loop of its own, so that tests on any loop, and tests
    without one, can share it.
    """

    def __init__(self, config: SuperviseConfig, folder: Path) -> None:
        self.folder = folder
        # Somebody else's ComfyUI would keep its secret over a restart, and serve others as well.
        self._config = msgspec.structs.replace(
            config,
            environment={"COMFY2MQTT_SECRET": uuid.uuid4().hex, "COMFY2MQTT_GUARD": "0"},
        )
        self._news: queue.Queue[Running | Exception] = queue.Queue()
        self._running: Running | None = None
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._work)

    @property
    def running(self) -> Running:
        assert self._running is not None
        return self._running

    @property
    def url(self) -> str:
        return self.running.base_url

    @property
    def secret(self) -> str:
        return self.running.secret

    @property
    def output(self) -> Path:
        """The folder that SaveImage writes to."""
        return self.folder / "output"

    def start(self) -> None:
        self._thread.start()
        self.wait_until_ready()

    def stop(self) -> None:
        task = self._task
        if task is not None:
            self._loop.call_soon_threadsafe(task.cancel)
        self._thread.join()
        self._loop.close()

    def kill(self) -> None:
        """SIGKILL, as the host's out-of-memory killer would."""
        os.kill(self.running.pid, signal.SIGKILL)

    def wait_until_ready(self) -> None:
        """Wait for the next process to be ready, after `start` or `kill`."""
        news = self._news.get(timeout=START_TIMEOUT_S)
        if isinstance(news, Exception):
            raise news
        self._running = news

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._supervise())
        self._loop.run_until_complete(asyncio.gather(self._task, return_exceptions=True))

    async def _supervise(self) -> None:
        supervisor = Supervisor(
            self._config, self.folder, on_start=lambda: None, on_failure=self._failed
        )
        await supervisor.run(self._attend)

    async def _attend(self, running: Running) -> None:
        self._news.put(running)
        await asyncio.Event().wait()

    def _failed(self, failure: StartFailed, _: PlannedRestart) -> None:
        # Which of the two a kill counts as depends on what else the kernel killed on this host.
        if failure.failure not in ("killed", "host_out_of_memory"):
            self._news.put(failure)


@contextmanager
def running_server(config: SuperviseConfig, folder: Path) -> Iterator[Server]:
    """Run a ComfyUI for as long as the block lasts."""
    server = Server(config, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def wait_for_end(pid: int, *, within_s: float = 10.0) -> bool:
    """Wait until a process is gone, also one that is not a child; True if it is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


# -- prompts ------------------------------------------------------------------------------------


def new_id() -> str:
    """Return a prompt id as newer servers want it."""
    return str(uuid.uuid4())


def image(*, seed: int | None = None, size: int = 64, count: int = 1) -> Graph:
    """Node 1: noise, another picture with each seed; a random one where none is given."""
    drawn = uuid.uuid4().int % 2**53 if seed is None else seed
    inputs = {"width": size, "height": size, "channels": 3, "count": count, "kind": "noise"}
    return {"1": {"class_type": "TestImage", "inputs": {**inputs, "seed": drawn}}}


def then(graph: Graph, class_type: str, **inputs: Any) -> Graph:
    """Add a node after the last one, which it takes its image from."""
    last = max(graph, key=int)
    wanted = "images" if "Output" in class_type or "ave" in class_type else "image"
    node = {"class_type": class_type, "inputs": {wanted: [last, 0], **inputs}}
    return {**graph, str(int(last) + 1): node}


def slow_image(seconds: float) -> Graph:
    """Nodes 1 and 2: noise, passed on after a while; 2 tells its steps and can be interrupted."""
    return then(image(), "TestSleep", seconds=seconds, step=0.05)


def our_output(graph: Graph) -> Graph:
    """End in our output node."""
    return then(graph, "Comfy2MQTTImageOutput", name="image", format="PNG", quality=90)


def saved(graph: Graph) -> Graph:
    """End in ComfyUI's SaveImage."""
    return then(graph, "SaveImage", filename_prefix=f"test-{uuid.uuid4().hex}")


def over_the_socket(graph: Graph) -> Graph:
    """End in ComfyUI's SaveImageWebsocket."""
    return then(graph, "SaveImageWebsocket")
