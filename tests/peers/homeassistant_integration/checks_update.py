"""The releases of a ComfyUI that the bridge manages: what is known of them, and installing one."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import DOMAIN
from fake_bridge import FakeBridge
from homeassistant.components.update import DOMAIN as UPDATE
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry
from pytest_homeassistant_custom_component.common import MockConfigEntry
from seen import settled, state

RELEASE = "update.the_bridge_comfyui_default"
VERB = "comfyui/update"
ATTRIBUTES = ("installed_version", "latest_version", "in_progress", "release_summary")


async def report_release(home: HomeAssistant, bridge: FakeBridge, **release: Any) -> None:
    """Publish a state of the ComfyUI that says this of its releases."""
    shown = {"state": "ready", "since": 1, "restarts": 0, "release": release}
    bridge.fire("bridge/comfyui/default", shown, retain=True)
    await settled(home)


def shown(home: HomeAssistant) -> list[Any]:
    found = state(home, RELEASE)
    return [found.state, *(found.attributes[each] for each in ATTRIBUTES)]


async def install(home: HomeAssistant, **data: Any) -> None:
    entity = {"entity_id": RELEASE, **data}
    await home.services.async_call(UPDATE, "install", entity, blocking=True)


async def test_releases_are_shown_once_they_are_looked_for(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    assert home.states.get(RELEASE) is None
    await report_release(home, bridge, installed="0.9.0")
    assert shown(home) == ["unknown", "0.9.0", None, False, None]
    url = "https://example.org/v0.10.0"
    await report_release(home, bridge, installed="0.9.0", latest="0.10.0", url=url, looked_at=1.0)
    assert shown(home) == ["on", "0.9.0", "0.10.0", False, None]
    assert state(home, RELEASE).attributes["release_url"] == url
    assert state(home, RELEASE).attributes["title"] == "ComfyUI"
    await report_release(home, bridge, installed="0.9.0", latest="0.10.0", step="draining")
    assert shown(home) == ["on", "0.9.0", "0.10.0", True, None]
    await report_release(
        home, bridge, installed="0.9.0", latest="0.10.0", error="it does not start"
    )
    assert shown(home) == ["on", "0.9.0", "0.10.0", False, "it does not start"]
    await report_release(home, bridge, installed="0.10.0", latest="0.10.0")
    assert shown(home) == ["off", "0.10.0", "0.10.0", False, None]
    # A bridge that looks no longer, and one that is away, say nothing.
    state_alone = {"state": "ready", "since": 1, "restarts": 0}
    bridge.fire("bridge/comfyui/default", state_alone, retain=True)
    await settled(home)
    assert state(home, RELEASE).state == "unavailable"
    entities = entity_registry.async_get(home)
    known = entities.async_get_entity_id(UPDATE, DOMAIN, "comfy2mqtt-bridge-release-default")
    assert known == RELEASE


async def test_a_release_is_installed_by_an_operators_command(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await report_release(home, bridge, installed="0.9.0", latest="0.10.0")
    await install(home)
    await install(home, version="0.8.0")
    orders = [
        {key: value for key, value in data.items() if key != "transaction"}
        for verb, data in bridge.requests
        if verb == VERB
    ]
    assert orders == [{"instance": "default"}, {"instance": "default", "version": "0.8.0"}]


async def test_why_a_release_is_not_installed_is_shown(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await report_release(home, bridge, installed="0.9.0", latest="0.10.0")
    bridge.errors[VERB] = {"code": "conflict", "message": "another release is being installed"}
    with pytest.raises(HomeAssistantError, match="another release is being installed"):
        await install(home)
    # A broker that keeps users apart does not let it through.
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    bridge.silent[VERB] = 1
    with pytest.raises(HomeAssistantError, match="has to be an operator"):
        await install(home)
