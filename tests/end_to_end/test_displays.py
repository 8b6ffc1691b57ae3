"""Displays: the last picture waits for whoever comes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import image, our_output
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.comfyui

FRAME = {"name": "frame", "clients": ["alice"], "width": 32, "dither": "black-white-red"}
TOPIC = "comfy2mqtt/display/frame/image"
RED = 0xFF0000


async def woken(broker: Mosquitto, topic: str = TOPIC) -> Message:
    """Return what a frame finds that wakes now."""
    async with Peer(broker.url) as frame:
        await frame.subscribe(topic)
        message = await frame.next(topic)
        assert message.retain
        return message


def pixel(message: Message) -> Any:
    with Image.open(io.BytesIO(message.payload)) as picture:
        assert message.properties["ContentType"] == "image/png"
        return picture.size, picture.convert("RGB").getpixel((0, 0))


async def test_a_picture_waits_for_a_display_in_its_form_and_outlives_broker_and_bridge(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"colour": graphs.colour()}, display=[FRAME])
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/colour/j1", {"colour": RED, "$show": "frame"})
        result = await peer.result("j1")
        assert result["shown"] == {"display": "frame", "topic": TOPIC}
        assert (await peer.job("j1", "output/0")).payload  # which is as ComfyUI made it
        assert result["outputs"][0]["width"] == 64
        found = await woken(broker)
        assert pixel(found) == ((32, 32), (255, 0, 0))
        assert found.user.items() >= {"job_id": "j1", "workflow": "colour", "width": "32"}.items()
        # The same again, to a broker that has lost it.
        await bridge.stop()
        peer.publish(TOPIC, b"", retain=True)
        await bridge.start()
        assert (await woken(broker)).payload == found.payload
        # The display is gone, and with it its picture.
        await bridge.stop()
        bridge.settings["display"] = [{**FRAME, "name": "other"}]
        await bridge.start()
        await peer.subscribe("comfy2mqtt/display/#", "comfy2mqtt/bridge/info")
        await peer.next("comfy2mqtt/bridge/info")
        assert not peer.all("comfy2mqtt/display/#")


async def test_only_who_may_shows_and_the_setting_is_named(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached(
        {"colour": graphs.colour()},
        display=[{"name": "frame"}, {"name": "kitchen", "clients": ["*"]}],
        clients={"bob": {"displays": ["fra*"]}},
        public_url="https://studio.example/",
    )
    async with Peer(broker.url) as alice, Peer(broker.url, client="bob") as bob:
        for peer in (alice, bob):
            await peer.listen()
        refused = (await alice.ask("run/colour/a1", {"$show": "frame"}))["error"]
        assert refused["code"] == "forbidden"
        assert refused["details"]["setting"] == "clients.alice.displays"
        unknown = (await bob.ask("run/colour/b0", {"$show": "attic", "$dry_run": True}))["error"]
        assert unknown["code"] == "bad_request"
        assert unknown["details"]["allowed"] == ["frame", "kitchen"]
        for peer, display in ((bob, "frame"), (alice, "kitchen")):
            peer.request("run/colour/ok", {"$show": display})
            shown = (await peer.result("ok"))["shown"]
            assert shown["display"] == display
            assert shown["url"] == f"https://studio.example/d/{display}.png"
            url = f"comfy2mqtt/display/{display}/url"
            await alice.subscribe(url)
            assert (await alice.next(url)).payload.decode() == shown["url"]
        await alice.subscribe("comfy2mqtt/bridge/info")
        info = (await alice.next("comfy2mqtt/bridge/info")).json
        assert info["page"] == "https://studio.example/"


async def test_a_picture_that_the_broker_would_not_take_is_reported_and_not_published(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached(
        {"noise": our_output(image(size=128)), "colour": graphs.colour()},
        display=[{"name": "frame", "clients": ["*"]}],
        max_packet=5000,
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/event", TOPIC)
        peer.request("run/colour/small", {"$show": "frame"})
        kept = await peer.next(TOPIC)
        peer.request("run/noise/large", {"$show": "frame"})
        result = await peer.result("large")
        assert result["state"] == "succeeded"
        shown = result["shown"]
        assert (shown["display"], shown["error"]["code"]) == ("frame", "too_large")
        assert shown["error"]["details"]["limit"] == 5000
        event = await peer.next("comfy2mqtt/bridge/event", lambda m: b"display" in m.payload)
        assert event.json["type"] == "display_failed"
        assert event.json["data"]["job_id"] == "large"
        assert (await woken(broker)).payload == kept.payload
