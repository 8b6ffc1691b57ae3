"""A broker that takes small packets only, as those of cloud services do."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.client import Client
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import image, our_output
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

LIMIT = 16_000


class SmallBroker(Mosquitto):
    """It says so in CONNACK, and ends the connection for more."""

    def _write_configuration(self, port: int) -> Path:
        path = super()._write_configuration(port)
        lines = [
            line for line in path.read_text().splitlines() if not line.startswith("max_packet_size")
        ]
        path.write_text("\n".join((*lines, f"max_packet_size {LIMIT}", "")))
        return path


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with SmallBroker(tmp_path / "mosquitto") as broker:
        yield broker


async def test_nothing_larger_is_sent_and_all_can_be_had(
    attached: StartBridge, broker: Mosquitto
) -> None:
    wordy = graphs.colour()
    wordy["4"]["inputs"]["description"] = "x" * LIMIT
    await attached({"noise": our_output(image(size=128)), "wordy": wordy})
    async with Peer(broker.url) as peer, Client(broker.url, "alice") as client:
        await peer.listen()
        job = await client.submit("noise", job_id="j1")
        (output,) = await job.outputs()
        assert output.info.size > LIMIT
        assert not output.info.topic
        assert hashlib.sha256(output.data).hexdigest() == output.info.sha256
        # A page has as many jobs as fit.
        for index in range(30):
            await client.submit("wordy", job_id=f"w{index}", meta="m" * 1000)
        for index in range(30):
            await client.job(f"w{index}").result()
        found, after, pages = [], 0, 0
        while True:
            page = await client.jobs(after, limit=100)
            found += [each.job_id for each in page.jobs]
            pages, after = pages + 1, page.jobs[-1].n
            if not page.more:
                break
        assert len(found) == 31
        assert pages > 2
        # An answer that is too large becomes an error.
        answer = await peer.ask("recipe", b"w0")
        assert answer["error"]["code"] == "too_large"
        assert answer["error"]["details"]["limit"] == LIMIT
        assert max(len(message.payload) for message in peer.messages) < LIMIT


async def test_a_job_that_fills_a_packet_does_not_end_the_listing(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()}, max_packet="4096")
    async with Peer(broker.url) as peer:
        await peer.listen()
        for job_id, size in (("j1", 10), ("j2", 3500), ("j3", 10)):
            # Once in the job, once in its result.
            await peer.ask(f"run/colour/{job_id}", {"$meta": "m" * size})
            await peer.ask("cancel", job_id.encode())
        assert (await peer.ask("status", b"j2"))["data"]["state"] == "cancelled"
        found: list[str] = []
        after, more = 0, True
        while more:
            page = (await peer.ask("list", {"after": after, "peek": True}))["data"]
            found += [each["job_id"] for each in page["jobs"]]
            after, more = page["jobs"][-1]["n"], page["more"]
        assert found == ["j1", "j2", "j3"]


async def test_a_result_that_would_be_too_large_comes_with_less(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()}, max_packet="4096")
    async with Peer(broker.url) as peer:
        await peer.listen()
        answer = await peer.ask("run/colour/j1", {"$meta": "m" * 4090})
        assert answer["error"]["code"] == "too_large"  # the answer would have it too
        await peer.ask("cancel", b"j1")
        result = await peer.result("j1")
        assert result["state"] == "cancelled"
        assert "meta" not in result
