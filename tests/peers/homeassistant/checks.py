"""A real bridge in the real Home Assistant; run by `tests/peers/test_homeassistant.py`.

In an environment of its own, with Home Assistant's own test harness. Its MQTT integration is at
the test's broker, and nothing of it is replaced.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components import mqtt
from homeassistant.components.camera import async_get_image
from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import Event, HomeAssistant, State, callback
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import parse_yaml
from PIL import Image
from pytest_homeassistant_custom_component.common import MockConfigEntry

PORT = int(os.environ["COMFY2MQTT_TEST_BROKER"])
CONTROL = int(os.environ["COMFY2MQTT_TEST_CONTROL"])
TIMEOUT_S = 60.0
HOME = "comfy2mqtt_home"
TRIGGER = "device_automation"

Announced = dict[str, dict[str, Any]]


@pytest.fixture
async def home(
    hass: HomeAssistant, socket_enabled: None, tmp_path: Path
) -> AsyncIterator[HomeAssistant]:
    """Home Assistant, with its MQTT integration at the broker, and all that was announced."""
    assert socket_enabled is None
    hass.config.config_dir = str(tmp_path)
    (tmp_path / "configuration.yaml").touch()
    entry = MockConfigEntry(
        domain=mqtt.DOMAIN,
        data={"broker": "127.0.0.1", "port": PORT, "protocol": "5"},
        version=1,
        minor_version=2,
    )
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.LOADED
    await all_there(hass)
    yield hass
    await hass.async_block_till_done()


async def announced(hass: HomeAssistant, devices: int = 4) -> Announced:
    """The bridge's announcements: its devices' configurations by topic."""
    found: Announced = {}
    came = asyncio.Event()

    @callback  # else it would be called in a thread
    def take(message: mqtt.ReceiveMessage) -> None:
        found[message.topic] = json.loads(message.payload)
        came.set()

    stop = await mqtt.async_subscribe(hass, "homeassistant/device/+/config", take)
    async with asyncio.timeout(TIMEOUT_S):
        while len(found) < devices:
            came.clear()
            await came.wait()
    stop()
    return found


async def all_there(hass: HomeAssistant) -> None:
    """Wait until everything that is announced is there."""
    for device in (await announced(hass)).values():
        for component in device["components"].values():
            is_entity = component["platform"] != TRIGGER
            if is_entity and component.get("enabled_by_default", True) and len(component) > 1:
                await until(
                    hass,
                    component["default_entity_id"],
                    lambda state: state.state != "unavailable",
                )


async def until(
    hass: HomeAssistant, entity: str, wanted: Callable[[State], bool] = lambda _: True
) -> State:
    """Wait until an entity is there, and as wanted."""
    changed = asyncio.Event()

    @callback
    def notice(_: Event[Any]) -> None:
        changed.set()

    stop = hass.bus.async_listen("state_changed", notice)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                changed.clear()
                state = hass.states.get(entity)
                if state is not None and wanted(state):
                    return state
                await changed.wait()
    except TimeoutError:
        found = "\n".join(f"{each.entity_id} {each.state}" for each in hass.states.async_all())
        raise AssertionError(f"{entity}: {hass.states.get(entity)}; there are\n{found}") from None
    finally:
        stop()


async def is_now(hass: HomeAssistant, entity: str, state: str) -> State:
    return await until(hass, entity, lambda found: found.state == state)


async def call(hass: HomeAssistant, service: str, entity: str, **data: Any) -> None:
    domain, _, name = service.partition(".")
    await hass.services.async_call(domain, name, {"entity_id": entity, **data}, blocking=True)


async def control(order: str) -> Any:
    """Ask the test that runs this one to do something to the bridge; returns once it is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", CONTROL)
    writer.write(f"{order}\n".encode())
    answer = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answer


async def pressed(hass: HomeAssistant, name: str = HOME) -> dict[str, Any]:
    """Press a workflow's button, and wait for the event of its end."""
    done = f"event.{name}_done"
    before = hass.states.get(done)
    assert before is not None
    await call(hass, "button.press", f"button.{name}_run")
    found = await until(hass, done, lambda state: state.state != before.state)
    return dict(found.attributes)


def picture(hass: HomeAssistant, entity: str) -> tuple[Any, Any]:
    """Return an image entity's size and colour."""
    shown = hass.data["entity_components"]["image"].get_entity(entity)
    assert shown is not None
    assert shown.content_type == "image/jpeg"
    with Image.open(io.BytesIO(shown._last_image)) as found:
        assert found.format == "JPEG"
        return found.size, found.getpixel((1, 1))


async def test_every_component_becomes_an_entity_and_none_of_its_keys_is_dropped(
    home: HomeAssistant,
) -> None:
    entities, devices = entity_registry.async_get(home), device_registry.async_get(home)
    found = await announced(home)
    for config in found.values():
        device = devices.async_get_device({(mqtt.DOMAIN, config["device"]["identifiers"][0])})
        assert device is not None
        assert device.name == config["device"]["name"]
        for key, component in config["components"].items():
            platform = component["platform"]
            if platform == TRIGGER:
                continue
            entity = entities.async_get_entity_id(platform, mqtt.DOMAIN, component["unique_id"])
            assert entity == component["default_entity_id"], key
            module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
            given = {name: value for name, value in component.items() if name != "platform"}
            read = module.DISCOVERY_SCHEMA({**given, "device": config["device"]})
            # Known from 2025.10 on; until then it is `object_id`.
            assert set(given) - set(read) == {"default_entity_id"}, key
    known = {
        component["platform"]
        for each in found.values()
        for component in each["components"].values()
    }
    assert known == {
        "binary_sensor",
        "button",
        "camera",
        TRIGGER,
        "event",
        "image",
        "notify",
        "number",
        "select",
        "sensor",
        "switch",
        "text",
    }


async def test_what_is_set_here_is_used_when_the_button_is_pressed(home: HomeAssistant) -> None:
    values = {
        "prompt": ("text.set_value", "text", "a lighthouse", "a lighthouse"),
        "colour": ("number.set_value", "number", 0x00FF00, str(0x00FF00)),
        "strength": ("number.set_value", "number", 0.25, "0.25"),
        "style": ("select.select_option", "select", "ink", "ink"),
        "seed": ("number.set_value", "number", 2**32 - 1, str(2**32 - 1)),
    }
    for name, (service, platform, value, shown) in values.items():
        entity = f"{platform}.{HOME}_{name}"
        await call(home, service, entity, **{"option" if platform == "select" else "value": value})
        await is_now(home, entity, shown)
    await call(home, "switch.turn_on", f"switch.{HOME}_upscale")
    await is_now(home, f"switch.{HOME}_upscale", "on")
    await is_now(home, f"binary_sensor.{HOME}_busy", "off")
    done = await pressed(home)
    assert done["event_type"] == "succeeded"
    size, colour = picture(home, f"image.{HOME}_image")
    assert size == (64, 64)
    assert (colour[0] < 5, colour[1] > 250) == (True, True)
    await is_now(home, f"sensor.{HOME}_state", "succeeded")
    await is_now(home, f"sensor.{HOME}_progress", "100")
    await is_now(home, f"sensor.{HOME}_queue", "0")
    inputs = await control(f"inputs {done['job_id']}")
    assert inputs == {
        "prompt": "a lighthouse",
        "colour": 0x00FF00,
        "strength": 0.25,
        "style": "ink",
        "seed": 2**32 - 1,
        "upscale": True,
    }


async def test_a_long_prompt_goes_by_notify_and_is_shown_cut(home: HomeAssistant) -> None:
    prompt = "a lighthouse, " * 50
    await call(home, "notify.send_message", f"notify.{HOME}_prompt", message=prompt)
    shown = await until(home, f"text.{HOME}_prompt", lambda state: state.state.endswith("…"))
    assert len(shown.state) == 255
    assert (await pressed(home))["event_type"] == "succeeded"


async def test_the_automations_of_the_page_do_what_they_say(home: HomeAssistant) -> None:
    text = (Path(__file__).parents[3] / "docs" / "home-assistant.md").read_text()
    pages = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    # Others are cards of a dashboard.
    config = [found for each in pages if "alias" in (found := parse_yaml(each))]
    home.states.async_set("binary_sensor.gaming_pc_game", "off")
    assert await async_setup_component(home, "automation", {"automation": config})
    done = home.states.get("event.comfy2mqtt_demo_done")
    assert done is not None
    await call(home, "automation.trigger", "automation.a_picture_for_the_morning")
    await until(home, done.entity_id, lambda state: state.state != done.state)
    prompt = await until(home, "text.comfy2mqtt_demo_prompt")
    assert prompt.state.endswith(" over the old town, a watercolour")
    comfyui = "sensor.comfy2mqtt_comfyui_default"
    for game, state in (("on", "yielded"), ("off", "ready")):
        home.states.async_set("binary_sensor.gaming_pc_game", game)
        await is_now(home, comfyui, state)
    for automation in home.states.async_entity_ids("automation"):
        await call(home, "automation.turn_off", automation)


async def test_a_refused_job_says_why(home: HomeAssistant) -> None:
    done = await pressed(home, "comfy2mqtt_photo")  # which needs a picture
    assert done["event_type"] == "refused"
    assert done["code"] == "invalid_input"
    assert "image" in done["message"]
    await is_now(home, "sensor.comfy2mqtt_photo_message", done["message"])
    # Its text says where the picture comes from.
    await call(home, "text.set_value", "text.comfy2mqtt_photo_image", value="cameras/door")
    done = await pressed(home, "comfy2mqtt_photo")
    assert (done["event_type"], done["code"]) == ("refused", "forbidden")


async def test_a_running_job_shows_its_progress_and_previews(home: HomeAssistant) -> None:
    camera = "camera.comfy2mqtt_demo_preview"
    entry: ConfigEntry = home.config_entries.async_entries(mqtt.DOMAIN)[0]
    entities = entity_registry.async_get(home)
    known = entities.async_get(camera)
    assert known is not None
    assert known.disabled_by is entity_registry.RegistryEntryDisabler.INTEGRATION
    entities.async_update_entity(camera, disabled_by=None)
    assert await home.config_entries.async_reload(entry.entry_id)
    await until(home, camera, lambda state: state.state != "unavailable")
    await is_now(home, "sensor.comfy2mqtt_demo_queue", "0")
    await call(home, "number.set_value", "number.comfy2mqtt_demo_steps", value=100)
    await is_now(home, "number.comfy2mqtt_demo_steps", "100")
    await call(home, "button.press", "button.comfy2mqtt_demo_run")
    await is_now(home, "binary_sensor.comfy2mqtt_demo_busy", "on")
    await is_now(home, "sensor.comfy2mqtt_demo_state", "running")
    await until(home, "sensor.comfy2mqtt_demo_progress", lambda state: 0 < float(state.state) < 100)
    await is_now(home, "sensor.comfy2mqtt_demo_state", "succeeded")
    await is_now(home, "binary_sensor.comfy2mqtt_demo_busy", "off")
    preview = await async_get_image(home, camera)
    with Image.open(io.BytesIO(preview.content)) as found:
        assert found.size[0] > 0


async def test_all_is_unavailable_while_the_bridge_is_away_and_then_as_it_was(
    home: HomeAssistant,
) -> None:
    await call(home, "number.set_value", f"number.{HOME}_colour", value=0x0000FF)
    assert (await pressed(home))["event_type"] == "succeeded"
    await control("kill")
    await is_now(home, "binary_sensor.comfy2mqtt_connectivity", "off")
    for entity in (f"number.{HOME}_colour", f"image.{HOME}_image", "sensor.comfy2mqtt_version"):
        await is_now(home, entity, "unavailable")
    await control("start")
    await all_there(home)
    await is_now(home, "binary_sensor.comfy2mqtt_connectivity", "on")
    await is_now(home, f"number.{HOME}_colour", str(0x0000FF))
    await is_now(home, "sensor.comfy2mqtt_comfyui_default", "ready")
    assert picture(home, f"image.{HOME}_image")[1][2] > 250
    assert float((await until(home, "sensor.comfy2mqtt_memory")).state) > 1.0


async def test_a_workflow_that_cannot_run_is_unavailable_alone(home: HomeAssistant) -> None:
    await control("break")
    await is_now(home, f"button.{HOME}_run", "unavailable")
    await is_now(home, "sensor.comfy2mqtt_demo_state", "idle")
    await control("mend")
    await until(home, f"button.{HOME}_run", lambda state: state.state != "unavailable")


async def test_the_bridges_own_device_gives_an_operators_commands(home: HomeAssistant) -> None:
    state = "sensor.comfy2mqtt_comfyui_default"
    await is_now(home, state, "ready")
    yielded, paused = "switch.comfy2mqtt_yielded_default", "switch.comfy2mqtt_paused"
    await is_now(home, yielded, "off")
    await call(home, "switch.turn_on", yielded)
    await is_now(home, state, "yielded")
    await is_now(home, yielded, "on")
    await call(home, "switch.turn_off", yielded)
    await is_now(home, state, "ready")
    await call(home, "switch.turn_on", paused)
    await is_now(home, paused, "on")
    await call(home, "button.press", f"button.{HOME}_run")
    await is_now(home, f"sensor.{HOME}_queue", "1")
    await is_now(home, f"sensor.{HOME}_state", "queued")
    await until(home, f"sensor.{HOME}_message", lambda found: "paused" in found.state)
    await call(home, "switch.turn_off", paused)
    await is_now(home, paused, "off")
    await is_now(home, f"sensor.{HOME}_state", "succeeded")


async def test_what_goes_is_removed_and_what_stays_keeps_its_ids(home: HomeAssistant) -> None:
    entities, devices = entity_registry.async_get(home), device_registry.async_get(home)
    before = {each.unique_id: each.entity_id for each in entities.entities.values()}
    gone = {
        unique_id
        for unique_id in before
        if unique_id.endswith(("-style", "-prompt")) and "-home-" in unique_id
    }
    gone |= {unique_id for unique_id in before if "-photo-" in unique_id}
    assert len(gone) > 10
    assert devices.async_get_device({(mqtt.DOMAIN, "comfy2mqtt-workflow-photo")})
    # An input, while the bridge runs.
    await control("drop style")
    await until_gone(home, f"select.{HOME}_style")
    # Another input, and a whole workflow, while it does not.
    await control("stop")
    await control("drop prompt")
    await control("delete photo")
    await control("start")
    for entity in (f"text.{HOME}_prompt", f"notify.{HOME}_prompt", "image.comfy2mqtt_photo_image"):
        await until_gone(home, entity)
    await home.async_block_till_done()
    after = {each.unique_id: each.entity_id for each in entities.entities.values()}
    assert after == {key: entity for key, entity in before.items() if key not in gone}
    assert devices.async_get_device({(mqtt.DOMAIN, "comfy2mqtt-workflow-photo")}) is None


async def until_gone(hass: HomeAssistant, entity: str) -> None:
    changed = asyncio.Event()

    @callback
    def notice(_: Event[Any]) -> None:
        changed.set()

    stop = hass.bus.async_listen("entity_registry_updated", notice)
    entities = entity_registry.async_get(hass)
    async with asyncio.timeout(TIMEOUT_S):
        while entities.async_get(entity) is not None:
            changed.clear()
            await changed.wait()
    stop()
