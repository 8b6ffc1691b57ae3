"""Whoever floods the bridge harms neither it nor others for long."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bridge.mosquitto import Mosquitto
from bridge.mqtt.packets import Publish
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

MB = 1024 * 1024
# What the bridge may take in above what it had, whatever is thrown at it.
GROWTH = 150 * MB
CONNECT = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03%b"


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def flood(url: str, name: bytes, packets: bytes, times: int) -> None:
    """Send the same packets over and over, as fast as the network takes them."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as sock:
        sock.sendall(CONNECT % name)
        sock.recv(1024)
        for _ in range(times):
            sock.sendall(packets)
        sock.sendall(b"\xe0\x00")
        sock.settimeout(60)
        while sock.recv(65536):
            pass


def packets(topic: str, payload: bytes, count: int) -> bytes:
    publish = Publish.of(topic, payload, qos=0, retain=False)
    return (publish.head(0) + payload) * count


async def test_a_flood_at_the_speed_of_the_wire_takes_bounded_memory_and_passes(
    detached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await detached({"colour": graphs.colour()}, log_level="info")
    async with Peer(broker.url, client="bob") as bob:
        await bob.listen()
        assert (await bob.ask("list"))["status"] == "ok"
        before = highest = resident(bridge.pid)
        mallory = "comfy2mqtt/client/mallory/request"
        noise = (
            packets(f"{mallory}/submit", b"{" + b" " * 2000, 200)
            + packets(f"{mallory}/run/colour/a/b/c", b"x" * 2000, 200)
            + packets(f"{mallory}/upload/u", b"x" * 100_000, 2)
        )
        floods = [
            asyncio.create_task(asyncio.to_thread(flood, broker.url, name, noise, 25))
            for name in (b"aaa", b"bbb")
        ]
        while not all(each.done() for each in floods):
            await asyncio.sleep(0.05)  # only to look, now and then
            highest = max(highest, resident(bridge.pid))
        await asyncio.gather(*floods)
        bob.request("list", {"transaction": "after"})
        answer = "comfy2mqtt/client/bob/response/list"
        await bob.next(answer, lambda message: message.json.get("transaction") == "after")
        highest = max(highest, resident(bridge.pid))
        assert highest - before < GROWTH


async def test_a_client_over_its_rate_is_refused_and_others_are_served_meanwhile(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()}, clients={"mallory": {"requests_per_s": 0.5}})
    async with (
        Peer(broker.url, client="bob") as bob,
        Peer(broker.url, client="mallory") as mallory,
    ):
        await bob.listen()
        await mallory.listen()
        for _ in range(40):
            for _ in range(5):
                mallory.request("run/colour", {"colour": 5})
            assert (await bob.ask("list"))["status"] == "ok"
        answers = [each.json["status"] for each in mallory.all("+/client/mallory/response/run")]
        # Ten seconds' worth at once, as many refusals, and what comes in the meantime.
        assert 5 <= answers.count("ok") < 30
        assert 5 <= answers.count("error") < 30
        jobs = (await bob.ask("list"))["data"]["jobs"]
        assert jobs == []
