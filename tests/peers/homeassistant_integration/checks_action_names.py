"""An action `run_<workflow>` is of one workflow of one bridge, whatever is loaded when."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import DEMO, FakeBridge
from homeassistant.config_entries import SOURCE_IGNORE, ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry
from seen import settled

KEPT = f"{DOMAIN}.action_names"
FIRST, SECOND = "comfy2mqtt", "studio"


class Place(NamedTuple):
    """A bridge, and its entry."""

    bridge: FakeBridge
    entry: MockConfigEntry

    async def load(self, home: HomeAssistant) -> None:
        await set_up(home, self.bridge, self.entry)


@pytest.fixture
def studio(bridge: FakeBridge, home: HomeAssistant, mqtt_client_mock: Any) -> FakeBridge:
    """A second bridge, with workflows of the same names."""
    return FakeBridge(home, mqtt_client_mock, SECOND)


@pytest.fixture
async def two(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry, studio: FakeBridge
) -> tuple[Place, Place]:
    """Two bridges, set up one after the other."""
    entry = await set_up(home, studio, entry_with(base=SECOND))
    return Place(bridge, loaded), Place(studio, entry)


async def end(home: HomeAssistant, *entries: MockConfigEntry) -> None:
    """Unload bridges, and forget what only a running Home Assistant knows."""
    for each in entries:
        assert await home.config_entries.async_unload(each.entry_id)
    await settled(home)
    assert not actions(home)
    del home.data["comfy2mqtt_action_names"]


def actions(home: HomeAssistant) -> set[str]:
    return {each for each in home.services.async_services().get(DOMAIN, {}) if "run_" in each}


async def ran(home: HomeAssistant, action: str, *bridges: FakeBridge) -> list[tuple[str, str]]:
    """Run an action; return each job's base and workflow."""
    for each in bridges:
        each.requests.clear()
    await home.services.async_call(DOMAIN, action, {}, blocking=True)
    await settled(home)
    return [(each.base, job["workflow"]) for each in bridges for job in each.asked("submit")]


async def test_after_a_restart_an_action_is_of_the_same_bridge_whichever_is_loaded_first(
    home: HomeAssistant, two: tuple[Place, Place]
) -> None:
    first, second = two
    bridges = (first.bridge, second.bridge)
    before = actions(home)
    assert len(before) == 6
    for action, base in (("run_demo", FIRST), ("run_demo_2", SECOND)):
        assert await ran(home, action, *bridges) == [(base, "demo")]
    await end(home, first.entry, second.entry)
    # The first one's names are not free while it is away.
    await second.load(home)
    assert actions(home) == {"run_demo_2", "run_photo_2", "run_caption_2"}
    await first.load(home)
    assert actions(home) == before
    for action, base in (("run_demo", FIRST), ("run_demo_2", SECOND)):
        assert await ran(home, action, *bridges) == [(base, "demo")]


@pytest.mark.parametrize("kept", ["none", "damaged", "not names", "twice"])
async def test_where_no_names_were_kept_the_bridge_that_was_set_up_first_has_them_first(
    home: HomeAssistant, two: tuple[Place, Place], hass_storage: dict[str, Any], kept: str
) -> None:
    first, second = two
    before = actions(home)
    await end(home, first.entry, second.entry)
    if kept == "none":  # as of an earlier version
        del hass_storage[KEPT]
    elif kept == "damaged":
        hass_storage[KEPT] = {"version": 1}
    elif kept == "not names":
        hass_storage[KEPT]["data"] = {first.entry.entry_id: 7}
    else:
        names = {each.entry.entry_id: {"demo": "run_demo"} for each in two}
        hass_storage[KEPT]["data"] = names
    await second.load(home)
    await first.load(home)
    assert actions(home) == before
    assert await ran(home, "run_demo", first.bridge, second.bridge) == [(FIRST, "demo")]


async def test_where_no_names_were_kept_a_disabled_bridge_takes_none_of_another(
    home: HomeAssistant, two: tuple[Place, Place], hass_storage: dict[str, Any]
) -> None:
    first, second = two
    await home.config_entries.async_set_disabled_by(first.entry.entry_id, ConfigEntryDisabler.USER)
    await end(home, second.entry)
    del hass_storage[KEPT]
    # An earlier version called it so.
    await second.load(home)
    assert await ran(home, "run_demo", second.bridge) == [(SECOND, "demo")]


async def test_a_workflow_that_comes_back_has_the_name_that_it_had(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    # Their actions would have one name.
    bridge.fire("workflow/Demo", {**DEMO, "name": "Demo"}, retain=True)
    assert await ran(home, "run_demo_2", bridge) == [(FIRST, "Demo")]
    for name in ("demo", "Demo"):
        bridge.fire(f"workflow/{name}", "", retain=True)
    assert not {"run_demo", "run_demo_2"} & actions(home)
    del bridge.workflows["demo"]
    await end(home, loaded)
    await set_up(home, bridge, loaded)
    bridge.fire("workflow/Demo", {**DEMO, "name": "Demo"}, retain=True)
    assert "run_demo" not in actions(home)
    bridge.fire("workflow/demo", DEMO, retain=True)
    assert await ran(home, "run_demo", bridge) == [(FIRST, "demo")]


async def test_the_names_of_a_bridge_are_free_once_it_is_deleted(
    home: HomeAssistant, two: tuple[Place, Place], hass_storage: dict[str, Any]
) -> None:
    first, second = two
    await home.config_entries.async_remove(first.entry.entry_id)
    assert set(hass_storage[KEPT]["data"]) == {second.entry.entry_id}
    assert actions(home) == {"run_demo_2", "run_photo_2", "run_caption_2"}
    again = await set_up(home, first.bridge, entry_with())
    assert await ran(home, "run_demo", first.bridge, second.bridge) == [(FIRST, "demo")]
    # A bridge may be deleted before anything of ours is set up, or without the integration.
    await end(home, again, second.entry)
    hass_storage[KEPT]["data"]["deleted long ago"] = {"demo": "run_demo_3"}
    for each in (again, second.entry):
        await home.config_entries.async_remove(each.entry_id)
    assert KEPT not in hass_storage


async def test_a_bridge_that_was_found_and_is_ignored_is_none(
    home: HomeAssistant, studio: FakeBridge, hass_storage: dict[str, Any]
) -> None:
    ignored = MockConfigEntry(domain=DOMAIN, unique_id=FIRST, source=SOURCE_IGNORE, data={})
    ignored.add_to_hass(home)
    entry = await set_up(home, studio, entry_with(base=SECOND))
    assert await ran(home, "run_demo", studio) == [(SECOND, "demo")]
    # It is the only bridge, so that nobody has to say which one is meant.
    await home.services.async_call(DOMAIN, "run", {"workflow": "demo"}, blocking=True)
    assert len(studio.asked("submit")) == 2
    await home.config_entries.async_remove(entry.entry_id)
    assert KEPT not in hass_storage
    await home.config_entries.async_remove(ignored.entry_id)
