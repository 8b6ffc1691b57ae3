"""Triggers, with what real devices say, and the tables of docs/triggers.md."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server
from tests.support.documents import blocks
from tests.support.peer import Peer, no_more
from tests.support.tcpproxy import TcpProxy

JOBS = "comfy2mqtt/client/triggers/job/+"
IMAGE = "comfy2mqtt/display/hall/image"
# How a PUBLISH begins at QoS 1, not retained.
QOS1_PUBLISH = b"\x32"
# As Zigbee2MQTT 2 publishes a button: what it did, among how it is.
BUTTON = {"action": "single", "battery": 97, "linkquality": 87, "voltage": 3000}


def demo() -> dict[str, Any]:
    """Takes a prompt, like the demo, and is done at once."""
    text = {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "value": ""}}
    return {**graphs.colour(0x00FF00), "9": text}


def img2img() -> dict[str, Any]:
    graph: dict[str, Any] = {**graphs.echo(), "9": demo()["9"]}
    graph["1"]["inputs"]["name"] = "image"
    return graph


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def seen(kind: str, event: str, camera: str = "front") -> dict[str, Any]:
    """A message of Frigate 0.14 on `frigate/events`, without the fields that nobody asks for."""
    after = {
        "id": event,
        "camera": camera,
        "label": "person",
        "top_score": 0.8,
        "has_snapshot": True,
    }
    return {"type": kind, "before": {**after, "has_snapshot": False}, "after": after}


@pytest.fixture
async def bridge(bridges: StartBridge, comfyui: Server) -> BridgeProcess:
    """A bridge with the tables of docs/triggers.md in its file."""
    process: BridgeProcess = await bridges(
        workflows={"demo": demo(), "img2img": img2img()},
        start=False,
        comfyui_url=comfyui.url,
        comfyui_secret=comfyui.secret,
    )
    file = process.folder / "comfy2mqtt.toml"
    file.write_text("\n".join(blocks("triggers.md", "toml")))
    await process.start()
    return process


@pytest.fixture
async def peer(broker: Mosquitto) -> AsyncIterator[Peer]:
    async with Peer(broker.url, client="triggers") as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/event")
        yield peer


@pytest.mark.comfyui
async def test_a_button_paints_a_picture_for_a_frame_that_wakes_later(
    bridge: BridgeProcess, broker: Mosquitto, peer: Peer
) -> None:
    topic = "zigbee2mqtt/hall_button"
    for other in ({"battery": 97}, {**BUTTON, "action": "double"}, {**BUTTON, "action": ""}):
        peer.publish(topic, other, qos=0)
    peer.publish(topic, BUTTON, qos=0, retain=True)
    peer.publish(topic, BUTTON, qos=0)  # bounced
    result = (await peer.next(f"{JOBS}/result")).json
    assert result["state"] == "succeeded", result
    assert result["inputs"]["prompt"] == "a surprise, as an oil painting"
    assert result["meta"] == {"trigger": "hall-button", "topic": topic}
    assert result["shown"]["topic"] == IMAGE
    with no_more(peer, f"{JOBS}/status"):
        # What the broker has retained is old: it fires nothing, also not after a restart.
        await bridge.stop()
        await bridge.start()
        async with Peer(broker.url) as frame:
            await frame.subscribe(IMAGE)
            picture = await frame.next(IMAGE)
        assert picture.retain
        with Image.open(io.BytesIO(picture.payload)) as found:
            assert found.convert("RGB").getpixel((0, 0)) == (0, 255, 0)
    (listed,) = (await peer.ask("list"))["data"]["jobs"]
    assert listed["job_id"] == result["job_id"]


@pytest.mark.comfyui
@pytest.mark.parametrize("first", ["picture", "event"])
async def test_a_doorbell_has_the_picture_that_belongs_to_it(
    bridge: BridgeProcess, peer: Peer, first: str
) -> None:
    assert bridge.pid

    def ring() -> None:
        peer.publish("frigate/events", seen("new", "1607.1-abc", camera="back"), qos=0)
        peer.publish("frigate/events", seen("new", "1607.2-def"), qos=0)
        peer.publish("frigate/events", seen("update", "1607.2-def"), qos=0)

    snapshot = "frigate/front/person/snapshot"
    if first == "picture":
        # Frigate retains them, and publishes the best one again.
        peer.publish(snapshot, jpeg("blue"), qos=0, retain=True)
        peer.publish(snapshot, jpeg("red"), qos=0, retain=True)
        ring()
    else:
        ring()
        await peer.job("1607_2-def", "status", lambda message: message.json["state"] == "waiting")
        peer.publish(snapshot, jpeg("red"), qos=0, retain=True)
    result = await peer.result("1607_2-def")
    assert result["state"] == "succeeded", result
    assert result["inputs"]["prompt"] == "a watercolour"
    output = await peer.job("1607_2-def", "output/0")
    with Image.open(io.BytesIO(output.payload)) as found:
        red, green, blue = found.convert("RGB").getpixel((5, 5))  # type: ignore[misc] # of RGB, three
        assert (red > 200, green < 50, blue < 50) == (True, True, True)
    # Frigate tells of the same visit again: it is one job.
    peer.publish("frigate/events", seen("new", "1607.2-def"), qos=1)
    assert len((await peer.ask("list"))["data"]["jobs"]) == 1
    assert not peer.all("comfy2mqtt/bridge/event")


@pytest.mark.broker
async def test_of_several_pictures_the_newest_replaces_what_has_not_ended(
    detached: StartBridge, peer: Peer
) -> None:
    """And a message that matches two filters, and is an input besides, fires once."""
    garden = {"name": "garden", "workflow": "echo", "replace": True}
    inputs = {"picture": {"payload": True}}
    bridge = await detached(
        {"echo": graphs.echo()},
        trigger=[
            {**garden, "topic": "cameras/garden", "inputs": inputs, "job_id": "@"},
            {**garden, "name": "never", "topic": "cameras/+", "when": "@ == 'never'"},
        ],
        clients={"triggers": {"input_topics": ["cameras/#"]}},
    )
    for colour in ("red", "green", "blue"):
        peer.publish("cameras/garden", jpeg(colour))
    jobs = [(await peer.next(f"{JOBS}/status")).json["job_id"] for _ in range(3)]
    assert len(set(jobs)) == 3
    for job_id in jobs[:2]:
        assert (await peer.result(job_id))["state"] == "cancelled"
    # What waits is known after a restart, too.
    await bridge.kill()
    await bridge.start(ready=False)
    await bridge.ready("unreachable")
    peer.publish("cameras/garden", jpeg("white"))
    assert (await peer.result(jobs[2]))["state"] == "cancelled"
    assert len((await peer.ask("list"))["data"]["jobs"]) == 4


@pytest.mark.broker
async def test_a_message_that_the_broker_delivers_again_runs_once(
    detached: StartBridge, broker: Mosquitto, peer: Peer
) -> None:
    async with TcpProxy(broker.url) as proxy:
        bridge = await detached(
            {"demo": demo()},
            trigger=[{"name": "button", "topic": "buttons/+", "workflow": "demo"}],
            mqtt_url=proxy.url.replace("http://", "mqtt://"),
        )
        proxy.swallow_request(QOS1_PUBLISH)  # its status, which goes before its PUBACK
        peer.publish("buttons/one", BUTTON)
        await proxy.was_closed()
        peer.publish("buttons/two", BUTTON)
        two = await peer.next(f"{JOBS}/status", lambda message: b"buttons/two" in message.payload)
        assert two.json["state"] == "queued"
        assert len((await peer.ask("list"))["data"]["jobs"]) == 2
        assert re.search(r"buttons/one, \d+ bytes, redelivered$", bridge.log, re.MULTILINE)


@pytest.mark.broker
async def test_what_goes_wrong_with_a_message_is_an_event(
    detached: StartBridge, peer: Peer
) -> None:
    text = {"workflow": "demo", "inputs": {"prompt": {"path": "words"}}}
    await detached(
        {"demo": demo()},
        trigger=[
            {"name": "wrong", "topic": "a/b", **text},
            {"name": "gone", "topic": "a/c", **text, "workflow": "gone"},
        ],
    )
    peer.publish("a/b", {"words": [1]})
    peer.publish("a/c", {"words": "good"})
    for trigger, code in (("wrong", "invalid_input"), ("gone", "unknown_workflow")):
        event = (await peer.next("comfy2mqtt/bridge/event")).json
        assert event["type"] == "trigger_failed"
        assert (event["data"]["trigger"], event["data"]["code"]) == (trigger, code)
    assert not peer.all(f"{JOBS}/#")


@pytest.mark.broker
async def test_a_trigger_that_could_feed_itself_stops_the_start(
    bridges: StartBridge,
) -> None:
    table = {"name": "loop", "topic": "+/client/+/job/+/result", "workflow": "demo"}
    bridge = await bridges(
        workflows={"demo": demo()}, start=False, comfyui_url="http://127.0.0.1:9", trigger=[table]
    )
    await bridge.start(ready=False)
    assert await bridge.wait() != 0
    assert "trigger.loop.topic:" in bridge.log
    assert "Traceback" not in bridge.log
