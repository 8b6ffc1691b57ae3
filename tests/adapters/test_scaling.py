from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from bridge import __version__
from bridge.adapters.scaling import Scaling, ScalingSources
from bridge.jobs.backlog import UNKNOWN_RUN_S, Backlog, Work
from bridge.mosquitto import Mosquitto
from tests.adapters.test_metrics import free_port, scrape
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL

BRIDGE = "comfy2mqtt/bridge"
COLOUR, ECHO = {"colour": graphs.colour()}, {"echo": graphs.echo()}


def get(port: int, path: str) -> tuple[int, Any]:
    """Return the status of an answer, and its text, or JSON where it is that."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            status, text, kind = answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            status, text, kind = error.code, error.read().decode(), error.headers
    is_json = kind.get_content_type() == "application/json"
    return status, json.loads(text) if is_json else text


async def backlog(port: int, parameters: str = "") -> Any:
    status, found = await asyncio.to_thread(get, port, f"/backlog{parameters}")
    assert status == 200
    return found


async def until(look: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
    """Look again until it is as wanted: no event reports that a figure changed."""
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(found := await look()):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)
    return found


async def test_the_figures_of_a_group_are_shown_by_one_bridge() -> None:
    async def read() -> Backlog:
        return Backlog(members=2, kinds=[Work(workflow="colour", queued=3)])

    async def shown(*, leads: bool) -> list[str]:
        scaling = Scaling(ScalingSources(read, lambda: leads, lambda: None))
        await scaling.refresh()
        return [metric.name for metric in scaling.collect()]

    assert "comfy2mqtt_backlog_jobs" in await shown(leads=True)
    assert await shown(leads=False) == []


@pytest.mark.broker
async def test_a_bridge_reports_what_waits_and_its_seconds_of_work(
    detached: StartBridge, broker: Mosquitto
) -> None:
    port = free_port()
    await detached({**COLOUR, **ECHO}, metrics_listen=f"127.0.0.1:{port}")
    nothing = await asyncio.to_thread(scrape, port)
    assert nothing["comfy2mqtt_backlog_seconds", ","] == 0
    assert nothing["comfy2mqtt_comfyuis_ready", ""] == 0
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number in range(3):
            await peer.ask(f"run/colour/j{number}")
        await peer.ask("run/echo/e", {"picture": {"job": "j0", "output": 0}})
        found = await until(lambda: backlog(port), lambda each: each["waiting"] == 1)
    assert found["members"] == 1
    assert (found["queued"], found["running"]) == (3, 0)
    assert found["queued_s"] == 3 * UNKNOWN_RUN_S
    assert [each["workflow"] for each in found["kinds"]] == ["colour", "echo"]
    assert (await backlog(port, "?workflow=echo"))["queued"] == 0
    assert (await backlog(port, "?workflow=echo&workflow=colour"))["queued"] == 3
    assert (await backlog(port, "?model=sd.safetensors"))["kinds"] == []
    status, answer = await asyncio.to_thread(get, port, "/backlog?queue=1")
    assert status == 400
    assert answer == {"error": "queue: no such parameter; allowed: workflow, model"}
    metrics = await asyncio.to_thread(scrape, port)
    assert metrics["comfy2mqtt_backlog_jobs", ",queued,colour"] == 3
    assert metrics["comfy2mqtt_backlog_jobs", ",waiting,echo"] == 1
    assert metrics["comfy2mqtt_backlog_seconds", ",colour"] == 3 * UNKNOWN_RUN_S


@pytest.mark.broker
async def test_a_bridge_is_ready_while_it_is_connected_and_alive_without(
    detached: StartBridge, broker: Mosquitto
) -> None:
    port = free_port()
    await detached(COLOUR, metrics_listen=f"127.0.0.1:{port}")

    async def ready() -> tuple[int, Any]:
        return await asyncio.to_thread(get, port, "/readyz")

    assert await ready() == (200, "ok\n")
    await broker.stop()
    _, text = await until(ready, lambda found: found[0] == 503)
    assert text == "there is no connection to the broker\n"
    assert await asyncio.to_thread(get, port, "/livez") == (200, "ok\n")
    await broker.start()
    await until(ready, lambda found: found[0] == 200)


class _Group:
    """Bridges on one PostgreSQL, each with the port of its metrics."""

    def __init__(self, bridges: StartBridge, journal: str, watcher: Peer) -> None:
        self._bridges, self._journal, self._watcher = bridges, journal, watcher
        self.ports: dict[str, int] = {}

    async def start(self, name: str, comfyui: str, **settings: Any) -> BridgeProcess:
        port = self.ports[name] = free_port()
        bridge: BridgeProcess = await self._bridges(
            name,
            start=False,
            workflows={**COLOUR, "slow": graphs.slow(3.0)},
            journal=self._journal,
            member=name,
            lease_s=2,
            metrics_listen=f"127.0.0.1:{port}",
            comfyui_url=comfyui,
            **settings,
        )
        await bridge.start(ready=False)
        await self._watcher.next(f"{BRIDGE}/member/{name}", lambda m: m.payload == b"online")
        return bridge

    async def summed(self, *names: str) -> dict[tuple[str, str], float]:
        """The sums of all backlog metrics over bridges, as Prometheus adds them up."""
        summed: dict[tuple[str, str], float] = {}
        for name in names:
            for key, value in (await asyncio.to_thread(scrape, self.ports[name])).items():
                if key[0].startswith(("comfy2mqtt_backlog_", "comfy2mqtt_members")):
                    summed[key] = summed.get(key, 0) + value
        return summed


@pytest.fixture
def journal(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
async def group(bridges: StartBridge, broker: Mosquitto, journal: str) -> AsyncIterator[_Group]:
    async with Peer(broker.url, client="watcher") as watcher:
        await watcher.subscribe(f"{BRIDGE}/#")
        yield _Group(bridges, journal, watcher)


@pytest.mark.broker
@pytest.mark.postgresql
async def test_the_sum_over_a_group_is_right_and_stays_so_when_a_member_dies(
    group: _Group, broker: Mosquitto, postgresql: PostgreSQL
) -> None:
    away = "http://127.0.0.1:9"
    first = await group.start("a", away)
    await group.start("b", away)
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number in range(3):
            await peer.ask(f"run/colour/j{number}")
    for name in ("a", "b"):  # whichever is asked
        found = await until(
            lambda name=name: backlog(group.ports[name]),  # type: ignore[misc]
            lambda each: each["queued"] == 3 and each["members"] == 2,
        )
        assert found["queued_s"] == 3 * UNKNOWN_RUN_S
        metrics = await asyncio.to_thread(scrape, group.ports[name])
        assert metrics["comfy2mqtt_info", f"{name},{__version__}"] == 1
    summed = await until(
        lambda: group.summed("a", "b"), lambda each: each["comfy2mqtt_members", ""] == 2
    )
    assert summed["comfy2mqtt_backlog_jobs", ",queued,colour"] == 3
    assert summed["comfy2mqtt_backlog_seconds", ",colour"] == 3 * UNKNOWN_RUN_S

    await first.kill()
    summed = await until(lambda: group.summed("b"), lambda each: ("comfy2mqtt_members", "") in each)
    assert summed["comfy2mqtt_backlog_jobs", ",queued,colour"] == 3
    await until(lambda: backlog(group.ports["b"]), lambda each: each["members"] == 1)

    postgresql.stop()
    try:
        _, answer = await until(
            lambda: asyncio.to_thread(get, group.ports["b"], "/backlog"),
            lambda found: found[0] == 503,
        )
        assert answer["error"]
        # No figure is better than an old one: nothing is to be stopped because of it.
        assert await group.summed("b") == {}
        ready = await until(
            lambda: asyncio.to_thread(get, group.ports["b"], "/readyz"),
            lambda found: found[0] == 503,
        )
        assert "lease" in ready[1]
    finally:
        postgresql.start()
    await until(
        lambda: asyncio.to_thread(get, group.ports["b"], "/backlog"),
        lambda found: found[0] == 200 and found[1]["queued"] == 3,
    )


@pytest.mark.comfyui
@pytest.mark.postgresql
async def test_what_runs_is_counted_and_what_waits_by_how_long_it_has_run_before(
    group: _Group, broker: Mosquitto, comfyui: Server
) -> None:
    await group.start("a", comfyui.url, comfyui_secret=comfyui.secret)
    await group.start("b", "http://127.0.0.1:9")
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/slow/first")
        await until(lambda: backlog(group.ports["b"]), lambda each: each["running"] == 1)
        assert (await peer.result("first"))["state"] == "succeeded"
        await group._watcher.subscribe(f"{BRIDGE}/response/#")
        group._watcher.publish(f"{BRIDGE}/request/queue/pause")
        await group._watcher.next(f"{BRIDGE}/response/queue/pause")
        for number in range(2):
            await peer.ask(f"run/slow/j{number}")

        def is_known(found: Any) -> bool:
            # The estimate is noted in the journal a second after the run that it is from.
            return bool(found["queued"] == 2 and found["queued_s"] != 2 * UNKNOWN_RUN_S)

        found = await until(lambda: backlog(group.ports["b"]), is_known)
        assert 2 * 2.0 < found["queued_s"] < 2 * UNKNOWN_RUN_S
        assert found["running"] == 0
    metrics = [await asyncio.to_thread(scrape, group.ports[name]) for name in ("a", "b")]
    assert [each["comfy2mqtt_comfyuis_ready", ""] for each in metrics] == [1, 0]
