from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.adapters.mqtt.acl_probe import isolation
from bridge.cli.main import main
from bridge.contract.topics import Topics
from bridge.mqtt import Address
from tests.support.confined import Confined

pytestmark = pytest.mark.broker

TOPICS = Topics()
OURS = "\nuser comfy2mqtt\ntopic readwrite #\n"
OWN = "pattern write comfy2mqtt/client/%u/request/#\npattern read comfy2mqtt/client/%u/reply/#\n"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Confined]:
    async with Confined(tmp_path, "alice") as broker:
        yield broker


async def restarted(broker: Confined, acl: str, access: str = "") -> None:
    await broker.stop()
    (broker.files / "comfy2mqtt.acl").write_text(acl + OURS)
    with (broker.files / "comfy2mqtt-access.conf").open("a") as file:
        file.write(access)
    await broker.start()


async def tried(broker: Confined, client: str | None = "alice") -> str:
    probe = None if client is None else Address.parse(broker.url_of(client))
    return await isolation(Address.parse(broker.url_of("comfy2mqtt")), probe, TOPICS)


async def test_our_own_configuration_enforces_it_as_a_clients_password_shows(
    broker: Confined,
) -> None:
    assert await tried(broker) == "enforced"


async def test_without_a_clients_password_nobody_knows(broker: Confined) -> None:
    assert await tried(broker, None) == "unknown"


@pytest.mark.parametrize(
    ("acl", "told"),
    [
        (OWN, "enforced"),
        ("pattern readwrite #\n", "none"),
        (f"{OWN}pattern write comfy2mqtt/client/+/request/#\n", "none"),
        (f"{OWN}pattern read comfy2mqtt/client/#\n", "none"),
        (OWN.splitlines()[0] + "\n", "unknown"),  # who cannot have an answer tells nothing
        (OWN.splitlines()[1] + "\n", "unknown"),
    ],
)
async def test_what_a_client_reaches_decides(broker: Confined, acl: str, told: str) -> None:
    await restarted(broker, acl)
    assert await tried(broker) == told


async def test_a_wrong_password_proves_nothing(broker: Confined) -> None:
    broker.password["alice"] = "wrong"
    assert await tried(broker) == "unknown"


async def test_a_broker_that_lets_anybody_in_everywhere_enforces_nothing(broker: Confined) -> None:
    await restarted(broker, "topic readwrite #\n", "\nallow_anonymous true\n")
    assert await tried(broker, None) == "none"


async def test_a_broker_that_shows_strangers_nothing_may_still_keep_clients_apart(
    broker: Confined,
) -> None:
    await restarted(broker, OWN, "\nallow_anonymous true\n")
    assert await tried(broker, None) == "unknown"


async def test_who_needs_no_name_is_anybody(broker: Confined) -> None:
    assert await isolation(Address.parse(broker.url), None, TOPICS) == "none"


async def doctors_words(broker: Confined, folder: Path, **settings: str) -> str:
    settings = {
        "mqtt_url": broker.url_of("comfy2mqtt"),
        "comfyui_url": "http://127.0.0.1:9",
        "data": str(folder / "data"),
        **settings,
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    done = await asyncio.to_thread(CliRunner().invoke, main, ["doctor", *flags])
    return done.stdout


async def test_doctor_tries_whether_a_client_touches_anothers_topics(
    broker: Confined, tmp_path: Path
) -> None:
    probe = broker.url_of("alice")
    assert "is unknown" in await doctors_words(broker, tmp_path)
    enforced = await doctors_words(broker, tmp_path, isolation_probe_url=probe)
    assert "ok   the broker keeps each client to its own topics" in enforced
    await restarted(broker, "pattern readwrite #\n")
    open_to_all = await doctors_words(broker, tmp_path, isolation_probe_url=probe)
    assert "BAD  the broker lets any client read and write any other's topics" in open_to_all
    assert broker.password["alice"] not in enforced + open_to_all
