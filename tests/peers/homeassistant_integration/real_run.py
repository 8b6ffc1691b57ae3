"""The integration in a real Home Assistant, at a real broker, with the real bridge and ComfyUI.

Run by `tests/peers/test_homeassistant_integration.py`; nothing of MQTT is replaced.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DOMAIN
from homeassistant.components import mqtt
from homeassistant.config_entries import SOURCE_USER, ConfigEntry, ConfigEntryState
from homeassistant.const import MATCH_ALL
from homeassistant.core import Event, HomeAssistant, State, callback
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.setup import async_setup_component
from PIL import Image
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.comfy2mqtt.const import EVENT

PORT = int(os.environ["COMFY2MQTT_TEST_BROKER"])
CONTROL = int(os.environ.get("COMFY2MQTT_TEST_CONTROL", "0"))
# The name and password of Home Assistant's user, where the broker wants one.
SIGN_IN = {
    field: os.environ[variable]
    for field, variable in (
        ("username", "COMFY2MQTT_TEST_USER"),
        ("password", "COMFY2MQTT_TEST_PASSWORD"),
    )
    if variable in os.environ
}
TIMEOUT_S = 60.0


@pytest.fixture
async def house(home: HomeAssistant, socket_enabled: None) -> AsyncIterator[HomeAssistant]:
    """Home Assistant with its MQTT integration at the broker."""
    (Path(home.config.config_dir) / "configuration.yaml").touch()
    entry = MockConfigEntry(
        domain=mqtt.DOMAIN,
        data={"broker": "127.0.0.1", "port": PORT, "protocol": "5", **SIGN_IN},
        # Home Assistant fails to publish it where the broker restarts at that moment.
        options={mqtt.CONF_BIRTH_MESSAGE: {}},
        version=1,
        minor_version=2,
    )
    entry.add_to_hass(home)
    assert await home.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.LOADED
    yield home
    for each in home.config_entries.async_entries(DOMAIN):
        await home.config_entries.async_unload(each.entry_id)
    await home.config_entries.async_unload(entry.entry_id)


async def until(home: HomeAssistant, wanted: Callable[[], Any]) -> Any:
    """Wait until something is there. That a card is shown is no event: it is looked for."""
    changed = asyncio.Event()

    @callback  # else it would be called in a thread
    def notice(_: Event[Any]) -> None:
        changed.set()

    stop = home.bus.async_listen(MATCH_ALL, notice)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := wanted()):
                changed.clear()
                home.loop.call_later(0.1, changed.set)
                await changed.wait()
    finally:
        stop()
    return found


async def control(order: str) -> Any:
    """Ask the test that runs this one to do something to the bridge; returns once it is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", CONTROL)
    writer.write(f"{order}\n".encode())
    answer = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answer


async def card(house: HomeAssistant) -> str:
    """Return the flow behind the card of the bridge that was found."""
    flows = house.config_entries.flow
    (found,) = await until(house, lambda: flows.async_progress_by_handler(DOMAIN))
    return str(found["flow_id"])


async def set_up(house: HomeAssistant) -> ConfigEntry:
    """Click on the card."""
    result = await house.config_entries.flow.async_configure(await card(house), {})
    assert result["type"] == "create_entry", result
    await house.async_block_till_done()
    (entry,) = house.config_entries.async_entries(DOMAIN)
    return entry


async def add_task(house: HomeAssistant, entry: ConfigEntry, workflow: str, **options: Any) -> None:
    """Pick a workflow as an AI task."""
    subentries = house.config_entries.subentries
    place, source = (entry.entry_id, "ai_task"), {"source": SOURCE_USER}
    flow = await subentries.async_init(place, context=source)
    flow = await subentries.async_configure(flow["flow_id"], {"workflow": workflow})
    result = await subentries.async_configure(flow["flow_id"], options)
    assert result["type"] == "create_entry", result
    await house.async_block_till_done()


async def camera(house: HomeAssistant) -> None:
    """Put a camera on the broker, with a picture."""
    config = {
        "name": None,
        "unique_id": "door",
        "topic": "door",
        "default_entity_id": "camera.door",
    }
    await mqtt.async_publish(house, "homeassistant/camera/door/config", json.dumps(config))
    await until(house, lambda: _state(house, "camera.door"))
    data = io.BytesIO()
    Image.new("RGB", (320, 240), "red").save(data, "JPEG")
    # Retained: the camera subscribes a moment later.
    await mqtt.async_publish(house, "door", data.getvalue(), retain=True)
    shown: Any = house.data["entity_components"]["camera"].get_entity("camera.door")
    await until(house, lambda: shown._last_image)


def task(house: HomeAssistant, name: str) -> str:
    found = [each for each in house.states.async_entity_ids("ai_task") if each.endswith(name)]
    assert len(found) == 1, house.states.async_entity_ids()
    return found[0]


async def generate(house: HomeAssistant, name: str, **data: Any) -> dict[str, Any]:
    """Call `ai_task.generate_image`, and return its answer with the picture."""
    found: Any = await house.services.async_call(
        "ai_task",
        "generate_image",
        {"task_name": name, "instructions": "a red barn", "entity_id": task(house, name), **data},
        blocking=True,
        return_response=True,
    )
    place = found["media_source_id"].removeprefix("media-source://ai_task/image/")
    kept = Path(house.config.media_dirs["local"]) / "ai_task" / "image" / place
    with Image.open(io.BytesIO(kept.read_bytes())) as picture:
        return {**found, "picture": (picture.format, picture.size)}


async def surprised(house: HomeAssistant) -> None:
    """Press discovery's button for four pictures at once, each with a seed of its own."""
    ended: list[str] = []

    @callback
    def count(event: Event[Any]) -> None:
        ended.append(event.data["job_id"])

    stop = house.bus.async_listen(EVENT, count)
    button = {"entity_id": "button.comfy2mqtt_home_surprise"}
    await house.services.async_call("button", "press", button, blocking=True)
    await until(house, lambda: len(ended) == 4)
    stop()
    assert len({(await control(f"inputs {each}"))["seed"] for each in ended}) == 4


async def test_from_the_card_to_pictures_and_away_again(house: HomeAssistant) -> None:
    entry = await set_up(house)
    for workflow, name in (("home", "Painter"), ("photo", "Echo"), ("slow", "Slow")):
        await add_task(house, entry, workflow, name=name, timeout=60)
    entities = entity_registry.async_get(house)

    # A picture of words.
    found = await generate(house, "painter")
    assert found["picture"] == ("PNG", (64, 64))
    assert (found["model"], found["width"]) == ("home", 64)

    # A camera's picture becomes another.
    await camera(house)
    attached = [
        {
            "media_content_id": "media-source://camera/camera.door",
            "media_content_type": "image/jpeg",
        }
    ]
    found = await generate(house, "echo", attachments=attached)
    assert found["picture"] == ("PNG", (320, 240))

    # A script uses what the action of a workflow gives.
    script = {
        "paint": {
            "sequence": [
                {
                    "action": f"{DOMAIN}.run_home",
                    "data": {"prompt": "a boat", "strength": 0.25, "style": "ink"},
                    "response_variable": "made",
                },
                {"event": "painted", "event_data": {"job": "{{ made.job_id }}"}},
            ]
        }
    }
    assert await async_setup_component(house, "script", {"script": script})
    painted: list[str] = []

    @callback
    def take(event: Event[Any]) -> None:
        painted.append(event.data["job"])

    house.bus.async_listen("painted", take)
    await house.services.async_call("script", "paint", blocking=True)
    await until(house, lambda: painted)
    inputs = await control(f"inputs {painted[0]}")
    assert (inputs["prompt"], inputs["strength"], inputs["style"]) == ("a boat", 0.25, "ink")
    jobs: Any = await house.services.async_call(
        DOMAIN, "list", {"workflow": "home"}, blocking=True, return_response=True
    )
    assert [each["state"] for each in jobs["jobs"]] == ["succeeded"] * 2

    await surprised(house)

    # The bridge dies in the middle of a job, and comes back: the task gets its picture.
    running = asyncio.create_task(generate(house, "slow"))
    await until(house, lambda: entry.runtime_data.running)
    await control("kill")
    await until(house, lambda: _state(house, task(house, "slow")) == "unavailable")
    await control("start")
    assert (await running)["picture"][0] == "PNG"
    await until(house, lambda: _state(house, task(house, "slow")) != "unavailable")

    # A refusal says why.
    with pytest.raises(Exception, match="image"):
        await generate(house, "echo")

    # Discovery announces the same workflows: they are the same devices.
    devices = device_registry.async_get(house)
    ours = device_registry.async_entries_for_config_entry(devices, entry.entry_id)
    assert not [each for each in ours if each.model == "Workflow"]
    known = entities.async_get(task(house, "painter"))
    assert known is not None
    device = devices.async_get(known.device_id or "")
    assert device is not None
    assert (mqtt.DOMAIN, "comfy2mqtt-workflow-home") in device.identifiers

    # Removed, nothing of it stays.
    await house.config_entries.async_remove(entry.entry_id)
    await house.async_block_till_done()
    assert not [each for each in entities.entities.values() if each.platform == DOMAIN]
    assert not device_registry.async_entries_for_config_entry(devices, entry.entry_id)


def _state(house: HomeAssistant, entity: str) -> str | None:
    found: State | None = house.states.get(entity)
    return None if found is None else found.state
