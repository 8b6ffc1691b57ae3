"""Results that were missed are reported once somebody listens, whatever journal they are of."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import PNG, FakeBridge
from homeassistant.components import mqtt
from homeassistant.components.image import async_get_image
from homeassistant.const import EVENT_HOMEASSISTANT_STARTED
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.helpers.dispatcher import async_dispatcher_send
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events
from seen import ENDED, PICTURE, ends, settled, state

from custom_components.comfy2mqtt.const import EVENT
from custom_components.comfy2mqtt.protocol.messages import RefusedError, Result


def reported(home: HomeAssistant) -> Any:
    return state(home, ENDED).attributes.get("job_id")


async def away(home: HomeAssistant, bridge: FakeBridge, entry: MockConfigEntry) -> None:
    """Unload the integration, and have a job end meanwhile."""
    bridge.end("seen")
    await settled(home)
    assert reported(home) == "seen"
    assert await home.config_entries.async_unload(entry.entry_id)
    bridge.result("missed")


async def test_a_job_that_ended_meanwhile_is_reported_once(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await away(home, bridge, loaded)
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, loaded)
    await settled(home)
    assert (reported(home), ends(events)) == ("missed", ["missed"])
    await home.config_entries.async_reload(loaded.entry_id)
    await settled(home)
    assert len(ends(events)) == 1


async def test_it_is_reported_once_home_assistant_has_started_in_order(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await away(home, bridge, loaded)
    events = async_capture_events(home, EVENT)
    home.set_state(CoreState.not_running)
    await set_up(home, bridge, loaded)
    bridge.end("later")
    await settled(home)
    assert not ends(events)
    # The picture is there at once.
    (entry,) = home.config_entries.async_entries(DOMAIN)
    assert entry.runtime_data.pictures["demo"].job_id == "later"
    home.set_state(CoreState.running)
    home.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await settled(home)
    assert (reported(home), ends(events)) == ("later", ["missed", "later"])
    assert all(each["acked"] for each in bridge.jobs)


async def test_what_was_not_reported_is_reported_after_the_next_start(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    await away(home, bridge, loaded)
    home.set_state(CoreState.not_running)
    await set_up(home, bridge, loaded)
    await settled(home)
    missed = bridge.jobs[-1]
    assert not missed["acked"]
    # It ends before it has started.
    assert await home.config_entries.async_unload(loaded.entry_id)
    home.set_state(CoreState.running)
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, loaded)
    await settled(home)
    assert ends(events) == ["missed"]
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
    await settled(home)
    given = {**loaded.data, **changed}
    other = FakeBridge(home, mqtt_client_mock, given["base"])
    other.client = given["client"]
    other.come()
    other.result("old", n=1)
    events = async_capture_events(home, EVENT)
    flow = await loaded.start_reconfigure_flow(home)
    result = await home.config_entries.flow.async_configure(flow["flow_id"], given)
    assert result["reason"] == "reconfigure_successful"
    await settled(home)
    # As at the first setup.
    assert not ends(events)
    assert loaded.runtime_data.pictures["demo"].job_id == "old"
    other.end("new", n=2)
    await settled(home)
    assert reported(home) == "new"
    assert loaded.runtime_data.pictures["demo"].job_id == "new"
    assert all(each["acked"] for each in other.jobs)


async def test_a_result_that_comes_late_is_reported_once(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    """One bridge of a group publishes it below what another one's has acknowledged."""
    events = async_capture_events(home, EVENT)
    bridge.end("first", n=8)
    await settled(home)
    bridge.end("late", n=5)
    await settled(home)
    assert ends(events) == ["first", "late"]
    # The bridge that published it gives it a new number, under which it is listed.
    bridge.renumber("late")
    assert await home.config_entries.async_unload(loaded.entry_id)
    bridge.jobs[-1]["acked"] = False
    await set_up(home, bridge, loaded)
    await settled(home)
    assert ends(events) == ["first", "late"]
    assert all(each["acked"] for each in bridge.jobs)
    # Another one came so while Home Assistant was away: it is listed alone.
    assert await home.config_entries.async_unload(loaded.entry_id)
    bridge.result("later", n=6)
    bridge.renumber("later")
    await set_up(home, bridge, loaded)
    await settled(home)
    assert ends(events) == ["first", "late", "later"]
    assert all(each["acked"] for each in bridge.jobs)
    # The newest picture is that of the job that ended last.
    assert loaded.runtime_data.pictures["demo"].job_id == "first"


async def test_many_that_come_late_are_listed_together(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    """A bridge of a group publishes all that it could not for an hour."""
    events = async_capture_events(home, EVENT)
    bridge.end("first", n=500)
    await settled(home)
    before = len(bridge.requests)
    late = [f"late{number}" for number in range(50)]
    for number, each in enumerate(late, start=1):
        bridge.end(each, n=number)
    await settled(home)
    assert ends(events) == ["first", *late]
    assert len(bridge.requests) - before < len(late) / 2


async def test_what_the_broker_did_not_take_is_reported_once_after_the_next_interruption(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)
    lost = [f"lost{number}" for number in range(3)]
    bridge.not_taken.update(lost)
    for each in lost:
        bridge.result(each)
    bridge.end("taken")
    await settled(home)
    assert [each["acked"] for each in bridge.jobs] == [False, False, False, True]
    bridge.leave()
    bridge.come()
    await settled(home)
    assert ends(events) == ["taken", *lost]
    # Each counts by its own number alone.
    assert all(each["acked"] for each in bridge.jobs)
    bridge.leave()
    bridge.come()
    await settled(home)
    assert len(ends(events)) == 4


async def test_a_result_that_comes_late_while_the_bridge_lists_nothing_is_reported_afterwards(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)
    bridge.end("first", n=8)
    await settled(home)
    bridge.errors["list"] = {"code": "busy", "message": "the journal is full"}
    bridge.end("late", n=5)
    await settled(home)
    assert ends(events) == ["first"]
    bridge.errors.clear()
    bridge.leave()
    bridge.come()
    await settled(home)
    assert ends(events) == ["first", "late"]


async def test_of_very_many_that_come_late_while_nothing_is_listed_no_more_are_held(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.results.REMEMBERED", 2)
    events = async_capture_events(home, EVENT)
    bridge.end("first", n=8)
    await settled(home)
    bridge.errors["list"] = {"code": "busy", "message": "the journal is full"}
    for number in range(1, 6):
        bridge.end(f"late{number}", n=number)
    await settled(home)
    assert ends(events) == ["first", "late1", "late2", "late3"]
    bridge.errors.clear()
    bridge.leave()
    bridge.come()
    await settled(home)
    assert ends(events) == ["first", *(f"late{number}" for number in range(1, 6))]


async def test_an_older_store_is_followed_from_the_beginning_of_whatever_journal(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    hass_storage: dict[str, Any],
) -> None:
    bridge.end("first", n=500)
    await settled(home)
    assert await home.config_entries.async_unload(loaded.entry_id)
    kept = hass_storage[f"{DOMAIN}.{loaded.entry_id}"]["data"]
    for name in ("last", "taken"):
        del kept[name]
    bridge.jobs.clear()
    bridge.result("second", n=3)
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, loaded)
    await settled(home)
    assert ends(events) == ["second"]
    assert loaded.runtime_data.pictures["demo"].job_id == "second"


async def submitted(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> tuple[asyncio.Task[Result], str]:
    """Return an action that waits, and its job, which the bridge has accepted."""
    waits = home.async_create_background_task(loaded.runtime_data.run("demo", {}), "waits")
    while not bridge.asked("submit"):
        await home.async_add_executor_job(int)
    return waits, bridge.asked("submit")[0]["job_id"]


async def test_an_action_gets_the_result_that_the_broker_did_not_take(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.ASK_S", 0.01)
    events = async_capture_events(home, EVENT)
    bridge.ends = False
    # It may not be answered every time.
    bridge.errors["status"] = {"code": "busy", "message": "the journal is full"}
    waits, job_id = await submitted(home, bridge, loaded)
    while not bridge.asked("status"):
        await home.async_add_executor_job(int)
    bridge.not_taken.add(job_id)
    bridge.result(job_id)
    bridge.errors.clear()
    assert (await waits).job_id == job_id
    await settled(home)
    assert ends(events) == [job_id]


async def test_a_result_that_was_asked_for_acknowledges_none_that_is_on_its_way(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.ASK_S", 0.01)
    events = async_capture_events(home, EVENT)
    bridge.ends = False
    waits, job_id = await submitted(home, bridge, loaded)
    # Neither is published yet; the later one is that which is asked for.
    bridge.result("earlier", n=500)
    bridge.result(job_id, n=501)
    assert (await waits).job_id == job_id
    await settled(home)
    assert ends(events) == ["earlier", job_id]


async def test_an_action_ends_whose_job_the_bridge_does_not_know_any_more(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.ASK_S", 0.01)
    bridge.ends = False
    with pytest.raises(RefusedError, match="no job"):
        await loaded.runtime_data.run("demo", {})


async def test_a_bridge_with_a_new_journal_is_followed_from_its_beginning(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)

    async def is_reported(job_id: str) -> None:
        await settled(home)
        assert reported(home) == job_id
        assert loaded.runtime_data.pictures["demo"].job_id == job_id
        assert bridge.jobs[-1]["acked"]

    bridge.end("first", n=500)
    await is_reported("first")
    # It ends in a new one while the bridge is away,
    bridge.leave()
    bridge.jobs.clear()
    bridge.result("second", n=3)
    bridge.come()
    await is_reported("second")
    # while it is there,
    bridge.jobs.clear()
    bridge.end("third", n=2)
    await is_reported("third")
    # and while Home Assistant is away; of a backup there is an earlier job of that id.
    bridge.end("fourth", n=400)
    await is_reported("fourth")
    assert await home.config_entries.async_unload(loaded.entry_id)
    bridge.jobs.clear()
    bridge.result("fourth", n=1)
    bridge.jobs[0]["acked"] = True
    bridge.result("fifth", n=2)
    await set_up(home, bridge, loaded)
    await is_reported("fifth")
    assert ends(events) == ["first", "second", "third", "fourth", "fifth"]


async def test_what_the_bridge_does_not_say_of_the_last_job_is_no_new_journal(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.end("first", n=500)
    await settled(home)
    bridge.errors["status"] = {"code": "busy", "message": "the journal is full"}
    bridge.leave()
    bridge.come()
    await settled(home)
    kept = loaded.runtime_data._results._contents()
    assert (kept["after"], kept["last"]) == (500, "first")


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
    await settled(home)
    assert bridge.asked("list")[-1]["after"] > 1
    # A result is acknowledged once it was reported, and not by asking for the next page.
    peeks = [each["peek"] for each in bridge.asked("list") if each["after"]]
    # They are listed once; the last list has what is left when they are acknowledged.
    assert peeks == [False, True, True, False]
    assert bridge.asked("ack")[-1]["up_to"] == 11
    assert loaded.runtime_data.pictures["demo"].job_id == "j5"
    (picture,) = [each for each in bridge.jobs if each["job_id"] == "j5"]
    assert picture["acked"]


async def test_what_could_not_be_listed_is_listed_once_the_bridge_says_how_it_is(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = async_capture_events(home, EVENT)
    bridge.errors["list"] = {"code": "busy", "message": "the journal is full"}
    bridge.leave()
    bridge.result("missed")
    bridge.come()
    for number in range(3):
        bridge.fire("bridge/health", {"at": number})
        await settled(home)
    said = [each for each in caplog.records if "cannot be listed" in each.getMessage()]
    assert [each.levelno > logging.INFO for each in said].count(True) == 1
    bridge.errors.clear()
    bridge.fire("bridge/health", {"at": 4})
    await settled(home)
    assert ends(events) == ["missed"]
    # Nothing is left to be asked for.
    asked = len(bridge.requests)
    bridge.fire("bridge/health", {"at": 5})
    await settled(home)
    assert len(bridge.requests) == asked


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
    home.async_create_background_task(loaded.runtime_data._results.catch_up_quietly(), "catches up")
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
