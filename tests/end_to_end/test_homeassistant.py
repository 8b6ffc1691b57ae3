"""Home Assistant's adapter, over plain MQTT; the real Home Assistant is in tests/peers."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from bridge.service.bridge_info import HEALTH_INTERVAL_S
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Message, Peer

TREE = "comfy2mqtt/homeassistant"
CONFIG = "homeassistant/device/comfy2mqtt-workflow-colour/config"


def is_new(message: Message) -> bool:
    return not message.retain


@pytest.mark.comfyui
async def test_a_press_runs_with_what_was_set_and_the_picture_is_there_for_later(
    attached: StartBridge, broker: Mosquitto
) -> None:
    settings = {"homeassistant": "true", "homeassistant_prefix": "ha/discovery"}
    bridge = await attached({"colour": graphs.colour()}, **settings)
    async with Peer(broker.url, client="homeassistant") as peer:
        await peer.listen()
        await peer.subscribe("ha/discovery/#", f"{TREE}/#")
        config = await peer.next("ha/discovery/device/comfy2mqtt-workflow-colour/config")
        assert config.json["components"]["number-colour"]["max"] == 0xFFFFFF
        # At once after each other, as an automation does it, and once more for good measure.
        peer.publish(f"{TREE}/colour/input/colour/set", str(0xFF0000))
        peer.publish(f"{TREE}/colour/input/size/set", "sixty")
        peer.publish(f"{TREE}/colour/input/none/set", "1")
        peer.publish(f"{TREE}/colour/run", "PRESS")
        done = (await peer.next(f"{TREE}/colour/done")).json
        assert done["event_type"] == "succeeded"
        assert not (await peer.next(f"{TREE}/colour/image")).retain
        result = (await peer.ask("status", done["job_id"]))["data"]["result"]
        assert result["inputs"] == {"colour": 0xFF0000, "size": 64}
        # Other clients' jobs are not Home Assistant's to see.
        async with Peer(broker.url) as alice:
            await alice.listen()
            alice.request("run/colour/a1")
            await alice.result("a1")
        await bridge.stop()
        peer.publish(f"{TREE}/colour/image", b"", retain=True)
        peer.publish(f"{TREE}/colour/input/colour", b"", retain=True)
        await bridge.start()
    async with Peer(broker.url) as later:
        await later.subscribe(f"{TREE}/#")
        image = await later.next(f"{TREE}/colour/image")
        assert image.retain
        assert image.properties["ContentType"] == "image/jpeg"
        with Image.open(io.BytesIO(image.payload)) as found:
            assert found.format == "JPEG"
            red, green, blue = found.getpixel((5, 5))  # type: ignore[misc] # of RGB, three
            assert (red > 250, green < 5, blue < 5) == (True, True, True)
        assert (await later.next(f"{TREE}/colour/input/colour")).payload == str(0xFF0000).encode()
        assert not later.all(f"{TREE}/colour/done")  # a retained event would be dropped


@pytest.mark.broker
async def test_what_is_gone_is_cleared_and_what_is_anothers_is_not(
    detached: StartBridge, broker: Mosquitto
) -> None:
    old = {"platform": "sensor", "unique_id": "x", "state_topic": f"{TREE}/gone/state"}
    available = [{"topic": "comfy2mqtt/bridge/state"}]
    other = {"components": {"a": old}, "availability": [{"topic": "zigbee2mqtt/bridge/state"}]}
    gone = "homeassistant/device/comfy2mqtt-workflow-gone/config"
    async with Peer(broker.url) as peer:
        ours = {"components": {"state": old}, "availability": available}
        shrunk = {
            "components": {"text-old": {**old, "platform": "text"}},
            "availability": available,
        }
        peer.publish(gone, ours, retain=True)
        peer.publish(f"{TREE}/gone/state", "idle", retain=True)
        peer.publish("homeassistant/device/0x00158d/config", other, retain=True)
        peer.publish("homeassistant/device/strange/config", b"\xff", retain=True)
        peer.publish(CONFIG, shrunk, retain=True)
        peer.publish(f"{TREE}/colour/run", "PRESS", retain=True)
        await peer.subscribe("homeassistant/#", f"{TREE}/#")
        await detached({"colour": graphs.colour()}, homeassistant="true")
        for topic in (gone, f"{TREE}/gone/state"):
            await peer.next(topic, lambda message: not message.payload)
        removed = await peer.next(
            CONFIG, lambda message: b'"text-old":{"platform"' in message.payload
        )
        assert next(iter(removed.json["components"])) == "text-old"
    async with Peer(broker.url, client="homeassistant") as later:
        await later.listen()
        await later.subscribe("homeassistant/#", f"{TREE}/#")
        await later.next(f"{TREE}/colour/state")
        kept = {message.topic for message in later.all("homeassistant/#")}
        assert {
            "homeassistant/device/0x00158d/config",
            "homeassistant/device/strange/config",
        } <= kept
        assert gone not in kept
        # The retained press has run nothing, nor does one that is published so.
        later.publish(f"{TREE}/colour/run", "PRESS", retain=True)
        assert (await later.ask("list"))["data"]["jobs"] == []


@pytest.mark.broker
async def test_home_assistants_birth_is_answered_with_all_there_is(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()}, homeassistant="true")
    async with Peer(broker.url) as peer:
        await peer.subscribe("homeassistant/#", f"{TREE}/#")
        await peer.next(CONFIG)
        peer.publish("homeassistant/status", "offline")
        peer.publish("homeassistant/status", "online")
        again: dict[str, Any] = (await peer.next(CONFIG, is_new)).json
        assert again["device"]["identifiers"] == ["comfy2mqtt-workflow-colour"]
        assert json.loads((await peer.next(f"{TREE}/colour/queue", is_new)).payload) == 0


@pytest.mark.broker
async def test_without_the_setting_nothing_is_announced(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.subscribe("homeassistant/#", f"{TREE}/#", "comfy2mqtt/bridge/info")
        await peer.next("comfy2mqtt/bridge/info")
        assert not peer.all("homeassistant/#")


@pytest.mark.broker
async def test_what_an_earlier_version_kept_in_a_file_is_set(
    detached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await detached({"colour": graphs.colour()}, homeassistant="true")
    await bridge.stop()
    file = bridge.folder / "data" / "homeassistant" / "inputs.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"colour": {"colour": 7}}')
    for _ in range(2):
        await bridge.start(ready=False)
        await bridge.ready("unreachable")
        async with Peer(broker.url) as peer:
            await peer.subscribe(f"{TREE}/#")
            await peer.next(f"{TREE}/colour/input/colour", lambda m: m.payload == b"7")
        assert [each.name for each in file.parent.glob("inputs*")] == ["inputs.json.in-journal"]
        await bridge.stop()


@pytest.mark.broker
async def test_a_switch_shows_its_state_at_once_and_as_it_changes(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()}, homeassistant="true")
    async with Peer(broker.url, client="homeassistant") as peer:
        await peer.subscribe("homeassistant/device/comfy2mqtt-bridge/config", "comfy2mqtt/bridge/#")
        config = await peer.next("homeassistant/device/comfy2mqtt-bridge/config")
        switch = config.json["components"]["paused"]
        # Sooner than it is published anyway.
        soon = HEALTH_INTERVAL_S / 3
        shown = await peer.next(switch["state_topic"], timeout_s=soon)
        assert shown.json["paused"] is False
        for payload, paused in (("payload_on", True), ("payload_off", False)):
            peer.publish(switch["command_topic"], switch[payload])

            def is_now(message: Message, wanted: bool = paused) -> bool:  # noqa: FBT001
                return message.json["paused"] is wanted

            await peer.next(switch["state_topic"], is_now, timeout_s=soon)


@pytest.mark.broker
async def test_turned_off_it_clears_all_that_it_has_announced(
    detached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await detached({"colour": graphs.colour()}, homeassistant="true")
    ours = ("homeassistant/#", f"{TREE}/#")
    async with Peer(broker.url) as peer:
        other = {"components": {}, "device": {"identifiers": ["lamp"]}}
        peer.publish("homeassistant/device/lamp/config", other, retain=True)
        peer.publish(f"{TREE}/colour/image", b"jpeg", retain=True)
        await peer.subscribe(*ours)
        await peer.next(CONFIG)
        await peer.next(f"{TREE}/colour/state")
        there = {each.topic for filter_ in ours for each in peer.all(filter_) if each.retain}
        assert {CONFIG, "homeassistant/device/comfy2mqtt-bridge/config"} <= there
        await bridge.stop()
        bridge.settings["homeassistant"] = "false"
        await bridge.start(ready=False)
        for topic in there - {"homeassistant/device/lamp/config"}:
            await peer.next(topic, lambda message: not message.payload)
    async with Peer(broker.url) as later:
        await later.subscribe(*ours, "comfy2mqtt/bridge/info")
        await later.next("comfy2mqtt/bridge/info")
        left = [each.topic for filter_ in ours for each in later.all(filter_)]
        assert left == ["homeassistant/device/lamp/config"]
