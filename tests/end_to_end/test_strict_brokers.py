"""Brokers that take only so much, as those of clouds do."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.mqtt.conftest import Configured
from tests.support.brokers import used_by_a_client
from tests.support.peer import Peer
from tests.support.strict_proxy import PROFILES, StrictProxy

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


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_client_works_within_the_limits_of(
    profile: str, detached: StartBridge, broker: Mosquitto
) -> None:
    async with StrictProxy(broker.url, **PROFILES[profile]) as proxy:
        workflows = {"colour": graphs.colour(), "echo": graphs.echo()}
        await detached(workflows, mqtt_url=proxy.url, watched_at=broker.url)
        info = await used_by_a_client(proxy.url)
        assert ("session" in (info.restrictions or {})) is (profile == "aws")


async def test_a_broker_with_little_is_worked_with_and_named(
    detached: StartBridge, tmp_path: Path
) -> None:
    settings = """
        listener {port} 127.0.0.1
        allow_anonymous true
        retain_available false
        max_qos 0
        max_inflight_messages 2
    """
    folder = tmp_path / "little"
    folder.mkdir()
    async with Configured(folder, settings) as little:
        workflows = {"colour": graphs.colour(), "echo": graphs.echo()}
        bridge = await detached(workflows, mqtt_url=little.url)
        info = await used_by_a_client(little.url)
        assert info.restrictions
        assert set(info.restrictions) == {"retain", "qos", "window"}
        assert bridge.log.count("it retains nothing") == 1
