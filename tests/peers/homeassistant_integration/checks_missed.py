"""Results that ended while Home Assistant was away are reported once somebody listens."""

from __future__ import annotations

from typing import Any

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
