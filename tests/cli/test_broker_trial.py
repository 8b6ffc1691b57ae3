"""The doctor's findings about a broker, tried on real ones with few features."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from bridge.cli.broker_trial import try_broker
from bridge.cli.diagnostics import Finding
from bridge.cli.doctor import explain_bridge
from bridge.config import Config
from bridge.contract.messages import encode
from bridge.contract.operator import HealthReport
from bridge.contract.retained import BridgeHealth, ComfyUIState
from bridge.contract.topics import Topics
from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address, Connection
from tests.mqtt.conftest import LARGEST_PACKET, Configured
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer
from tests.support.strict_proxy import NO_RETAIN, NO_WILDCARDS, PROFILES, StrictProxy
from tests.support.websockets import SETTINGS, free_port, listening

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.cli.broker_trial._LONGEST_S", PATIENCE_S)


async def tried(url: str, folder: Path) -> dict[str, Finding]:
    settings = Config(mqtt_url=url, data=folder, operator_verbs=True)
    found = [each async for each in try_broker(settings, Address.parse(url))]
    named: dict[str, Finding] = {}
    for each in found:
        named.setdefault(each.what.removeprefix("broker: ")[:14].strip(), each)
    return named


async def test_a_broker_that_gives_all_is_praised_and_left_as_it_was(
    broker: Mosquitto, tmp_path: Path
) -> None:
    found = await tried(broker.url, tmp_path)
    assert "mosquitto 2" in found["name"].what
    for name, text in {
        "MQTT": " 5",
        "packets": "at most 33554432 bytes",
        "size": "8388608 bytes at QoS 0 are delivered",
        "QoS": "at most 1",
        "retained": "also for wildcards",
        "order": "kept",
        "properties": "pass",
    }.items():
        assert found[name].what.endswith(text), found[name]
    assert not any(each.advice for each in found.values())
    async with Peer(broker.url) as later:
        await later.subscribe("comfy2mqtt/#")
        await later.subscribe("comfy2mqtt/end")
        later.publish("comfy2mqtt/end", b"")
        await later.next("comfy2mqtt/end")
        assert {each.topic for each in later.messages} == {"comfy2mqtt/end"}


async def test_what_an_acl_forbids_and_what_is_dropped_is_named(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(
        "topic readwrite comfy2mqtt/bridge/#\ntopic read comfy2mqtt/client/+/request/#\n"
    )
    settings = f"""
        listener {{port}} 127.0.0.1
        allow_anonymous true
        acl_file {tmp_path}/acl
        message_size_limit 300000
        retain_available false
    """
    async with Configured(tmp_path, settings) as broker:
        found = await tried(broker.url, tmp_path)
    assert found["name"].what.endswith("not known")
    assert "1048576 bytes at QoS 0 are silently dropped" in found["size"].what
    assert "nothing is" in found["retained"].what
    assert "verb `workflows`" in found["retained"].advice
    assert not found["publish"].good


@pytest.mark.parametrize(
    ("limits", "name", "text"),
    [
        (PROFILES["rabbitmq"], "retained", "not sent to filters with a wildcard"),
        (PROFILES["nanomq"], "order", "not kept"),
        (PROFILES["aws"], "session", "kept for 3600 s"),
        (PROFILES["aws"], "size", "the broker disconnects at 149"),
        ({"filters_in_all": 2}, "subscribe", "client/+/request/#: quota exceeded"),
        ({"connack": NO_WILDCARDS}, "subscribe", "wildcard subscriptions not supported"),
        ({"mqtt_5": "refuse"}, "MQTT", "3.1.1"),
    ],
)
async def test_each_limit_is_named(
    limits: dict[str, object], name: str, text: str, broker: Mosquitto, tmp_path: Path
) -> None:
    async with StrictProxy(broker.url, **limits) as proxy:  # type: ignore[arg-type]
        found = await tried(proxy.url, tmp_path)
    assert text in found[name].what
    assert found[name].good is (name != "subscribe")
    assert found[name].advice


async def test_a_broker_is_tested_over_websocket_however_slow_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # mosquitto 2.0.11 sends 40 kB a second there: a larger message would take half a minute.
    monkeypatch.setattr("bridge.cli.broker_trial._LONGEST_S", 0.0)
    monkeypatch.setattr("bridge.cli.broker_trial._SIZES", (160 * 1024, 1024 * 1024))
    port = free_port()
    settings = SETTINGS.format(websocket=port, largest=LARGEST_PACKET)
    async with Configured(tmp_path, settings):
        await listening(port)
        found = await tried(f"ws://127.0.0.1:{port}/mqtt", tmp_path)
    assert "mosquitto 2" in found["name"].what
    assert found["MQTT"].what.endswith(" 5")
    assert found["size"].what.endswith("163840 bytes at QoS 0 are delivered")
    assert "too slow to test more" in found["size"].advice
    assert found["order"].what.endswith("kept")
    assert all(each.good for each in found.values())


@pytest.mark.parametrize("limits", [PROFILES["rabbitmq"], {"connack": NO_RETAIN}])
async def test_a_bridge_is_asked_what_the_broker_does_not_send(
    limits: dict[str, object], broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.cli.doctor._RETAINED_S", 3.0)
    monkeypatch.setattr("bridge.cli.doctor._ANSWER_S", PATIENCE_S)
    topics = Topics()
    order, answer = topics.command("health_check"), topics.command_response("health_check")
    comfyui = ComfyUIState(state="ready", since=0.0, restarts=0)
    report = HealthReport(
        healthy=True,
        version="1",
        paused=False,
        queued=0,
        running=0,
        succeeded=0,
        failed=0,
        comfyui={"default": comfyui},
    )
    async with (
        StrictProxy(broker.url, **limits) as proxy,  # type: ignore[arg-type]
        Peer(broker.url) as bridge,
        Connection(Address.parse(proxy.url), manual_ack=False) as connection,
    ):

        async def answering() -> None:
            await bridge.next(order)
            bridge.publish(answer, encode({"ok": True, "data": report}))

        await bridge.subscribe(order)
        if limits is PROFILES["rabbitmq"]:
            bridge.publish(topics.state, b"online", retain=True)
            await bridge.subscribe(topics.state)
            await bridge.next(topics.state)
        answers = asyncio.create_task(answering())
        found = [each.what async for each in explain_bridge(connection, topics)]
        await answers
    assert found == ["its ComfyUI 'default' is ready"]


async def test_the_doctor_reports_the_health_of_each_bridge_of_a_group(broker: Mosquitto) -> None:
    topics = Topics()
    well = BridgeHealth(at=0, queued=1, running=0, accepted=0, succeeded=0, failed=0)
    held = replace(well, held="the disk is full")
    async with (
        Peer(broker.url) as bridge,
        Connection(Address.parse(broker.url), manual_ack=False) as connection,
    ):
        await bridge.subscribe(topics.comfyui("+"))
        bridge.publish(topics.state, b"online", retain=True)
        for topic in (topics.health, topics.member_health("a")):
            bridge.publish(topic, encode(well), retain=True)
        bridge.publish(topics.member_health("b"), encode(held), retain=True)
        comfyui = ComfyUIState(state="ready", since=0.0, restarts=0)
        bridge.publish(topics.comfyui("b-default"), encode(comfyui), retain=True)
        await bridge.next(topics.comfyui("b-default"))
        found = [each.what async for each in explain_bridge(connection, topics)]
    assert found == [
        "b: its queue starts no job: the disk is full",
        "its ComfyUI 'b-default' is ready",
    ]
