"""Devices: of each workflow one, whether discovery has it as well, came later, or went."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import DEMO, INFO, FakeBridge
from homeassistant.components import mqtt
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry, entity_registry
from pytest_homeassistant_custom_component.common import MockConfigEntry
from seen import ENDED, PICTURE, settled, state

from custom_components.comfy2mqtt import async_remove_config_entry_device
from custom_components.comfy2mqtt.devices import discovered


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


async def test_devices_lead_to_the_bridges_page_where_it_has_one(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.info = {**INFO, "page": "https://pc.example"}
    entry = await set_up(home, bridge, entry_with())
    registry = device_registry.async_get(home)

    def links() -> dict[str | None, str | None]:
        found = device_registry.async_entries_for_config_entry(registry, entry.entry_id)
        return {each.name: each.configuration_url for each in found}

    there = ("The bridge", "Demo", "Photo", "Caption")
    assert links() == dict.fromkeys(there, "https://pc.example")
    # It has none any more, and is another version.
    bridge.fire("bridge/info", {**INFO, "version": "9"}, retain=True)
    assert links()["The bridge"] is None
    place = (DOMAIN, "comfy2mqtt-bridge")
    device = registry.async_get_device_by_identifier(place, entry.entry_id)
    assert device is not None
    assert device.sw_version == "9"


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
