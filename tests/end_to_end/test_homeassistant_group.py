"""Home Assistant with several bridges: one announces, and a failover changes nothing."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.end_to_end.group import BRIDGE, Start, member
from tests.support.peer import Message, Peer

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]

TREE = "comfy2mqtt/homeassistant"
DEVICE = "homeassistant/device/comfy2mqtt-{}/config"
RED, GREEN = 0xFF0000, 0x00FF00


def pixel(message: Message) -> tuple[int, ...]:
    with Image.open(io.BytesIO(message.payload)) as found:
        return tuple(round(each / 255) for each in found.convert("RGB").getpixel((5, 5)))  # type: ignore[union-attr] # of RGB, three


def devices(peer: Peer) -> dict[str, Any]:
    """Return the components that are announced now, without the removed ones."""
    last = {each.topic: each for each in peer.all("homeassistant/device/+/config")}
    return {
        topic: {
            **each.json,
            "components": {
                key: value for key, value in each.json["components"].items() if len(value) > 1
            },
        }
        for topic, each in last.items()
    }


async def both_comfyuis(peer: Peer) -> dict[str, Any]:
    """Wait until those of both bridges are announced, and return the bridge's components."""
    config = await peer.next(
        DEVICE.format("bridge"),
        lambda m: {"comfyui-a-default", "comfyui-b-default"} <= set(m.json["components"]),
    )
    components: dict[str, Any] = config.json["components"]
    return components


async def done(peer: Peer, workflow: str, but: str | None = None) -> dict[str, Any]:
    """Return the next end of a job; `but` is one whose end may be published again.

    A bridge that takes over does not know what one that was killed had published at the last.
    """
    ended = await peer.next(f"{TREE}/{workflow}/done", lambda m: m.json["job_id"] != but)
    found: dict[str, Any] = ended.json
    return found


async def test_after_a_failover_devices_values_and_states_are_the_same(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    first = await start("a", homeassistant="true")
    await start("b", homeassistant="true")
    async with Peer(broker.url, client="homeassistant") as peer:
        await peer.listen()
        await peer.subscribe("homeassistant/#", f"{TREE}/#")
        await both_comfyuis(peer)
        peer.publish(f"{TREE}/colour/input/colour/set", str(RED))
        peer.publish(f"{TREE}/colour/run", "PRESS")
        earlier = await done(peer, "colour")
        assert earlier["event_type"] == "succeeded"
        assert pixel(await peer.next(f"{TREE}/colour/image")) == (1, 0, 0)
        before = devices(peer)

        await first.kill()
        await member(watcher, "a", b"offline")
        # It waits at the broker for whoever takes the requests next.
        peer.publish(f"{TREE}/colour/input/size/set", "128")
        peer.publish(f"{TREE}/colour/run", "PRESS")
        ended = await done(peer, "colour", but=earlier["job_id"])
        result = (await peer.ask("status", ended["job_id"]))["data"]["result"]
        assert result["inputs"] == {"colour": RED, "size": 128}
        assert result["instance"] == "b-default"
        assert devices(peer) == before
        jobs = {job["job_id"] for job in (await peer.ask("list"))["data"]["jobs"]}
        assert jobs == {earlier["job_id"], ended["job_id"]}
        assert jobs == {each.json["job_id"] for each in peer.all(f"{TREE}/colour/done")}

        # As one finds it that comes now.
        async with Peer(broker.url, client="later") as later:
            await later.subscribe("homeassistant/#", f"{TREE}/#")
            shown = await later.next(f"{TREE}/colour/input/colour")
            assert shown.payload == str(RED).encode()
            assert (await later.next(f"{TREE}/colour/state")).payload == b"succeeded"
            assert (await later.next(f"{TREE}/colour/queue")).payload == b"0"
            assert (await later.next(f"{TREE}/colour/busy")).payload == b"OFF"
            await later.next(f"{TREE}/colour/image")
            assert devices(later) == before


async def test_pictures_and_states_come_whichever_bridge_ran_the_job(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    for name in ("a", "b"):
        await start(name, homeassistant="true")
    async with Peer(broker.url, client="homeassistant") as peer:
        await peer.listen()
        await peer.subscribe("homeassistant/#", f"{TREE}/#")
        config = await both_comfyuis(peer)
        # The switch of one bridge's ComfyUI is answered by that bridge.
        for name, other in (("a", "b"), ("b", "a")):
            switch = config[f"yielded-{name}-default"]
            peer.publish(switch["command_topic"], switch["payload_on"])
            await watcher.next(switch["state_topic"], lambda m: m.json["state"] == "yielded")
            peer.publish(f"{TREE}/slow/run", "PRESS")
            ended = await done(peer, "slow")
            result = (await peer.ask("status", ended["job_id"]))["data"]["result"]
            assert result["instance"] == f"{other}-default"
            picture = await peer.next(f"{TREE}/slow/image")
            assert picture.user["job_id"] == ended["job_id"]
            peer.publish(switch["command_topic"], switch["payload_off"])
            await watcher.next(switch["state_topic"], lambda m: m.json["state"] == "ready")
        for state in (b"queued", b"running", b"succeeded"):
            assert state in {each.payload for each in peer.all(f"{TREE}/slow/state")}
        # The queue's switch shows what all bridges do.
        switch = config["paused"]
        peer.publish(switch["command_topic"], switch["payload_on"])
        await watcher.next(f"{BRIDGE}/health", lambda m: m.json["paused"])
        for _ in range(4):
            peer.publish(f"{TREE}/colour/run", "PRESS")
        await peer.next(f"{TREE}/colour/queue", lambda m: m.payload == b"4")
        peer.publish(switch["command_topic"], switch["payload_off"])
        for _ in range(4):
            await done(peer, "colour")
        await peer.next(f"{TREE}/colour/queue", lambda m: m.payload == b"0")
        assert len(peer.all(f"{TREE}/colour/done")) == 4
        assert len(peer.all(f"{TREE}/slow/done")) == 2


async def test_a_broker_that_lost_everything_gets_the_last_picture_of_any_bridge(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    frame = [{"name": "frame", "clients": ["homeassistant"]}]
    settings: dict[str, Any] = {"homeassistant": "true", "display": frame}
    for name in ("a", "b"):
        await start(name, **settings)
    async with Peer(broker.url, client="homeassistant") as peer:
        await peer.listen()
        await peer.subscribe(f"{TREE}/#")
        watcher.publish(f"{BRIDGE}/request/comfyui/yield", "a-default")
        await watcher.next(f"{BRIDGE}/comfyui/a-default", lambda m: m.json["state"] == "yielded")
        peer.publish(f"{TREE}/colour/input/colour/set", str(GREEN))
        peer.publish(f"{TREE}/colour/run", "PRESS")
        await done(peer, "colour")
        peer.request("run/colour/shown", {"colour": RED, "$show": "frame"})
        assert (await peer.result("shown"))["instance"] == "b-default"
    await broker.kill()
    (broker.folder / "mosquitto.db").unlink(missing_ok=True)
    await broker.start()
    async with Peer(broker.url, client="later") as later:
        await later.subscribe(f"{TREE}/#", "comfy2mqtt/display/#", "homeassistant/#")
        assert pixel(await later.next("comfy2mqtt/display/frame/image")) == (1, 0, 0)
        # The last job of Home Assistant's client was the one for the display.
        assert pixel(await later.next(f"{TREE}/colour/image")) == (1, 0, 0)
        shown = await later.next(f"{TREE}/colour/input/colour")
        assert shown.payload == str(GREEN).encode()
        await later.next(DEVICE.format("workflow-colour"))
