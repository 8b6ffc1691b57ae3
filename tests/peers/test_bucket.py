"""A bridge whose large outputs are in a bucket of moto's S3."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_operator import Operator
from tests.end_to_end.test_postgresql import large_png
from tests.peers.faulty_s3 import FaultyS3
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]


async def test_outcomes_wait_for_a_bucket_that_is_away_also_over_a_crash(
    attached: StartBridge, broker: Mosquitto, s3: FaultyS3, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter-of-outputs\n")
    bridge = await attached(
        {"echo": graphs.echo()},
        blobs="s3://pictures/x",
        s3_endpoint=s3.url,
        s3_access_key="x",
        s3_secret_key_file=secret,
        links="store",
    )
    picture = large_png()
    async with Peer(broker.url) as peer:
        await peer.listen()
        assert (await peer.ask("upload/p", picture))["data"]["complete"] is True
        peer.request("run/echo/j1", {"picture": {"upload": "p"}})
        (output,) = (await peer.result("j1"))["outputs"]
        assert output["url"].startswith(f"{s3.url}/pictures/x/{output['sha256']}/")
        sent = await peer.job("j1", "output/0")
        async with aiohttp.ClientSession() as session, session.get(output["url"]) as answer:
            assert await answer.read() == sent.payload
        assert not [*(bridge.folder / "data/blobs").iterdir()]
        s3.always = "slow down"
        assert (await peer.ask("upload/q", large_png()))["error"]["code"] == "busy"
        peer.request("run/echo/j2", {"picture": {"upload": "p"}})
        operator = Operator(peer)
        await operator.listen()
        assert "too much to do" in (await operator.done("health_check"))["store"]
        await bridge.kill()
        await bridge.start(ready=False)
        async with asyncio.timeout(PATIENCE_S):
            while "cannot start yet" not in bridge.log:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
        assert not peer.of_job("j2", "result")
        s3.always = None
        (again,) = (await peer.result("j2"))["outputs"]
        assert again["sha256"] == output["sha256"]
        assert len(peer.of_job("j2", "result")) == 1
        await peer.ask("fetch", {"job_id": "j2", "offset": 10, "count": 70_000})
        part = await peer.job("j2", "part/0/10")
        assert part.payload == sent.payload[10:70_010]
        assert "store" not in await operator.done("health_check")
    assert "hunter-of-outputs" not in bridge.log
    await bridge.stop()
