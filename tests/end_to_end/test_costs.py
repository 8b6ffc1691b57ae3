"""The cost of a job, by counts that a busy machine does not move; `make bench` has the seconds.

The bridge runs in the test's own process, where what it does can be counted.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from bridge.comfyui.settings import AttachConfig
from bridge.config import Config
from bridge.jobs.journal import writes
from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address
from bridge.service import Bridge, descriptions
from tests.end_to_end import graphs
from tests.support.comfyui import Graph, Server, image, our_output, saved
from tests.support.peer import Peer
from tests.support.walk import Walk

pytestmark = pytest.mark.comfyui

JOBS = 20
# None comes twice: ComfyUI would have it from before.
COLOURS = itertools.count()
# Functions of the bridge on the way of a small job with this workflow, and calls of them for each
# job, where a coroutine counts each time that it continues: lower them with the figures. It is 612
# to 614 functions, and was 616 where a sweep fell in and an earlier test had loaded OpenTelemetry.
MOST_FUNCTIONS = 624
MOST_CALLS = 1_850
# 3 bytes a pixel, since noise does not compress: 6 MB.
SIDE = 1_400

# The audit events of calls that may wait for a disk, a name server or a clock.
BLOCKING = (
    *("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "time.sleep"),
    *("shutil.rmtree", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen"),
)


@pytest.fixture
def serve(broker: Mosquitto, comfyui: Server, tmp_path: Path) -> Callable[[dict[str, Graph]], Any]:
    """Runs a bridge in this process: `async with serve(workflows) as bridge`."""

    @asynccontextmanager
    async def serving(workflows: dict[str, Graph]) -> AsyncIterator[Bridge]:
        folder = tmp_path / "workflows"
        folder.mkdir()
        for name, graph in workflows.items():
            (folder / f"{name}.json").write_bytes(msgspec.json.encode(graph))
        config = Config(mqtt_url=broker.url, workflows=folder, data=tmp_path / "data")
        attached = AttachConfig(comfyui.url, comfyui.secret)
        bridge = Bridge(config, Address.parse(broker.url), {"default": attached})
        stopping = asyncio.Event()
        running = asyncio.create_task(bridge.run(stopping))
        async with Peer(broker.url) as peer:
            await peer.subscribe("comfy2mqtt/workflow/+")
            for name in workflows:
                await peer.next(
                    f"comfy2mqtt/workflow/{name}", lambda each: each.json.get("runnable")
                )
        try:
            yield bridge
        finally:
            stopping.set()
            await running

    return serving


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every HTTP request of this process from now on."""
    made: list[str] = []
    send = aiohttp.ClientSession._request

    async def counting(self: Any, method: str, url: Any, **options: Any) -> Any:
        made.append(f"{method} {url}")
        return await send(self, method, url, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", counting)
    return made


class Audit:
    """Records calls that may block, on the thread that starts it, until it is stopped."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._thread: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._thread = threading.get_ident()
        sys.addaudithook(self._record)
        try:
            yield
        finally:
            self._thread = None  # a hook stays for ever

    def _record(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in BLOCKING and threading.get_ident() == self._thread:
            self.heard.append(f"{event} {arguments[:1]}")


async def run_jobs(peer: Peer, workflow: str, named: str = "j") -> None:
    for number in range(JOBS):
        inputs = {"colour": next(COLOURS)} if workflow == "ours" else {}
        peer.request(f"run/{workflow}/{named}{number}", inputs)
        result = await peer.result(f"{named}{number}")
        assert result["state"] == "succeeded", result


def kinds(requests: list[str]) -> Counter[str]:
    """Count each kind: method, and the path up to what differs."""
    paths = (request.split("/", 3) for request in requests)
    return Counter(f"{before.split()[0]} /{path.split('/')[0]}" for before, *_, path in paths)


async def test_a_small_job_costs_two_commits_five_messages_and_one_request(
    serve: Callable[[dict[str, Graph]], Any],
    broker: Mosquitto,
    requests: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a slow machine a small job would run long enough to be worth a note.
    monkeypatch.setattr(writes, "MARK_AFTER_S", 60.0)
    audit = Audit()
    async with serve({"ours": graphs.colour()}) as bridge, Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/comfyui/+")
        peer.request("run/ours/warm-up")
        await peer.result("warm-up")
        requests.clear()
        states = len(peer.all("comfy2mqtt/bridge/comfyui/+"))
        commits, began = bridge._parts.shared.journal.commits, time.monotonic()
        with audit.listening():
            await run_jobs(peer, "ours")
        commits = bridge._parts.shared.journal.commits - commits
        took_s = time.monotonic() - began
        messages = [
            message
            for number in range(JOBS)
            for message in peer.of_job(f"j{number}")
            if not message.topic.endswith("/progress")
        ]
        answers = peer.all("comfy2mqtt/client/alice/response/run")
        states = len(peer.all("comfy2mqtt/bridge/comfyui/+")) - states
    # Accepted and ended; now and then, which results the broker has, and a block of numbers.
    assert 2 * JOBS <= commits <= 2 * JOBS + took_s / writes.NOTE_S + 2
    # Queued, running, the output and the result; and an answer.
    assert len(messages) == 4 * JOBS
    assert len(answers) == JOBS + 1
    # ComfyUI's states busy and ready are published now and then.
    assert states <= took_s / descriptions.BUSY_INTERVAL_S + 2
    # The prompt; outputs are confirmed and the history is forgotten for many at a time.
    assert kinds(requests).keys() == {"POST /prompt", "DELETE /comfy2mqtt", "POST /history"}
    assert kinds(requests)["POST /prompt"] == JOBS
    assert audit.heard == []


@pytest.mark.parametrize("workflows", [1, 300])
async def test_a_small_job_passes_through_a_bounded_number_of_functions(
    serve: Callable[[dict[str, Graph]], Any],
    broker: Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
    workflows: int,
) -> None:
    """However many workflows there are."""
    monkeypatch.setattr(writes, "MARK_AFTER_S", 60.0)
    names = ["ours", *(f"other{number}" for number in range(1, workflows))]
    walk = Walk()
    with walk.watching():
        async with serve(dict.fromkeys(names, graphs.colour())), Peer(broker.url) as peer:
            await peer.listen()
            await run_jobs(peer, "ours", "warm-up")
            with walk.counting():
                await run_jobs(peer, "ours")
    functions = walk.functions(at_least=JOBS)
    assert len(functions) <= MOST_FUNCTIONS, "\n".join(functions)
    calls = walk.calls.total() / JOBS
    often = [f"{count / JOBS:.1f} {code.co_qualname}" for code, count in walk.calls.most_common(50)]
    assert calls <= MOST_CALLS, "\n".join((f"{calls:.0f} calls", *often))


async def test_a_saved_picture_costs_one_request_more(
    serve: Callable[[dict[str, Graph]], Any], broker: Mosquitto, requests: list[str]
) -> None:
    async with serve({"saved": saved(image())}), Peer(broker.url) as peer:
        await peer.listen()
        requests.clear()
        await run_jobs(peer, "saved")
    found = kinds(requests)
    assert found.keys() == {"POST /prompt", "GET /view", "DELETE /comfy2mqtt", "POST /history"}
    assert found["POST /prompt"] == found["GET /view"] == JOBS


async def test_a_large_output_is_in_memory_once(
    serve: Callable[[dict[str, Graph]], Any], broker: Mosquitto
) -> None:
    """As it came in: it is published and stored from there, and a piece of it on its way out."""
    async with serve({"noise": our_output(image(size=SIDE, seed=1))}), Peer(broker.url) as peer:
        await peer.subscribe("comfy2mqtt/client/alice/job/+/result")
        peer.request("run/noise/warm-up")
        size = (await peer.result("warm-up"))["outputs"][0]["size"]
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            peer.request("run/noise/j1")
            await peer.result("j1")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size > 3 * SIDE * SIDE * 0.9
    assert (peak - before) / size < 1.3
