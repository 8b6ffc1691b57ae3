"""Repairs: what is a person's to put right, while it lasts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import INFO, PHOTO, FakeBridge
from homeassistant.components import mqtt
from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed
from seen import issues, placeholders_of, settled

from custom_components.comfy2mqtt.protocol.messages import RefusedError


async def test_what_is_a_persons_to_put_right_is_a_repair_while_it_lasts(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    assert issues(home) == set()
    crashed = {"state": "crash_loop", "last_error": "no CUDA", "since": 1, "restarts": 9}
    bridge.fire("bridge/comfyui/default", crashed, retain=True)
    lacks = {"nodes": ["KSampler"], "choices": [{"node": "4", "input": "ckpt", "value": "sd15"}]}
    lacks["inputs"] = [{"node": "5", "input": "image", "type": "IMAGE"}]
    bridge.fire("workflow/photo", {**PHOTO, "runnable": False, "missing": lacks}, retain=True)
    bridge.fire("workflow/demo", "", retain=True)
    bridge.fire("bridge/info", {**INFO, "contract": 2}, retain=True)
    assert issues(home) == {"comfyui_crashes", "not_runnable", "workflow_gone", "contract"}
    (found,) = [
        each
        for each in issue_registry.async_get(home).issues.values()
        if each.translation_key == "not_runnable"
    ]
    assert found.translation_placeholders == {
        "title": "The bridge",
        "name": "photo",
        "workflow": "Photo",
        "lacks": "KSampler, sd15, 5.image",
    }
    bridge.fire("bridge/comfyui/default", "", retain=True)
    bridge.come()
    assert issues(home) == set()
    away = {"state": "unreachable", "last_error": "nobody there", "since": 1, "restarts": 0}
    bridge.fire("bridge/comfyui/default", away, retain=True)
    assert issues(home) == {"no_comfyui"}
    # What was said last is not known any more.
    bridge.leave()
    assert issues(home) == set()
    bridge.come()
    assert issues(home) == set()
    bridge.fire("workflow/demo", "", retain=True)
    assert await home.config_entries.async_unload(loaded.entry_id)
    assert issues(home) == set()


ILL = {
    "store": "no route to s3",
    "hooks": {
        "wake": {"state": "preparing", "error": "no answer"},
        "tell": {"state": "idle", "error": "answered 404"},
        "ollama": {"state": "busy"},
    },
}


async def test_what_a_bridge_says_of_its_health_is_a_repair_each_while_it_lasts(
    home: HomeAssistant, bridge: FakeBridge, mqtt_client_mock: Any, loaded: MockConfigEntry
) -> None:
    bridge.fire("bridge/health", ILL, retain=True)
    assert issues(home) == {"store_fails", "hook_holds_jobs", "hook_fails"}
    second = FakeBridge(home, mqtt_client_mock, "studio")
    await set_up(home, second, entry_with(base="studio"))
    second.fire("bridge/health", {"hooks": {"wake": ILL["hooks"]["wake"]}}, retain=True)  # type: ignore[index] # of a table
    wake = {"hook": "wake", "error": "no answer"}
    # Each bridge has its own.
    assert placeholders_of(home, "hook_holds_jobs") == [{"title": "The bridge", **wake}] * 2
    bridge.fire("bridge/health", {"hooks": {"ollama": {"state": "idle"}}}, retain=True)
    assert issues(home) == {"hook_holds_jobs"}
    assert len(placeholders_of(home, "hook_holds_jobs")) == 1
    bridge.fire("bridge/health", "{", retain=True)  # passed over
    assert issues(home) == {"hook_holds_jobs"}
    # Of a bridge that is away nothing is known.
    second.leave()
    assert issues(home) == set()


async def test_a_repair_that_is_ignored_stays_so_when_it_comes_again(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    away = {"state": "unreachable", "last_error": "nobody there", "since": 1, "restarts": 0}
    well = {"state": "ready", "since": 1, "restarts": 0}
    bridge.fire("bridge/comfyui/default", away, retain=True)
    assert placeholders_of(home, "no_comfyui")
    issue_id = f"{loaded.entry_id}-no_comfyui-"
    issue_registry.async_ignore_issue(home, DOMAIN, issue_id, True)
    for state_now in (well, away):
        bridge.fire("bridge/comfyui/default", state_now, retain=True)
        assert placeholders_of(home, "no_comfyui") == []
    # Whoever ignores no more sees it while it lasts.
    issue_registry.async_ignore_issue(home, DOMAIN, issue_id, False)
    assert placeholders_of(home, "no_comfyui")
    bridge.fire("bridge/comfyui/default", well, retain=True)
    assert issues(home) == set()


@pytest.fixture
async def unanswered(
    home: HomeAssistant, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> MockConfigEntry:
    """An entry whose bridge answers another client than ours: its setup is tried again."""
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    # A broker's ACL drops in silence what a user may not publish or read.
    bridge.client = "ha-user"
    bridge.come()
    entry = entry_with()
    entry.add_to_hass(home)
    await home.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    return entry


async def test_a_broker_that_drops_what_is_asked_in_our_name_is_a_repair_at_setup(
    home: HomeAssistant,
    bridge: FakeBridge,
    unanswered: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = unanswered
    assert entry.error_reason_translation_key == "no_answer"
    names = {"title": "The bridge", "base": "comfy2mqtt", "client": "homeassistant"}
    assert placeholders_of(home, "no_answer") == [names]
    # Offline it is not silent any more.
    bridge.leave()
    with monkeypatch.context() as patch:
        patch.setattr("custom_components.comfy2mqtt.hub.READY_S", 0.1)
        await home.config_entries.async_reload(entry.entry_id)
    assert entry.error_reason_translation_key == "not_available"
    assert issues(home) == set()
    bridge.come()
    # Reconfigured as the repair says, it is gone.
    flow = await entry.start_reconfigure_flow(home)
    given = {"base": "comfy2mqtt", "client": "ha-user"}
    result = await home.config_entries.flow.async_configure(flow["flow_id"], given)
    assert result["reason"] == "reconfigure_successful"
    await home.config_entries.async_reload(entry.entry_id)
    await settled(home)
    assert entry.state is ConfigEntryState.LOADED
    assert issues(home) == set()


@pytest.mark.parametrize("ends", ["disabled", "without MQTT"])
async def test_a_repair_of_a_setup_that_is_tried_again_goes_with_the_tries(
    home: HomeAssistant, unanswered: MockConfigEntry, ends: str
) -> None:
    entry = unanswered
    assert issues(home) == {"no_answer"}
    if ends == "disabled":
        user = ConfigEntryDisabler.USER
        await home.config_entries.async_set_disabled_by(entry.entry_id, user)
    else:
        (broker,) = home.config_entries.async_entries(mqtt.DOMAIN)
        await home.config_entries.async_remove(broker.entry_id)
        async_fire_time_changed(home, dt_util.utcnow() + timedelta(minutes=5))
        await settled(home)
        assert entry.error_reason_translation_key == "no_mqtt"
    assert issues(home) == set()


async def test_a_broker_that_drops_what_is_asked_later_is_a_repair_until_an_answer_comes(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    hub = loaded.runtime_data
    bridge.silent = {"list": 3}
    with pytest.raises(HomeAssistantError, match="does not answer the client homeassistant"):
        await hub.jobs(1)
    assert issues(home) == {"no_answer"}
    bridge.errors["list"] = {"code": "busy", "message": "later"}
    with pytest.raises(RefusedError):
        await hub.jobs(1)
    assert issues(home) == set()
    # Nobody has to ask: it is tried again each time that the bridge says how it is.
    bridge.errors.clear()
    bridge.silent = {"list": 6}
    with pytest.raises(HomeAssistantError):
        await hub.jobs(1)
    for repairs in ({"no_answer"}, set()):
        bridge.fire("bridge/health", {"at": 1})
        await settled(home)
        assert issues(home) == repairs


async def test_what_the_bridge_refuses_at_setup_is_shown_in_its_words(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    details = {"setting": "new_clients_per_s"}
    refused = {"code": "quota_exceeded", "message": "too many clients", "details": details}
    bridge.errors["list"] = refused
    bridge.come()
    entry = entry_with()
    entry.add_to_hass(home)
    await home.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "request_refused"
    assert entry.error_reason_translation_placeholders == {
        "error": "too many clients; the bridge's setting new_clients_per_s decides that",
        "code": "quota_exceeded",
    }
    assert issues(home) == set()
