"""The public client on the real stack: media of every make, pictures back, and the sync twin."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.client import Client, Media, sync
from bridge.contract.errors import Conflict, InvalidInput, UnknownJob
from bridge.contract.messages import Result
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.strict_proxy import PROFILES, StrictProxy

pytestmark = pytest.mark.comfyui


# How the broker differs from mosquitto: `make test-peers` tries the limits of each cloud.
LIMITS: dict[str, dict[str, Any]] = {"mqtt5": {}, "mqtt3.1.1": {"mqtt_5": "refuse"}}


@pytest.fixture(
    params=[*LIMITS, *(pytest.param(each, marks=pytest.mark.peers) for each in PROFILES)]
)
async def url(
    attached: StartBridge, broker: Mosquitto, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """The way to a broker that bridge and clients share, with the limits of its kind."""
    limits = {**LIMITS, **PROFILES}[request.param]
    async with StrictProxy(broker.url, **limits) as proxy:
        workflows = {"echo": graphs.echo(), "colour": graphs.colour()}
        await attached(workflows, mqtt_url=proxy.url, watched_at=broker.url)
        yield proxy.url


def noise(side: int) -> Image.Image:
    return Image.effect_noise((side, side), 90).convert("RGB")


async def test_an_input_is_whatever_a_program_has_at_hand(url: str, tmp_path: Path) -> None:
    picture, large = noise(40), noise(700)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(buffer.getvalue())
    async with Client(url, "alice") as client:
        sources = (
            picture,
            path,
            buffer.getvalue(),
            io.BytesIO(buffer.getvalue()),
            Media(buffer.getvalue(), "image/png"),
            large,  # more than one packet should carry: it is uploaded in parts
            await client.upload(path, "named"),
        )
        for source in sources:
            job = await client.submit("echo", picture=source)
            (back,) = await job.images()
            wanted = large if source is large else picture
            assert back.convert("RGB").tobytes() == wanted.tobytes()
        job = await client.submit("echo", picture=[picture, picture])
        assert len(await job.images()) == 2
        with pytest.raises(InvalidInput):
            await client.upload(5)


async def test_an_upload_goes_on_where_it_stopped(url: str) -> None:
    data = bytes(range(256)) * 4000  # four parts
    async with Client(url, "alice") as client:
        given = await client.upload(data)
        assert await client.upload(data) == given  # there already: nothing is sent again
        # Two at once are one.
        other = data[::-1]
        first, second = await asyncio.gather(client.upload(other), client.upload(other))
        assert first == second
    async with Client(url, "bob") as bob:
        cut = asyncio.create_task(bob.upload(data, "mine"))
        await asyncio.sleep(0)
        cut.cancel()
        await asyncio.wait((cut,))
        assert await bob.upload(data, "mine") == {"upload": "mine"}


async def test_a_script_needs_no_await(url: str, tmp_path: Path) -> None:
    def script() -> None:
        with sync.Client(url, "alice", outbox=tmp_path / "outbox.db") as client:
            assert client.state() == "online"
            info = client.info()
            assert info is not None
            assert set(client.workflows()) == {"echo", "colour"}
            assert client.workflow("colour").name == "colour"
            job = client.submit("colour", colour=0x00FF00, job_id="green")
            *_, result = list(job)
            assert isinstance(result, Result)
            assert (job.state, job.workflow) == ("succeeded", "colour")
            (picture,) = job.images()
            assert picture.convert("RGB").getpixel((0, 0)) == (0, 255, 0)
            (output,) = client.job("green").outputs(timeout_s=30)
            assert output.info.sha256 == job.result().outputs[0].sha256
            assert client.recipe("green").inputs["colour"] == 0x00FF00
            assert client.keep("green", 60).outputs == 1
            page = client.jobs()
            assert [each.job_id for each in page.jobs] == ["green"]
            assert client.ack(page.jobs[0].n) == 1
            assert client.submit("echo", picture=client.upload(picture)).outcome().outputs
            with pytest.raises(Conflict):
                client.submit("colour", colour=1, job_id="green")
            assert client.cancel("green").state == "succeeded"
            assert client.forget("green").forgotten
            with pytest.raises(UnknownJob):
                client.status("never")
        with pytest.raises(RuntimeError, match="closed"):
            client.state()

    await asyncio.to_thread(script)


async def test_nothing_is_lost_at_a_broker_that_does_not_keep_the_order(
    attached: StartBridge, broker: Mosquitto
) -> None:
    async with StrictProxy(broker.url, **PROFILES["nanomq"]) as proxy:
        await attached({"echo": graphs.echo(), "colour": graphs.colour()}, mqtt_url=proxy.url)
        async with Client(proxy.url, "alice") as client:
            large = noise(700)  # uploaded in parts
            job = await client.submit("echo", picture=large, preview=True)
            events = [event async for event in job]
            assert isinstance(events[-1], Result)
            (back,) = await job.images()
            assert back.convert("RGB").tobytes() == large.tobytes()
            async with Client(proxy.url, "alice") as other:
                # It has not received the bytes: they come in parts, beside the answers.
                (again,) = await other.job(job.id).images()
                assert again.tobytes() == back.tobytes()
            jobs = await client.submit_set("colour", grid={"colour": {"from": 1, "to": 12}})
            found = [each async for each in jobs]
            assert {each.id for each in found} == {f"{jobs.id}-{n}" for n in range(12)}
            for each in found:
                assert len(await each.outputs()) == 1
            assert (await jobs.result()).counts.succeeded == 12
        assert proxy.shuffled


@pytest.mark.parametrize("side", [225, 400], ids=["in the packet limit", "above it"])
async def test_an_output_above_what_aws_delivers_has_no_topic_and_is_fetched(
    side: int, attached: StartBridge, broker: Mosquitto
) -> None:
    async with StrictProxy(broker.url, **PROFILES["aws"]) as proxy:
        await attached({"echo": graphs.echo()}, mqtt_url=proxy.url)
        async with Client(proxy.url, "alice") as client:
            large = noise(side)
            for _ in range(2):
                job = await client.submit("echo", picture=large)
                (info,) = (await job.result()).outputs
                assert info.size > 128 * 1024
                assert not info.topic
                (back,) = await job.images()
                assert back.convert("RGB").tobytes() == large.tobytes()
        # What AWS announces is more than it delivers: that is found out once, if at all.
        assert proxy.cut == (1 if side == 225 else 0)
        async with Client(proxy.url, "bob") as bob:
            told = await bob.info()
            assert told is not None
            assert ("size" in (told.restrictions or {})) is (proxy.cut > 0)
