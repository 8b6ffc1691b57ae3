"""The automations of the pages, word for word, in a real Home Assistant with the real bridge.

Run by `tests/peers/test_homeassistant_pages.py`; nothing of MQTT is replaced.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components import mqtt
from homeassistant.components.media_source import async_resolve_media
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import parse_yaml
from PIL import Image
from pytest_homeassistant_custom_component.common import async_mock_service
from real_run import _state, add_task, control, house, set_up, until

__all__ = ["house"]  # a fixture
DOCS = Path(__file__).parents[3] / "docs"
PAGES = ("home-assistant.md", "quick-start-home-assistant.md")
DONE = "event.comfy2mqtt_demo_done"


def automations(page: str) -> dict[str, dict[str, Any]]:
    """Return a page's automations by their names; other YAML of a page is a card."""
    blocks = re.findall(
        r"^```yaml\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    )
    found = [block for each in blocks if "alias" in (block := parse_yaml(each))]
    return {each["alias"]: each for each in found}


async def set_up_page(house: HomeAssistant, page: str) -> dict[str, str]:
    """Set up the page's automations and turn them on; returns their entities by their names."""
    config = list(automations(page).values())
    assert await async_setup_component(house, "automation", {"automation": config})
    await house.async_block_till_done()
    states = house.states.async_all("automation")
    # One that is not accepted is there, and unavailable.
    assert [each.state for each in states] == ["on"] * len(config)
    return {each.name: each.entity_id for each in states}


async def call(house: HomeAssistant, action: str, **data: Any) -> None:
    domain, _, name = action.partition(".")
    await house.services.async_call(domain, name, data, blocking=True)


async def add_cameras(house: HomeAssistant, *names: str) -> None:
    """Put cameras on the broker, each with a picture."""
    data = io.BytesIO()
    Image.new("RGB", (320, 240), "red").save(data, "JPEG")
    for name in names:
        config = {"name": None, "unique_id": name, "topic": name}
        config["default_entity_id"] = f"camera.{name}"
        # Retained: the camera subscribes a moment later.
        await mqtt.async_publish(house, name, data.getvalue(), retain=True)
        await mqtt.async_publish(house, f"homeassistant/camera/{name}/config", json.dumps(config))
        await until(house, lambda name=name: _state(house, f"camera.{name}"))
        shown: Any = house.data["entity_components"]["camera"].get_entity(f"camera.{name}")
        await until(house, lambda shown=shown: shown._last_image)


def size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


@pytest.mark.parametrize("page", PAGES)
async def test_each_morning_has_a_picture(house: HomeAssistant, page: str) -> None:
    for entity in (DONE, "notify.comfy2mqtt_demo_prompt", "button.comfy2mqtt_demo_run"):
        await until(house, lambda entity=entity: _state(house, entity) == "unknown")
    house.states.async_set("weather.home", "rainy")
    entities = await set_up_page(house, page)
    await call(house, "automation.trigger", entity_id=entities["A picture for the morning"])
    await until(house, lambda: _state(house, DONE) != "unknown")
    done = house.states.get(DONE)
    assert done is not None
    assert done.attributes["event_type"] == "succeeded"
    inputs = await control(f"inputs {done.attributes['job_id']}")
    assert inputs["prompt"].startswith("rainy over the ")
    image: Any = house.data["entity_components"]["image"].get_entity("image.comfy2mqtt_demo_image")
    assert size(await until(house, lambda: image._last_image))[0] > 64


async def test_a_game_has_the_gpu(house: HomeAssistant) -> None:
    switch, game = "switch.comfy2mqtt_yielded_default", "binary_sensor.gaming_pc_game"
    house.states.async_set(game, "off")
    await until(house, lambda: _state(house, switch) == "off")
    await set_up_page(house, PAGES[0])
    for state in ("on", "off"):
        house.states.async_set(game, state)
        await until(house, lambda state=state: _state(house, switch) == state)


async def test_a_camera_becomes_a_picture_that_the_phone_and_the_frame_get(
    house: HomeAssistant,
) -> None:
    await until(house, lambda: _state(house, "button.comfy2mqtt_img2img_run"))
    await add_task(house, await set_up(house), "img2img", name="Woodcut")
    await add_cameras(house, "door", "garden")
    sent = async_mock_service(house, "notify", "mobile_app_phone")
    played = async_mock_service(house, "media_player", "play_media")
    house.states.async_set("binary_sensor.doorbell", "off")
    entities = await set_up_page(house, PAGES[0])

    house.states.async_set("binary_sensor.doorbell", "on")
    await until(house, lambda: sent)
    link = sent[0].data["data"]["image"]
    assert re.match(r"/[\w/.-]+\?authSig=", link)

    await call(house, "automation.trigger", entity_id=entities["The garden in the evening"])
    await until(house, lambda: played)
    assert played[0].data["entity_id"] == ["media_player.frame"]
    media = await async_resolve_media(house, played[0].data["media_content_id"], None)
    assert media.mime_type == played[0].data["media_content_type"]
