"""A bridge's life here: set up, away, back, removed; its devices, pictures, events and repairs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import DEMO, INFO, PHOTO, PNG, FakeBridge
from homeassistant.components import media_source, mqtt
from homeassistant.components.image import async_get_image
from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry, entity_registry, issue_registry
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.comfy2mqtt import async_remove_config_entry_device
from custom_components.comfy2mqtt.devices import discovered
from custom_components.comfy2mqtt.diagnostics import async_get_config_entry_diagnostics
from custom_components.comfy2mqtt.protocol.messages import RefusedError

PICTURE, ENDED = "image.demo_last_picture", "event.demo_job_ended"


def state(home: HomeAssistant, entity: str) -> Any:
    found = home.states.get(entity)
    assert found is not None, [each.entity_id for each in home.states.async_all()]
    return found


async def settled(home: HomeAssistant) -> None:
    await home.async_block_till_done(wait_background_tasks=True)


def issues(home: HomeAssistant) -> set[str | None]:
    found = issue_registry.async_get(home).issues.values()
    return {each.translation_key for each in found if each.domain == DOMAIN}


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
    # The first one's bytes, which come now, are not taken for the second's.
    with pytest.raises(HomeAssistantError):
        await asked
    found = await async_get_image(home, PICTURE)
    assert (found.content, found.content_type) == (b"\xff\xd8later", "image/jpeg")


async def test_what_ended_while_home_assistant_was_away_comes_when_it_is_back(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.end("j0")
    await settled(home)
    assert await home.config_entries.async_unload(loaded.entry_id)
    for number in range(1, 6):
        bridge.result(f"j{number}")
    del bridge.jobs[1]["result"]  # too large for a packet: left out of the list
    bridge.jobs[2]["result"] = {"no": "result"}
    await set_up(home, bridge, loaded)
    assert bridge.asked("list")[-1]["after"] > 1
    assert all(each["peek"] for each in bridge.asked("list"))
    assert bridge.asked("ack")[-1]["up_to"] == 11
    assert loaded.runtime_data.pictures["demo"].job_id == "j5"
    (picture,) = [each for each in bridge.jobs if each["job_id"] == "j5"]
    assert picture["acked"]


async def test_what_is_missed_while_the_connection_is_away_is_listed_before_it_is_acknowledged(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    client = home.data["mqtt"].client
    client.connected = False
    async_dispatcher_send(home, mqtt.MQTT_CONNECTION_STATE, False)
    assert state(home, PICTURE).state == "unavailable"
    bridge.result("missed")
    client.connected = True
    # One that comes before the missed ones are listed must not acknowledge them unseen.
    bridge.silent = {"list": 1}
    async_dispatcher_send(home, mqtt.MQTT_CONNECTION_STATE, True)
    bridge.end("later")
    await home.async_block_till_done()
    assert not bridge.asked("ack")
    loaded.runtime_data._spawn(loaded.runtime_data._catch_up_quietly())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
        await settled(home)
    assert [each["up_to"] for each in bridge.asked("ack")] == [3]
    assert loaded.runtime_data.pictures["demo"].job_id == "later"


async def test_a_bridge_that_does_not_list_is_asked_again_after_the_next_interruption(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bridge.errors["list"] = {"code": "busy", "message": "the journal is full"}
    bridge.errors["ack"] = {"code": "busy", "message": "the journal is full"}
    bridge.leave()
    bridge.come()
    await settled(home)
    assert "cannot be listed: the journal is full" in caplog.text
    bridge.end("j1")
    await settled(home)
    assert not bridge.jobs[0]["acked"]
    bridge.errors.clear()
    bridge.leave()
    bridge.come()
    await settled(home)
    assert bridge.jobs[0]["acked"]
    bridge.errors["ack"] = {"code": "busy", "message": "the journal is full"}
    bridge.end("j2")
    await settled(home)
    assert "Traceback" not in caplog.text


async def test_at_the_first_setup_old_jobs_are_no_events(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.result("old")
    await set_up(home, bridge, entry_with())
    assert state(home, ENDED).state == "unknown"
    assert (await async_get_image(home, PICTURE)).content == PNG


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


async def test_workflows_come_and_go_with_all_that_is_theirs(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    devices, entities = device_registry.async_get(home), entity_registry.async_get(home)
    bridge.fire("workflow/second", {**DEMO, "name": "second", "title": "Second"}, retain=True)
    await home.async_block_till_done()
    assert state(home, "event.second_job_ended")
    place = (DOMAIN, "comfy2mqtt-workflow-second")
    device = devices.async_get_device_by_identifier(place, loaded.entry_id)
    assert device is not None
    bridge_device = devices.async_get_device_by_identifier(
        (DOMAIN, "comfy2mqtt-bridge"), loaded.entry_id
    )
    assert bridge_device is not None
    assert device.via_device_id == bridge_device.id
    assert not await async_remove_config_entry_device(home, loaded, device)
    assert await home.config_entries.async_unload(loaded.entry_id)
    # What there is now is not known.
    assert not await async_remove_config_entry_device(home, loaded, device)
    await set_up(home, bridge, loaded)
    bridge.fire("workflow/second", {**DEMO, "name": "second", "title": "Zweiter"}, retain=True)
    renamed = devices.async_get(device.id)
    assert renamed is not None
    assert renamed.name == "Zweiter"
    bridge.fire("workflow/second", "", retain=True)
    await home.async_block_till_done()
    assert devices.async_get_device_by_identifier(place, loaded.entry_id) is None
    assert entities.async_get("image.second_last_picture") is None
    # And once more, under the same name.
    bridge.fire("workflow/second", {**DEMO, "name": "second", "title": "Second"}, retain=True)
    await home.async_block_till_done()
    assert state(home, "image.second_last_picture")
    # One that went while Home Assistant was away is removed at its start.
    assert await home.config_entries.async_unload(loaded.entry_id)
    bridge.fire("workflow/second", "", retain=True)
    del bridge.workflows["caption"]
    bridge.fire("workflow/caption", "", retain=True)
    await set_up(home, bridge, loaded)
    assert entities.async_get("event.second_job_ended") is None


async def test_discoverys_devices_are_taken_and_not_made_twice(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    devices, entities = device_registry.async_get(home), entity_registry.async_get(home)
    (broker,) = home.config_entries.async_entries(mqtt.DOMAIN)
    found = devices.async_get_or_create(
        config_entry_id=broker.entry_id,
        identifiers={(mqtt.DOMAIN, "comfy2mqtt-workflow-demo")},
        name="Demo",
    )
    entry = await set_up(home, bridge, entry_with({"workflow": "demo"}))
    task = entities.async_get("ai_task.demo_task_demo")
    assert task is not None
    assert task.device_id == found.id
    # What discovery shows as well is there for who enables it.
    for entity in (PICTURE, ENDED):
        known = entities.async_get(entity)
        assert known is not None
        assert known.disabled_by is entity_registry.RegistryEntryDisabler.INTEGRATION
    ours = device_registry.async_entries_for_config_entry(devices, entry.entry_id)
    assert {each.name for each in ours} == {"The bridge", "Photo", "Caption"}
    # The device goes with discovery's; what was ours there is removed, too.
    bridge.fire("workflow/demo", "", retain=True)
    devices.async_remove_device(found.id)
    await home.async_block_till_done()
    assert entities.async_get(PICTURE) is None


@pytest.fixture
def ours(home: HomeAssistant) -> Callable[[MockConfigEntry], set[str | None]]:
    """Return the names of the devices that are the integration's own."""

    def names(entry: MockConfigEntry) -> set[str | None]:
        registry = device_registry.async_get(home)
        found = device_registry.async_entries_for_config_entry(registry, entry.entry_id)
        return {each.name for each in found}

    return names


def at_discoverys(home: HomeAssistant, workflow: str, entity: str) -> entity_registry.RegistryEntry:
    """Return an entity of ours, which has to be at the device that discovery has made."""
    device = discovered(home, f"comfy2mqtt-workflow-{workflow}")
    known = entity_registry.async_get(home).async_get(entity)
    assert device is not None
    assert known is not None
    assert known.device_id == device.id
    return known


async def test_discovery_that_is_turned_on_later_takes_our_devices(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    ours: Callable[[MockConfigEntry], set[str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its entities have been used for longer.
    monkeypatch.setattr("custom_components.comfy2mqtt.devices._AT_ONCE", timedelta())
    devices = device_registry.async_get(home)
    place = (DOMAIN, "comfy2mqtt-workflow-demo")
    before = devices.async_get_device_by_identifier(place, loaded.entry_id)
    assert before is not None
    devices.async_update_device(before.id, name_by_user="Painter", labels={"art"})
    bridge.announce("demo")
    await home.async_block_till_done()
    # The bridge's own device comes with the first workflow's.
    assert ours(loaded) == {"Photo", "Caption"}
    found = discovered(home, "comfy2mqtt-workflow-demo")
    assert found is not None
    assert (found.name_by_user, found.labels) == ("Painter", {"art"})
    for entity in (PICTURE, ENDED, "ai_task.demo_task_demo"):
        assert at_discoverys(home, "demo", entity).disabled_by is None
    bridge.end("j1")
    await settled(home)
    assert state(home, ENDED).attributes["job_id"] == "j1"
    the_bridge = discovered(home, "comfy2mqtt-bridge")
    assert the_bridge is not None
    registry = device_registry.async_get(home)
    for each in device_registry.async_entries_for_config_entry(registry, loaded.entry_id):
        assert each.via_device_id == the_bridge.id
    # What was made twice by an earlier version is one device at the next start.
    assert await home.config_entries.async_unload(loaded.entry_id)
    bridge.announce("photo")
    await home.async_block_till_done()
    await set_up(home, bridge, loaded)
    assert ours(loaded) == {"Caption"}
    assert at_discoverys(home, "photo", "image.photo_last_picture").disabled_by is None


async def test_discovery_that_is_turned_off_leaves_our_devices_and_all_they_had(
    home: HomeAssistant,
    bridge: FakeBridge,
    ours: Callable[[MockConfigEntry], set[str | None]],
) -> None:
    bridge.announce("demo")
    await home.async_block_till_done()
    entry = await set_up(home, bridge, entry_with({"workflow": "demo"}))
    assert "Demo" not in ours(entry)
    by = at_discoverys(home, "demo", PICTURE).disabled_by
    assert by is entity_registry.RegistryEntryDisabler.INTEGRATION
    bridge.withdraw("demo")
    await settled(home)
    assert discovered(home, "comfy2mqtt-workflow-demo") is None
    assert "Demo" in ours(entry)
    devices, entities = device_registry.async_get(home), entity_registry.async_get(home)
    place = (DOMAIN, "comfy2mqtt-workflow-demo")
    device = devices.async_get_device_by_identifier(place, entry.entry_id)
    assert device is not None
    for entity in (PICTURE, ENDED, "ai_task.demo_task_demo"):
        known = entities.async_get(entity)
        assert known is not None
        assert (known.device_id, known.disabled_by) == (device.id, None)
    # Home Assistant loads an entry again whose entities are enabled.
    assert await home.config_entries.async_reload(entry.entry_id)
    await settled(home)
    bridge.end("j1")
    await settled(home)
    assert state(home, ENDED).attributes["job_id"] == "j1"


async def test_what_comes_back_of_a_workflow_is_nothing_of_one_whose_name_starts_alike(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.workflows["demo-b"] = {**DEMO, "name": "demo-b", "title": "Demo B"}
    bridge.announce("demo")
    await home.async_block_till_done()
    await set_up(home, bridge, entry_with({"workflow": "demo"}, {"workflow": "demo-b"}))
    entities = entity_registry.async_get(home)
    others = ("image.demo_b_last_picture", "event.demo_b_job_ended", "ai_task.demo_b_task_demo_b")
    for each in others:
        entities.async_update_entity(each, device_id=None)
    found = discovered(home, "comfy2mqtt-workflow-demo")
    assert found is not None
    device_registry.async_get(home).async_remove_device(found.id)
    await settled(home)
    places = {each: entities.async_get(each) for each in (PICTURE, ENDED, *others)}
    assert {name for name, each in places.items() if each and each.device_id} == {PICTURE, ENDED}


async def test_a_workflow_that_is_added_while_both_run_is_one_device(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    ours: Callable[[MockConfigEntry], set[str | None]],
) -> None:
    # First the workflow itself, as the bridge publishes them.
    bridge.workflows["second"] = {**DEMO, "name": "second", "title": "Second"}
    bridge.fire("workflow/second", bridge.workflows["second"], retain=True)
    bridge.announce("second")
    await home.async_block_till_done()
    assert "Second" not in ours(loaded)
    for entity in ("image.second_last_picture", "event.second_job_ended"):
        by = at_discoverys(home, "second", entity).disabled_by
        assert by is entity_registry.RegistryEntryDisabler.INTEGRATION
        assert home.states.get(entity) is None
    bridge.fire("workflow/second", "", retain=True)
    await home.async_block_till_done()
    assert entity_registry.async_get(home).async_get("image.second_last_picture") is None


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


def said_of(home: HomeAssistant, key: str) -> list[dict[str, str] | None]:
    """Return what fills the texts of the repairs of a kind that are shown."""
    return [
        each.translation_placeholders
        for each in issue_registry.async_get(home).issues.values()
        if each.translation_key == key and each.active and each.dismissed_version is None
    ]


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
    assert said_of(home, "hook_holds_jobs") == [{"title": "The bridge", **wake}] * 2
    bridge.fire("bridge/health", {"hooks": {"ollama": {"state": "idle"}}}, retain=True)
    assert issues(home) == {"hook_holds_jobs"}
    assert len(said_of(home, "hook_holds_jobs")) == 1
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
    assert said_of(home, "no_comfyui")
    issue_id = f"{loaded.entry_id}-no_comfyui-"
    issue_registry.async_ignore_issue(home, DOMAIN, issue_id, True)
    for state_now in (well, away):
        bridge.fire("bridge/comfyui/default", state_now, retain=True)
        assert said_of(home, "no_comfyui") == []
    # Whoever ignores no more sees it while it lasts.
    issue_registry.async_ignore_issue(home, DOMAIN, issue_id, False)
    assert said_of(home, "no_comfyui")
    bridge.fire("bridge/comfyui/default", well, retain=True)
    assert issues(home) == set()


async def test_a_broker_that_drops_what_is_asked_in_our_name_is_a_repair_at_setup(
    home: HomeAssistant, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    # A broker's ACL drops in silence what a user may not publish or read.
    bridge.client = "ha-user"
    bridge.come()
    entry = entry_with()
    entry.add_to_hass(home)
    await home.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "no_answer"
    names = {"title": "The bridge", "base": "comfy2mqtt", "client": "homeassistant"}
    assert said_of(home, "no_answer") == [names]
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
    home: HomeAssistant, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    bridge.client = "ha-user"
    bridge.come()
    entry = entry_with()
    entry.add_to_hass(home)
    await home.config_entries.async_setup(entry.entry_id)
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
        await hub.jobs()
    assert issues(home) == {"no_answer"}
    bridge.errors["list"] = {"code": "busy", "message": "later"}
    with pytest.raises(RefusedError):
        await hub.jobs()
    assert issues(home) == set()
    # Nobody has to ask: it is tried again each time that the bridge says how it is.
    bridge.errors.clear()
    bridge.silent = {"list": 6}
    with pytest.raises(HomeAssistantError):
        await hub.jobs()
    for repairs in ({"no_answer"}, set()):
        bridge.fire("bridge/health", {"at": 1})
        await settled(home)
        assert issues(home) == repairs


async def test_what_the_bridge_refuses_at_setup_is_said_as_the_bridge_says_it(
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
    bridge.fire("bridge/info", {**INFO, "name": "anna's bridge"})
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
