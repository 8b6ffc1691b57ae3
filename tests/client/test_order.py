"""A broker that does not keep the order: the client goes by `n`, and by what a result lists."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from bridge.client import Client, JobOutput
from bridge.contract.messages import JobStatus, Progress, Result
from bridge.mosquitto import Mosquitto
from tests.client.fakebridge import FakeBridge, events_of, listed, submitted
from tests.support.patience import PATIENCE_S
from tests.support.strict_proxy import StrictProxy

pytestmark = pytest.mark.broker


@pytest.fixture
async def proxy(broker: Mosquitto) -> AsyncIterator[StrictProxy]:
    async with StrictProxy(broker.url, holds=True) as proxy:
        yield proxy


async def test_a_result_that_overtakes_all_ends_the_job_and_loses_nothing(
    proxy: StrictProxy, fake: FakeBridge
) -> None:
    async with Client(proxy.url, "alice") as client, asyncio.timeout(PATIENCE_S):
        job = await submitted(client, fake)
        proxy.shuffles = True
        following = asyncio.create_task(events_of(job))
        collecting = asyncio.create_task(job.outputs())
        await fake.status("alice", job.id, "queued")
        await fake.status("alice", job.id, "running")
        for index, data in enumerate((b"first", b"second")):
            await fake.output("alice", job.id, index, data)
        outputs = [listed(0, b"first"), listed(1, b"second")]
        await fake.end("alice", fake.result(job.id, outputs=outputs))
        await proxy.holding(5)
        proxy.release()
        assert [each.data for each in await collecting] == [b"first", b"second"]
        assert proxy.shuffled == 1
        assert job.state == "succeeded"
        events = await following
    assert isinstance(events[-1], Result)
    assert not [each for each in events if isinstance(each, JobStatus)]
    assert {each.info.index for each in events if isinstance(each, JobOutput)} == {0, 1}


async def test_an_older_status_or_progress_that_comes_late_is_passed_over(
    proxy: StrictProxy, fake: FakeBridge
) -> None:
    async with Client(proxy.url, "alice") as client, asyncio.timeout(PATIENCE_S):
        job = await submitted(client, fake)
        proxy.shuffles = True
        for state in ("queued", "queued", "running"):
            await fake.status("alice", job.id, state)
        await proxy.holding(3)
        proxy.release()
        for percent in (30, 40):
            progress = {"job_id": job.id, "workflow": "wf", "percent": percent}
            await fake.publish(f"client/alice/job/{job.id}/progress", json.dumps(progress))
        await proxy.holding(2)
        proxy.release()
        proxy.shuffles = False
        await fake.end("alice", fake.result(job.id))
        events = await events_of(job)
        statuses = [each.state for each in events if isinstance(each, JobStatus)]
        assert statuses == ["running"]
        assert [each.percent for each in events if isinstance(each, Progress)] == [40]
