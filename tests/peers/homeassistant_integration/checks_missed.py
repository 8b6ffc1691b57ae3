"""Results that were missed are reported once somebody listens, whatever journal they are of."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import DOMAIN, set_up
from fake_bridge import FakeBridge
from homeassistant.const import EVENT_HOMEASSISTANT_STARTED
from homeassistant.core import CoreState, HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events

from custom_components.comfy2mqtt.const import EVENT

ENDED = "event.demo_job_ended"


def told(home: HomeAssistant) -> Any:
    found = home.states.get(ENDED)
    assert found is not None
    return found.attributes.get("job_id")


async def away(home: HomeAssistant, bridge: FakeBridge, entry: MockConfigEntry) -> None:
    """Unload the integration, and have a job end meanwhile."""
    bridge.end("seen")
    await home.async_block_till_done(wait_background_tasks=True)
    assert told(home) == "seen"
    assert await home.config_entries.async_unload(entry.entry_id)
    bridge.result("missed")


async def test_a_job_that_ended_meanwhile_is_told_once(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await away(home, bridge, loaded)
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, loaded)
    await home.async_block_till_done(wait_background_tasks=True)
    ends = [each.data["job_id"] for each in events if "job_id" in each.data]
    assert (told(home), ends) == ("missed", ["missed"])
    await home.config_entries.async_reload(loaded.entry_id)
    await home.async_block_till_done(wait_background_tasks=True)
    assert len([each for each in events if "job_id" in each.data]) == 1


async def test_it_is_told_once_home_assistant_has_started_in_order(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await away(home, bridge, loaded)
    events = async_capture_events(home, EVENT)
    home.set_state(CoreState.not_running)
    await set_up(home, bridge, loaded)
    bridge.end("later")
    await home.async_block_till_done(wait_background_tasks=True)
    assert not [each for each in events if "job_id" in each.data]
    # The picture is there at once.
    (entry,) = home.config_entries.async_entries(DOMAIN)
    assert entry.runtime_data.pictures["demo"].job_id == "later"
    home.set_state(CoreState.running)
    home.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await home.async_block_till_done(wait_background_tasks=True)
    ends = [each.data["job_id"] for each in events if "job_id" in each.data]
    assert (told(home), ends) == ("later", ["missed", "later"])
    assert all(each["acked"] for each in bridge.jobs)


async def test_what_nobody_was_told_of_is_told_after_the_next_start(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await away(home, bridge, loaded)
    home.set_state(CoreState.not_running)
    await set_up(home, bridge, loaded)
    await home.async_block_till_done(wait_background_tasks=True)
    missed = bridge.jobs[-1]
    assert not missed["acked"]
    # It ends before it has started.
    assert await home.config_entries.async_unload(loaded.entry_id)
    home.set_state(CoreState.running)
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, loaded)
    await home.async_block_till_done(wait_background_tasks=True)
    assert [each.data["job_id"] for each in events if "job_id" in each.data] == ["missed"]
    assert missed["acked"]


@pytest.mark.parametrize("changed", [{"base": "studio"}, {"client": "other"}])
async def test_another_bridge_and_another_client_have_numbers_of_their_own(
    home: HomeAssistant,
    bridge: FakeBridge,
    mqtt_client_mock: Any,
    loaded: MockConfigEntry,
    changed: dict[str, str],
) -> None:
    bridge.end("before", n=500)
    await home.async_block_till_done(wait_background_tasks=True)
    given = {**loaded.data, **changed}
    other = FakeBridge(home, mqtt_client_mock, given["base"])
    other.client = given["client"]
    other.come()
    other.result("old", n=1)
    events = async_capture_events(home, EVENT)
    flow = await loaded.start_reconfigure_flow(home)
    result = await home.config_entries.flow.async_configure(flow["flow_id"], given)
    assert result["reason"] == "reconfigure_successful"
    await home.async_block_till_done(wait_background_tasks=True)
    # As at the first setup.
    assert not [each for each in events if "job_id" in each.data]
    assert loaded.runtime_data.pictures["demo"].job_id == "old"
    other.end("new", n=2)
    await home.async_block_till_done(wait_background_tasks=True)
    assert told(home) == "new"
    assert loaded.runtime_data.pictures["demo"].job_id == "new"
    assert all(each["acked"] for each in other.jobs)


async def test_a_bridge_with_a_new_journal_is_followed_from_its_beginning(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)

    async def is_told(job_id: str) -> None:
        await home.async_block_till_done(wait_background_tasks=True)
        assert told(home) == job_id
        assert loaded.runtime_data.pictures["demo"].job_id == job_id
        assert bridge.jobs[-1]["acked"]

    bridge.end("first", n=500)
    await is_told("first")
    # It ends in a new one while the bridge is away,
    bridge.leave()
    bridge.jobs.clear()
    bridge.result("second", n=3)
    bridge.come()
    await is_told("second")
    # while it is there,
    bridge.jobs.clear()
    bridge.end("third", n=2)
    await is_told("third")
    # and while Home Assistant is away; of a backup there is an earlier job of that id.
    bridge.end("fourth", n=400)
    await is_told("fourth")
    assert await home.config_entries.async_unload(loaded.entry_id)
    bridge.jobs.clear()
    bridge.result("fourth", n=1)
    bridge.jobs[0]["acked"] = True
    bridge.result("fifth", n=2)
    await set_up(home, bridge, loaded)
    await is_told("fifth")
    ends = [each.data["job_id"] for each in events if "job_id" in each.data]
    assert ends == ["first", "second", "third", "fourth", "fifth"]


async def test_what_the_bridge_does_not_say_of_the_last_job_is_no_new_journal(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.end("first", n=500)
    await home.async_block_till_done(wait_background_tasks=True)
    bridge.errors["status"] = {"code": "busy", "message": "the journal is full"}
    bridge.leave()
    bridge.come()
    await home.async_block_till_done(wait_background_tasks=True)
    kept = loaded.runtime_data._kept()
    assert (kept["after"], kept["last"]) == (500, "first")
