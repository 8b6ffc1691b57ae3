"""A bridge whose journal is in PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import io
import signal
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]


def large_png() -> bytes:
    """A picture too large for a row of the journal."""
    buffer = io.BytesIO()
    Image.effect_noise((400, 300), 90.0).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def is_running(message: Any) -> bool:
    return bool(message.json["state"] == "running")


async def test_large_uploads_and_outputs_lie_in_the_database(
    attached: StartBridge, broker: Mosquitto, postgresql: PostgreSQL
) -> None:
    with postgresql.database() as journal:
        bridge = await attached({"echo": graphs.echo()}, journal=journal)
        async with Peer(broker.url) as peer:
            await peer.listen()
            picture = large_png()
            assert (await peer.ask("upload/p", picture))["data"]["complete"] is True
            peer.request("run/echo/j1", {"picture": {"upload": "p"}})
            result = await peer.result("j1")
            assert result["state"] == "succeeded", result
            (output,) = result["outputs"]
            assert output["size"] > 64 * 1024
            await peer.ask("fetch", {"job_id": "j1", "offset": 10, "count": 70_000})
            part = await peer.job("j1", "part/0/10")
            sent = await peer.job("j1", "output/0")
            assert hashlib.sha256(sent.payload).hexdigest() == output["sha256"]
            assert part.payload == sent.payload[10:70_010]
        assert not (bridge.folder / "data/blobs").exists()
        assert not (bridge.folder / "data/journal.db").exists()
        await bridge.stop()


async def test_a_restarted_database_costs_no_job(
    attached: StartBridge, broker: Mosquitto, postgresql: PostgreSQL
) -> None:
    with postgresql.database() as journal:
        bridge = await attached({"slow": graphs.slow(1.0)}, journal=journal, lease_s=1)
        async with Peer(broker.url) as peer:
            await peer.listen()
            for job_id in ("j1", "j2", "j3"):
                peer.request(f"run/slow/{job_id}")
            await peer.job("j1", "status", is_running)
            postgresql.stop(signal.SIGINT)
            await asyncio.sleep(
                1.5
            )  # longer than the lease: it does not know whether it still has it
            postgresql.start()
            for job_id in ("j1", "j2", "j3"):
                result = await peer.result(job_id)
                assert (result["state"], result["attempts"]) == ("succeeded", 1)
                assert len(peer.of_job(job_id, "result")) == 1
        await bridge.stop()
