"""Brokers that take only so much, as those of clouds do."""

from __future__ import annotations

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer
from tests.support.strict_proxy import StrictProxy

pytestmark = [pytest.mark.broker, pytest.mark.slow]

JOBS = 100


async def test_a_burst_of_jobs_comes_through_a_quota_of_a_hundred_messages_a_second(
    detached: StartBridge, broker: Mosquitto
) -> None:
    async with (
        StrictProxy(broker.url, publishes_per_s=100) as proxy,
        Peer(broker.url) as alice,
    ):
        bridge = await detached(
            {"colour": graphs.colour()}, mqtt_url=proxy.url, log_level="warning"
        )
        await alice.listen()
        for number in range(JOBS):
            alice.request(f"run/colour/j{number}", {"colour": number})
        for number in range(JOBS):
            await alice.job(f"j{number}", "status")
            alice.request("cancel", {"job_id": f"j{number}"})
        for number in range(JOBS):
            assert (await alice.result(f"j{number}"))["state"] == "cancelled"
        assert proxy.refused
        assert proxy.refused < (proxy.passed + proxy.refused) / 10
        assert bridge.log.count("quota exceeded") <= 1
