"""Automations with what the integration gives, in a whole Home Assistant; and its removal.

The bridge, its ComfyUI and the broker are real, and discovery is off, so that every device is the
integration's own. Home Assistant is a process of its own, and is asked as its pages ask it.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.peers.homeassistant_integration.environment import Place
from tests.peers.homeassistant_integration.server import Server, serving, set_up
from tests.peers.test_homeassistant import home, photo
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Graph
from tests.support.peer import Peer

pytestmark = [pytest.mark.peers, pytest.mark.comfyui, pytest.mark.timeout(900)]

PAGE = Path("docs") / "home-assistant.md"
SIZE = (320, 240)
# A phone and a player, as the page's automations have them; the player tells what it is to play.
CONFIGURATION = """\
media_player:
  - platform: universal
    name: Frame
    commands:
      play_media:
        action: mqtt.publish
        data: {topic: test/frame, payload: "{{ media_content_id }}"}
notify:
  - platform: group
    name: mobile_app_phone
    services: [{action: persistent_notification}]
"""
FRAME = {"name": "frame", "clients": ["homeassistant"], "width": 32}


def img2img() -> Graph:
    """A picture and a prompt in, the picture out."""
    prompt = {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "value": ""}}
    return {**photo(), "11": prompt}


def words() -> Graph:
    """A text in, JSON out, by ComfyUI's own nodes."""

    def joined(first: Any, second: Any) -> dict[str, Any]:
        inputs = {"string_a": first, "string_b": second, "delimiter": ""}
        return {"class_type": "StringConcatenate", "inputs": inputs}

    return {
        "1": {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "value": ""}},
        "2": joined('{"mood": "', ["1", 0]),
        "3": joined(["2", 0], '", "stars": 4}'),
        "4": {"class_type": "Comfy2MQTTTextOutput", "inputs": {"text": ["3", 0], "name": "words"}},
    }


def automations_of_the_page() -> str:
    """Return the automations of the page's part about the integration, as a file has them."""
    part = PAGE.read_text().partition("\n## The integration\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```yaml\n(alias:.*?)^```$", part, re.DOTALL | re.MULTILINE)
    assert len(found) == 2
    indented = (each.replace("\n", "\n  ").rstrip() for each in found)
    return "".join(f"- id: page{number}\n  {each}\n" for number, each in enumerate(indented))


async def a_house(peer: Peer) -> None:
    """Put a doorbell and two cameras on the broker."""
    data = io.BytesIO()
    Image.new("RGB", SIZE, "red").save(data, "JPEG")
    for kind, name, topic in (
        ("camera", "door", "topic"),
        ("camera", "garden", "topic"),
        ("binary_sensor", "doorbell", "state_topic"),
    ):
        entity = {"unique_id": name, "default_entity_id": f"{kind}.{name}", topic: f"test/{name}"}
        peer.publish(f"homeassistant/{kind}/{name}/config", {"name": name, **entity}, retain=True)
        # Retained: Home Assistant subscribes a moment after it discovered a camera.
        state = data.getvalue() if kind == "camera" else b"OFF"
        peer.publish(f"test/{name}", state, retain=True)


async def pictured(server: Server, url: str) -> tuple[int, int]:
    """Return the size of the picture at a link, which whoever has it may follow."""
    with Image.open(io.BytesIO(await server.body("GET", url, signed_in=False))) as picture:
        return picture.size


async def test_automations_use_what_workflows_make_and_after_its_removal_nothing_is_left(
    place: Place, attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    workflows = {"img2img": img2img(), "home": home(), "words": words()}
    bridge: BridgeProcess = await attached(workflows, display=[FRAME])
    assert broker.port is not None
    log = tmp_path / "home.log"
    with place.sources() as sources:
        async with (
            serving(place, sources, log, configuration=CONFIGURATION) as server,
            Peer(broker.url, client="homeassistant") as peer,
        ):
            await peer.subscribe("test/#")
            await a_house(peer)
            await set_up(server, broker.port, discovery=False)
            await server.add_task("img2img", "woodcut")
            await server.add_task("words", "Words")
            (sources / "automations.yaml").write_text(automations_of_the_page())
            await server.call("automation.reload")
            await the_visitor_is_a_woodcut(server, peer)
            await the_garden_is_on_the_frame(server, peer)
            await one_picture_is_made_of_another(server, peer)
            await a_text_has_the_structure_that_was_asked_for(server)
            await devices_have_triggers_and_conditions(server, bridge, peer)
            await results_are_in_the_media_browser(server)
            await pictures_are_shown(server, peer)
            await nothing_is_left(server, bridge, peer, sources)
    errors = [each for each in log.read_text(errors="replace").splitlines() if "ERROR" in each]
    assert not [each for each in errors if "comfy2mqtt" in each]


async def the_visitor_is_a_woodcut(server: Server, peer: Peer) -> None:
    """The page's first automation: who rings is a picture on the phone."""
    await server.until_state("binary_sensor.doorbell", "off")
    await server.until_state("ai_task.img2img_woodcut", "unknown")
    async with server.events("call_service") as called:
        peer.publish("test/doorbell", b"ON")
        while (call := await called())["service"] != "mobile_app_phone":
            pass
    assert await pictured(server, call["service_data"]["data"]["image"]) == SIZE
    notified = await server.until(lambda: server.command("persistent_notification/get"))
    assert "Somebody is at the door" in [each["message"] for each in notified]


async def the_garden_is_on_the_frame(server: Server, peer: Peer) -> None:
    """The page's second automation: a player is given what an action made."""
    entity = {"entity_id": "automation.the_garden_in_the_evening"}
    await server.call("automation.trigger", **entity)
    media = (await peer.next("test/frame")).payload.decode()
    assert media.startswith("media-source://comfy2mqtt/")
    found = await server.command("media_source/resolve_media", media_content_id=media)
    assert found["mime_type"] == "image/png"
    assert await pictured(server, found["url"]) == SIZE


async def one_picture_is_made_of_another(server: Server, peer: Peer) -> None:
    """The answer of a task is the input of an action, and its link is in a notification."""
    task = {
        "task_name": "door",
        "entity_id": "ai_task.img2img_woodcut",
        "instructions": "a woodcut",
        "attachments": {
            "media_content_id": "media-source://camera/camera.door",
            "media_content_type": "image/jpeg",
        },
    }
    again = {"prompt": "again", "image": "{{ first.media_source_id }}"}
    note = {"notification_id": "made", "message": "![]({{ first.url }})"}
    publish = {"topic": "test/made", "payload": "{{ second | to_json }}"}
    await server.automate(
        "chain",
        triggers=[],
        actions=[
            {"action": "ai_task.generate_image", "data": task, "response_variable": "first"},
            {"action": "comfy2mqtt.run_img2img", "data": again, "response_variable": "second"},
            {"action": "persistent_notification.create", "data": note},
            {"action": "mqtt.publish", "data": publish},
        ],
    )
    await server.call("automation.trigger", entity_id="automation.chain")
    made = (await peer.next("test/made")).json
    (output,) = made["outputs"]
    assert (made["state"], output["width"], output["height"]) == ("succeeded", *SIZE)
    notes = await server.command("persistent_notification/get")
    (text,) = [each["message"] for each in notes if each["notification_id"] == "made"]
    assert await pictured(server, text[4:-1]) == SIZE


async def a_text_has_the_structure_that_was_asked_for(server: Server) -> None:
    field = {"description": "how it is", "required": True}
    structure = {
        "mood": {**field, "selector": {"text": {}}},
        "stars": {**field, "selector": {"number": {}}},
    }
    task = {"task_name": "mood", "entity_id": "ai_task.words_words", "instructions": "calm"}
    found = await server.response("ai_task.generate_data", **task, structure=structure)
    assert found["data"] == {"mood": "calm", "stars": 4}
    found = await server.response("ai_task.generate_data", **task)
    assert json.loads(found["data"]) == {"mood": "calm", "stars": 4}


async def devices_have_triggers_and_conditions(
    server: Server, bridge: BridgeProcess, peer: Peer
) -> None:
    devices = await server.command("config/device_registry/list")
    by_name = {identifier: each["id"] for each in devices for _, identifier in each["identifiers"]}
    about = {"domain": "comfy2mqtt", "device_id": by_name["comfy2mqtt-workflow-home"]}
    of_bridge = {**about, "device_id": by_name["comfy2mqtt-bridge"]}

    async def offered(what: str, device: dict[str, str]) -> set[str]:
        kinds = f"device_automation/{what}/list"
        found = await server.command(kinds, device_id=device["device_id"])
        return {each["type"] for each in found if each["domain"] == "comfy2mqtt"}

    ends = {f"job_{end}" for end in ("succeeded", "failed", "cancelled", "expired")}
    assert await offered("trigger", about) == ends
    states = {"online", "offline", "busy", "idle"}
    assert await offered("trigger", of_bridge) == {f"bridge_{state}" for state in states}
    assert await offered("condition", of_bridge) == {f"is_{state}" for state in states}

    def publishes(payload: str) -> dict[str, Any]:
        return {"action": "mqtt.publish", "data": {"topic": "test/told", "payload": payload}}

    await server.automate(
        "ended",
        triggers=[{"trigger": "device", **about, "type": "job_succeeded"}],
        actions=[publishes("{{ trigger.event.data.job_id }}")],
    )
    for trigger in ("bridge_offline", "bridge_online"):
        await server.automate(
            trigger,
            triggers=[{"trigger": "device", **of_bridge, "type": trigger}],
            conditions=[{"condition": "device", **of_bridge, "type": f"is_{trigger[7:]}"}],
            actions=[publishes(trigger)],
        )
    found = await server.response("comfy2mqtt.run_home", prompt="a boat")
    assert (await peer.next("test/told")).payload.decode() == found["job_id"]
    await bridge.stop()
    assert (await peer.next("test/told")).payload == b"bridge_offline"
    await bridge.start()
    assert (await peer.next("test/told")).payload == b"bridge_online"
    assert len(peer.all("test/told")) == 3


async def results_are_in_the_media_browser(server: Server) -> None:
    async def inside(place: str) -> dict[str, str]:
        found = await server.command("media_source/browse_media", media_content_id=place)
        return {each["title"]: each["media_content_id"] for each in found["children"]}

    place = (await inside("media-source://"))["ComfyUI"]
    (bridge,) = (await inside(place)).values()
    workflows = await inside(bridge)
    assert set(workflows) == {"home", "img2img", "words"}
    ((title, media),) = (await inside(workflows["home"])).items()
    assert title.endswith("a boat")
    found = await server.command("media_source/resolve_media", media_content_id=media)
    assert await pictured(server, found["url"]) == (64, 64)


async def pictures_are_shown(server: Server, peer: Peer) -> None:
    """The image entities of a workflow and of a display have the same job's picture."""
    entities = await server.entities()
    picture = entities["workflow-home-picture"]["entity_id"]
    before = (await server.state(picture))["state"]
    await peer.listen()
    peer.request("run/home/shown", {"colour": 0x00FF00, "$show": "frame"})
    assert (await peer.result("shown"))["shown"]["display"] == "frame"

    async def display() -> Any:
        return (await server.entities()).get("bridge-display-frame")

    async def changed() -> bool:
        return bool((await server.state(picture))["state"] != before)

    display_entity = (await server.until(display))["entity_id"]
    await server.until(changed)
    for entity, size in ((picture, (64, 64)), (display_entity, (32, 32))):
        data = await server.body("GET", f"/api/image_proxy/{entity}")
        with Image.open(io.BytesIO(data)) as found:
            assert (found.size, found.convert("RGB").getpixel((1, 1))) == (size, (0, 255, 0))


async def nothing_is_left(server: Server, bridge: BridgeProcess, peer: Peer, home: Path) -> None:
    """Removed, it is as if it had never been there: also on disk, and after a restart."""
    entry = await server.entry()

    async def repairs() -> list[str]:
        found = (await server.command("repairs/list_issues"))["issues"]
        return [each["translation_key"] for each in found if each["domain"] == "comfy2mqtt"]

    (bridge.workflows / "words.json").unlink()
    assert await server.until(repairs) == ["workflow_gone"]
    assert list((home / ".cache" / "comfy2mqtt" / entry).iterdir())
    await server.ask("DELETE", f"/api/config/config_entries/entry/{entry}")
    assert not await server.entities()
    assert not await repairs()
    devices = await server.command("config/device_registry/list")
    assert not [each for each in devices if entry in each["config_entries"]]
    assert not [each for each in await server.ask("GET", "/api/states") if "img2img" in str(each)]
    assert not (home / ".cache" / "comfy2mqtt").exists()
    await server.stop()
    # For a while Home Assistant itself keeps the last states, and what automations have done.
    kept = {path.name for path in (home / ".storage").iterdir() if entry in path.read_text()}
    assert kept <= {"core.restore_state", "trace.saved_traces"}
    assert not list((home / ".storage").glob("comfy2mqtt*"))
    await peer.subscribe("comfy2mqtt/client/homeassistant/#", "homeassistant/#")
    await peer.ask("list")
    assert not [each for each in peer.all("comfy2mqtt/client/#") if each.retain]
    announced = {each.topic.split("/")[2] for each in peer.all("homeassistant/#")}
    assert announced == {"door", "garden", "doorbell"}

    # It is found again, as one that nobody knows.
    await server.start()

    async def found() -> Any:
        flows = await server.command("config_entries/flow/progress")
        return [each for each in flows if each["handler"] == "comfy2mqtt"]

    (card,) = await server.until(found)
    assert card["context"]["source"] == "mqtt"
    assert not await server.entities()
