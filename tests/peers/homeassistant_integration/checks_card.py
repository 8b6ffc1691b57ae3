"""The dashboard card's script and commands; what it looks like is for a browser to try."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import PNG, FakeBridge
from homeassistant.components import frontend
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.comfy2mqtt import card


@pytest.fixture
async def socket(home: HomeAssistant, hass_ws_client: Any, loaded: MockConfigEntry) -> Any:
    """A connection as a browser's; of `loaded` the commands are there."""
    return await hass_ws_client(home)


async def subscribe(socket: Any, kind: str, **fields: Any) -> dict[str, Any]:
    await socket.send_json_auto_id({"type": f"{DOMAIN}/{kind}", "workflow": "demo", **fields})
    return dict(await socket.receive_json())


async def event(socket: Any) -> dict[str, Any]:
    found = await socket.receive_json()
    assert found["type"] == "event", found
    return dict(found["event"])


async def test_the_script_is_served_and_loaded_by_dashboards(
    home: HomeAssistant, hass_client_no_auth: Any, bridge: FakeBridge
) -> None:
    home.config.components.add(frontend.DOMAIN)
    loaded_by_dashboards = home.data[frontend.DATA_EXTRA_MODULE_URL] = set()
    await set_up(home, bridge, entry_with())
    assert loaded_by_dashboards == {card.URL}
    answer = await (await hass_client_no_auth()).get(card.URL)
    assert answer.content_type == "text/javascript"
    assert 'customElements.define("comfy2mqtt-card"' in await answer.text()


async def test_a_workflow_is_followed_with_its_last_picture(
    home: HomeAssistant, bridge: FakeBridge, hass_client_no_auth: Any, socket: Any
) -> None:
    assert (await subscribe(socket, "workflow"))["success"]
    first = await event(socket)
    assert (first["title"], first["available"], first["picture"]) == ("Demo", True, None)
    assert first["prompt"] == {"name": "prompt", "title": "Prompt", "default": "a barn"}
    bridge.end("j1")
    link = (await event(socket))["picture"]
    # Signed: an <img> sends no token.
    answer = await (await hass_client_no_auth()).get(link)
    assert (answer.status, await answer.read()) == (200, PNG)
    bridge.leave()
    assert not (await event(socket))["available"]


async def test_a_job_is_followed_to_its_end(
    home: HomeAssistant, bridge: FakeBridge, socket: Any
) -> None:
    bridge.ends = False
    assert (await subscribe(socket, "run", inputs={"prompt": "a boat", "steps": 8.0}))["success"]
    job_id = (await event(socket))["job_id"]
    await home.async_block_till_done()
    (job,) = bridge.asked("submit")
    assert (job["job_id"], job["preview"]) == (job_id, True)
    assert job["inputs"] == {"prompt": "a boat", "steps": 8}
    place = f"client/homeassistant/job/{job_id}"
    bridge.fire(f"{place}/status", {"state": "running", "n": 1})
    bridge.fire(f"{place}/progress", {"percent": 40.0})
    bridge.fire(f"{place}/preview", PNG)
    bridge.fire(f"{place}/status", "{")
    bridge.end("other", state="failed")
    bridge.end(job_id, state="failed", error={"code": "timeout", "message": "too long"})
    assert await event(socket) == {"state": "running"}
    assert await event(socket) == {"percent": 40.0}
    picture = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert await event(socket) == {"preview": picture}
    assert await event(socket) == {"state": "failed", "message": "too long"}


async def test_what_is_refused_says_why(
    home: HomeAssistant, bridge: FakeBridge, socket: Any
) -> None:
    bridge.errors["submit"] = {"code": "invalid_input", "message": "too many steps"}
    await subscribe(socket, "run", inputs={}, workflow="no such")
    assert "job_id" in await event(socket)
    assert await event(socket) == {"state": "refused", "message": "too many steps"}
    # What Home Assistant says of it is said in the user's language.
    bridge.leave()
    await subscribe(socket, "run", inputs={})
    assert "job_id" in await event(socket)
    found = await event(socket)
    assert found["message"] == "The bridge comfy2mqtt is not available"
    assert (found["translation_domain"], found["translation_key"]) == (DOMAIN, "not_available")
    assert found["translation_placeholders"] == {"base": "comfy2mqtt"}


async def test_a_card_that_home_assistant_cannot_subscribe_for_leaves_nothing(
    loaded: MockConfigEntry, socket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **_more: Any) -> None:
        raise HomeAssistantError("MQTT is not set up")

    hub = loaded.runtime_data
    before = {what: len(each) for what, each in hub._listeners.items() if each}
    monkeypatch.setattr("custom_components.comfy2mqtt.card.mqtt.async_subscribe", refuse)
    assert not (await subscribe(socket, "workflow"))["success"]
    assert {what: len(each) for what, each in hub._listeners.items() if each} == before


async def test_a_bridge_that_is_not_set_up_is_an_error_and_one_that_goes_is_noticed(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry, socket: Any
) -> None:
    for kind, more in (("workflow", {}), ("run", {"inputs": {}})):
        answer = await subscribe(socket, kind, config_entry_id="none", **more)
        assert answer["error"]["code"] == "not_found"
        assert answer["error"]["translation_key"] == "no_entry"
    await subscribe(socket, "workflow")
    await event(socket)
    assert await home.config_entries.async_unload(loaded.entry_id)
    assert await event(socket) == {"ended": True}
