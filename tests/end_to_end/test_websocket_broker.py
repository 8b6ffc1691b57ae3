"""A bridge and a client that reach their broker over WebSocket alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.client import Client
from bridge.client.job import JobCancelled
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.mqtt.conftest import LARGEST_PACKET, Configured
from tests.support.websockets import SETTINGS, free_port, listening

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def test_jobs_go_over_websocket(detached: StartBridge, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    port = free_port()
    settings = SETTINGS.format(websocket=port, largest=LARGEST_PACKET)
    async with Configured(folder, settings) as broker:
        await listening(port)
        url = f"ws://127.0.0.1:{port}/mqtt"
        await detached({"colour": graphs.colour()}, mqtt_url=url, watched_at=broker.url)
        async with Client(url, "alice") as client:
            job = await client.submit("colour", colour=1)
            assert (await client.status(job.id)).state == "queued"
            await job.cancel()
            with pytest.raises(JobCancelled):
                await job.result()
