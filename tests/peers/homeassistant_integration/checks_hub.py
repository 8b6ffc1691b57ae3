"""A bridge's life here: set up, away, back, removed; its pictures, events and diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import INFO, PNG, FakeBridge
from homeassistant.components import media_source, mqtt
from homeassistant.components.image import async_get_image
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry, issue_registry
from pytest_homeassistant_custom_component.common import MockConfigEntry
from seen import ENDED, PICTURE, issues, settled, state

from custom_components.comfy2mqtt.diagnostics import async_get_config_entry_diagnostics


async def test_without_mqtt_or_a_bridge_it_is_tried_again(
    home: HomeAssistant, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.READY_S", 1.0)
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    entry = entry_with()
    entry.add_to_hass(home)
    await home.config_entries.async_setup(entry.entry_id)
    assert (entry.state, entry.error_reason_translation_key) == (
        ConfigEntryState.SETUP_RETRY,
        "not_available",
    )
    bridge.client = "other"
    bridge.come()
    await home.config_entries.async_reload(entry.entry_id)
    assert entry.error_reason_translation_key == "no_answer"
    (broker,) = home.config_entries.async_entries(mqtt.DOMAIN)
    await home.config_entries.async_remove(broker.entry_id)
    await home.config_entries.async_reload(entry.entry_id)
    assert entry.error_reason_translation_key == "no_mqtt"


async def test_a_job_that_ends_is_an_event_a_picture_and_acknowledged(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    assert state(home, ENDED).state == "unknown"
    bridge.end("j1")
    await settled(home)
    event = state(home, ENDED).attributes
    assert (event["event_type"], event["job_id"]) == ("succeeded", "j1")
    place = f"media-source://comfy2mqtt/{loaded.entry_id}/demo/j1/0"
    assert event["outputs"][0]["media_content_id"] == place
    assert (await async_get_image(home, PICTURE)).content == PNG
    assert bridge.asked("ack") == [
        {"up_to": 1, "transaction": bridge.asked("ack")[0]["transaction"]}
    ]
    # It is fetched once, however often it is looked at.
    fetches = len(bridge.asked("fetch"))
    await async_get_image(home, PICTURE)
    assert len(bridge.asked("fetch")) == fetches
    # A result that comes again is the same one; a failed job leaves the picture as it is.
    before = state(home, ENDED).state
    bridge.fire("client/homeassistant/job/j1/result", bridge.jobs[0]["result"])
    assert state(home, ENDED).state == before
    error = {"code": "timeout", "message": "too long"}
    bridge.end("j2", state="failed", error=error)
    await settled(home)
    assert state(home, ENDED).attributes["code"] == "timeout"
    assert (await async_get_image(home, PICTURE)).content == PNG


async def test_of_two_pictures_in_a_row_the_later_one_stays(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.end("j1")
    asked = home.async_create_task(async_get_image(home, PICTURE))
    while not bridge.asked("fetch"):
        await home.async_add_executor_job(int)
    bridge.outputs = [("image", "image/jpeg", b"\xff\xd8later")]
    bridge.end("j2")
    await settled(home)
    # The first one's bytes, which come now, do not count as the second's.
    with pytest.raises(HomeAssistantError):
        await asked
    found = await async_get_image(home, PICTURE)
    assert (found.content, found.content_type) == (b"\xff\xd8later", "image/jpeg")


async def test_a_picture_that_is_kept_no_longer_is_none(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    with pytest.raises(HomeAssistantError):
        await async_get_image(home, PICTURE)
    bridge.end("j1")
    bridge.errors["fetch"] = {"code": "expired", "message": "kept no longer"}
    with pytest.raises(HomeAssistantError):
        await async_get_image(home, PICTURE)


async def test_what_a_display_shows_is_a_picture(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.fire("display/hall/image", PNG, retain=True)
    await home.async_block_till_done()
    entity = "image.the_bridge_display_hall"
    assert (await async_get_image(home, entity)).content_type == "image/png"
    bridge.fire("display/hall/image", b"BMxx", retain=True)
    assert (await async_get_image(home, entity)).content_type == "image/bmp"
    bridge.fire("display/hall/image", b"", retain=True)
    assert state(home, entity).state == "unavailable"
    with pytest.raises(HomeAssistantError):
        await async_get_image(home, entity)


async def test_what_cannot_be_read_is_passed_over(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for topic in (
        "workflow/demo",
        "bridge/info",
        "bridge/comfyui/default",
        "bridge/choices/styles",
        "client/homeassistant/response/list",
        "client/homeassistant/job/j1/result",
    ):
        for payload in ("{", "[]", "7"):
            bridge.fire(topic, payload)
    for topic, payload in {
        "workflow/demo": {"name": "demo", "inputs": [], "outputs": []},
        "bridge/info": {"name": "x", "version": "1", "contract": "no number"},
        "bridge/choices/styles": {"choices": 7},
        "client/homeassistant/response/list": {"status": "error", "error": "a text"},
        "client/homeassistant/job/j1/result": {"job_id": "j1"},
    }.items():
        bridge.fire(topic, payload)
    await home.async_block_till_done()
    assert loaded.runtime_data.workflows["demo"].title == "Demo"
    assert caplog.text.count("comfy2mqtt/workflow/demo: ") == 4
    assert "Traceback" not in caplog.text


async def test_removed_it_leaves_no_trace(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    hass_storage: dict[str, Any],
    tmp_path: Path,
) -> None:
    bridge.end("j1")
    await settled(home)
    place = f"media-source://{DOMAIN}/{loaded.entry_id}/demo/j1/0"
    await media_source.async_resolve_media(home, place, None)
    cache = tmp_path / ".cache" / DOMAIN
    assert list(cache.rglob("*.png"))
    assert await home.config_entries.async_unload(loaded.entry_id)
    assert f"{DOMAIN}.{loaded.entry_id}" in hass_storage
    issue_registry.async_create_issue(
        home,
        DOMAIN,
        f"{loaded.entry_id}-contract-",
        is_fixable=False,
        severity=issue_registry.IssueSeverity.ERROR,
        translation_key="contract",
    )
    await home.config_entries.async_remove(loaded.entry_id)
    await home.async_block_till_done()
    assert f"{DOMAIN}.{loaded.entry_id}" not in hass_storage
    assert not cache.exists()
    assert issues(home) == set()
    assert not [each for each in home.services.async_services().get(DOMAIN, {}) if "run_" in each]
    assert not [
        each
        for each in entity_registry.async_get(home).entities.values()
        if each.platform == DOMAIN
    ]


async def test_diagnostics_hold_no_prompt_and_no_name(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    task = {"workflow": "demo", "inputs": {"prompt": "a secret"}}
    entry = await set_up(home, bridge, entry_with(task))
    release = {"installed": "0.3.1", "error": "/home/anna/comfyui: no space left"}
    comfyui = {"state": "ready", "last_error": "/home/anna/x", "release": release}
    bridge.fire("bridge/comfyui/default", comfyui)
    bridge.fire("bridge/info", {**INFO, "name": "anna's bridge", "page": "http://anna/"})
    hooks = {"anna's lamp": {"state": "idle", "error": "http://anna:secret@lamp"}}
    bridge.fire("bridge/health", {"hooks": hooks, "store": "s3://secret"})
    bridge.end("j1", inputs={"prompt": "a secret"})
    found = await async_get_config_entry_diagnostics(home, entry)
    for secret in ("secret", "homeassistant", "anna"):
        assert secret not in str(found)
    assert found["workflows"]["demo"]["inputs"]["prompt"] == "text"
    assert found["info"]["contract"] == 1
    assert found["health"] == {"store_works": False, "held": False, "failed_hooks": 1}
    assert found["comfyui"]["default"]["release"]["installed"] == "0.3.1"
