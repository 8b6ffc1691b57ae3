"""A bridge that is stopped ends, whoever does not answer it; its next start does the rest."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL
from tests.support.tcpproxy import TcpProxy

pytestmark = pytest.mark.slow

COLOUR = {"colour": graphs.colour()}
# A statement without a name is parsed (protocol 3.0, "P"): how a transaction is committed.
COMMIT = b"P\0\0\0\x0e\0COMMIT\0"
WHOLE_JOURNAL = 0x63326D_01
# To let each wait of the end be over soon.
SHORT = {"stop_s": 0.5, "lease_s": 1}


@pytest.fixture
def journal(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
async def peer(broker: Mosquitto) -> AsyncIterator[Peer]:
    async with Peer(broker.url) as peer:
        await peer.listen()
        yield peer


@contextmanager
def frozen(postgresql: PostgreSQL) -> Iterator[None]:
    postgresql.freeze()
    try:
        yield
    finally:
        postgresql.thaw()


async def start_again(bridge: BridgeProcess) -> None:
    await bridge.start(ready=False)
    await bridge.ready("unreachable")


async def logged(bridge: BridgeProcess, text: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while text not in bridge.log:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.02)


async def has_queued(peer: Peer, jobs: set[str]) -> None:
    listed = (await peer.ask("list"))["data"]["jobs"]
    assert {job["job_id"]: job["state"] for job in listed} == dict.fromkeys(jobs, "queued")


@pytest.mark.postgresql
async def test_a_bridge_is_stopped_while_its_database_is_frozen(
    detached: StartBridge, postgresql: PostgreSQL, journal: str, peer: Peer
) -> None:
    bridge = await detached(COLOUR, journal=journal, **SHORT)
    peer.request("run/colour/j1")
    await peer.response("run")
    with frozen(postgresql):
        peer.request("run/colour/j2")
        await logged(bridge, "request/run/colour/j2")
        assert await bridge.stop() == 1
    assert "not all has ended in 5.5 s" in bridge.log
    assert f"127.0.0.1:{postgresql.port}" in bridge.log.splitlines()[-1]
    assert "Traceback" not in bridge.log
    await start_again(bridge)
    await peer.response("run")
    await has_queued(peer, {"j1", "j2"})


@pytest.mark.postgresql
async def test_a_bridge_is_stopped_while_its_database_lets_it_wait_at_the_start(
    bridges: StartBridge, journal: str
) -> None:
    bridge = await bridges(start=False, journal=journal, comfyui_url="http://127.0.0.1:9", **SHORT)
    async with await psycopg.AsyncConnection.connect(journal, autocommit=True) as other:
        await other.execute(b"SELECT pg_advisory_lock(%d)" % WHOLE_JOURNAL)
        await bridge.start(ready=False)
        await waited_for(other, "advisory")
        assert await bridge.stop() == 1
    assert "stopping" in bridge.log
    assert "does not answer" in bridge.log.splitlines()[-1]
    assert "Traceback" not in bridge.log


@pytest.mark.postgresql
async def test_a_bridge_is_stopped_whose_thread_waits_for_the_database(
    detached: StartBridge, journal: str, peer: Peer
) -> None:
    bridge = await detached(COLOUR, journal=journal, **SHORT)
    async with await psycopg.AsyncConnection.connect(journal) as other:
        await other.execute(b"LOCK TABLE files")
        peer.request("upload/u1", os.urandom(100_000))
        await waited_for(other, "relation")
        assert await bridge.stop() == 1
    assert "a thread still waits" in bridge.log.splitlines()[-1]
    await start_again(bridge)
    await peer.response("upload")


async def waited_for(connection: psycopg.AsyncConnection[Any], kind: str) -> None:
    """Wait until somebody waits for a lock."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await connection.execute(
                b"SELECT 1 FROM pg_locks WHERE locktype = %s AND NOT granted", (kind,)
            )
            if await found.fetchone() is not None:
                return
            await asyncio.sleep(0.02)


@pytest.mark.postgresql
async def test_a_bridge_is_stopped_whose_database_went_away_during_a_commit(
    detached: StartBridge, postgresql: PostgreSQL, journal: str, peer: Peer
) -> None:
    async with TcpProxy(f"http://127.0.0.1:{postgresql.port}") as proxy:
        behind = journal.replace(f":{postgresql.port}/", f":{proxy.url.rpartition(':')[2]}/")
        bridge = await detached(COLOUR, journal=behind, **SHORT)
        proxy.refuse()
        proxy.swallow_answer(COMMIT, within=True)
        peer.request("run/colour/j1")
        await logged(bridge, "during a commit")
        assert await bridge.stop() == 0
        proxy.open()
        await start_again(bridge)
        answer = (await peer.response("run")).json
        # Or it was another commit: then the request was refused, because the database was away.
        accepted = answer["status"] == "ok"
        assert accepted or answer["error"]["code"] == "busy"
        await has_queued(peer, {"j1"} if accepted else set())


async def test_a_bridge_is_stopped_while_its_broker_is_frozen(
    detached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await detached(COLOUR, **SHORT)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        assert await bridge.stop() == 0
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert "Traceback" not in bridge.log


@pytest.mark.parametrize("answer", [b"", b"\x20\x03\0\0\0"], ids=["nothing", "CONNACK"])
async def test_a_bridge_is_stopped_at_once_where_the_broker_says_nothing_more_than(
    bridges: StartBridge, answer: bytes
) -> None:
    asked = asyncio.Event()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        if answer:
            await reader.readuntil(b"request/#")  # its SUBSCRIBE
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        url = f"mqtt://127.0.0.1:{port}"
        bridge = await bridges(start=False, mqtt_url=url, comfyui_url="http://127.0.0.1:9", **SHORT)
        await bridge.start(ready=False)
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
        assert await bridge.stop() == 0
    assert "stopping" in bridge.log
    assert "not all has ended" not in bridge.log
    assert "Traceback" not in bridge.log


@pytest.mark.comfyui
async def test_a_bridge_is_stopped_while_its_comfyui_is_frozen(
    attached: StartBridge, comfyui: Server, peer: Peer
) -> None:
    bridge = await attached({"slow": graphs.slow(5.0)}, **SHORT)
    peer.request("run/slow/j1")
    await peer.job("j1", "status", lambda message: message.json["state"] == "running")
    os.kill(comfyui.running.pid, signal.SIGSTOP)
    try:
        assert await bridge.stop() == 0
    finally:
        os.kill(comfyui.running.pid, signal.SIGCONT)
    await bridge.start()
    assert (await peer.result("j1"))["state"] == "succeeded"
