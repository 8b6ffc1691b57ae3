"""Each result is reported once, however many there are, and whatever journal they are of."""

from __future__ import annotations

from typing import Any

import pytest
from checks_missed import away
from conftest import DOMAIN, set_up
from fake_bridge import FakeBridge
from homeassistant.const import EVENT_HOMEASSISTANT_STARTED
from homeassistant.core import CoreState, HomeAssistant
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    flush_store,
)
from seen import ENDED, ends, settled, state

from custom_components.comfy2mqtt.const import EVENT


async def many_missed(
    home: HomeAssistant, bridge: FakeBridge, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Unload, and have more end than are remembered; the broker did not take the first one."""
    monkeypatch.setattr("custom_components.comfy2mqtt.protocol.ledger.REMEMBERED", 2)
    assert await home.config_entries.async_unload(entry.entry_id)
    missed = [f"missed{number}" for number in range(6)]
    bridge.not_taken.add(missed[0])
    for each in missed:
        bridge.result(each)
    return missed


async def test_very_many_that_were_missed_are_reported_once_each(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missed = await many_missed(home, bridge, loaded, monkeypatch)
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, loaded)
    await settled(home)
    assert all(each["acked"] for each in bridge.jobs)
    for _ in range(2):
        bridge.leave()
        bridge.come()
        await settled(home)
    assert ends(events) == missed


async def test_very_many_that_were_missed_while_home_assistant_starts_are_reported_once_each(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missed = await many_missed(home, bridge, loaded, monkeypatch)
    events = async_capture_events(home, EVENT)
    home.set_state(CoreState.not_running)
    await set_up(home, bridge, loaded)
    await settled(home)
    home.set_state(CoreState.running)
    home.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await settled(home)
    assert all(each["acked"] for each in bridge.jobs)
    bridge.leave()
    bridge.come()
    await settled(home)
    assert ends(events) == missed


async def test_a_bridge_whose_backup_was_restored_reports_nothing_twice(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)
    for job_id in ("first", "second", "third"):
        bridge.end(job_id)
    await settled(home)
    assert await home.config_entries.async_unload(loaded.entry_id)
    # The backup is of before the second one was acknowledged, and the third one ended.
    del bridge.jobs[2]
    bridge.jobs[1]["acked"] = False
    bridge.result("fourth", n=900)
    await set_up(home, bridge, loaded)
    await settled(home)
    assert ends(events) == ["first", "second", "third", "fourth"]
    assert all(each["acked"] for each in bridge.jobs)
    assert loaded.runtime_data.pictures["demo"].job_id == "fourth"


async def test_a_bridge_whose_backup_was_restored_still_has_its_pictures(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    for job_id in ("first", "second"):
        bridge.end(job_id)
    await settled(home)
    bridge.leave()
    del bridge.jobs[1]
    bridge.come()
    await settled(home)
    assert loaded.runtime_data.pictures["demo"].job_id == "first"


async def test_an_id_that_is_used_again_has_an_event_again(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)
    bridge.end("daily")
    bridge.end("other")
    await settled(home)
    # The bridge forgets an id after a month.
    del bridge.jobs[0]
    bridge.end("daily", n=900)
    await settled(home)
    assert ends(events) == ["daily", "other", "daily"]


async def test_a_result_that_the_bridge_keeps_no_longer_has_an_event_that_says_so(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await away(home, bridge, loaded)
    bridge.result("recent")
    # It ended more than a week ago: only how is known.
    del bridge.jobs[1]["result"]
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, loaded)
    await settled(home)
    told_of = [each.data for each in events if "job_id" in each.data]
    assert [(each["job_id"], each["outputs_known"]) for each in told_of] == [
        ("missed", False),
        ("recent", True),
    ]
    assert (told_of[0]["state"], told_of[0]["outputs"]) == ("succeeded", [])
    assert state(home, ENDED).attributes["outputs_known"]
    assert all(each["acked"] for each in bridge.jobs)


async def test_a_job_that_was_not_acknowledged_before_a_restart_is_reported_once(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    hass_storage: dict[str, Any],
) -> None:
    """Home Assistant unloads nothing when it stops: it writes what is about to be written."""
    await flush_store(loaded.runtime_data._results._store)
    events = async_capture_events(home, EVENT)
    bridge.errors["ack"] = {"code": "busy", "message": "the journal is full"}
    bridge.end("first")
    await settled(home)
    assert ends(events) == ["first"]
    await flush_store(loaded.runtime_data._results._store)
    kept = hass_storage[f"{DOMAIN}.{loaded.entry_id}"]["data"]
    assert kept["taken"] == {"first": 1}


async def test_a_job_that_was_not_acknowledged_before_a_reload_is_reported_once(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)
    bridge.errors["ack"] = {"code": "busy", "message": "the journal is full"}
    bridge.end("first")
    await settled(home)
    assert not bridge.jobs[0]["acked"]
    bridge.errors.clear()
    await home.config_entries.async_reload(loaded.entry_id)
    await settled(home)
    assert ends(events) == ["first"]
    assert bridge.jobs[0]["acked"]
