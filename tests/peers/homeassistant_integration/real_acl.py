"""A real broker whose ACL keeps users apart, and lets through no result of some jobs."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from conftest import DOMAIN
from homeassistant.config_entries import SOURCE_RECONFIGURE, ConfigEntry, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from pytest_homeassistant_custom_component.common import async_capture_events
from real_run import TIMEOUT_S, card, house, until
from seen import ends, placeholders_of

from custom_components.comfy2mqtt.const import EVENT

__all__ = ["house"]  # a fixture

USER = os.environ["COMFY2MQTT_TEST_USER"]
# The jobs whose results the broker does not take.
*WITHHELD, AWAITED = os.environ["COMFY2MQTT_TEST_WITHHELD"].split()


@pytest.fixture
async def entry(house: HomeAssistant, monkeypatch: pytest.MonkeyPatch) -> ConfigEntry:
    """The bridge, set up in the name of Home Assistant's user."""
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 1.0)
    flows = house.config_entries.flow
    # Without a client's password the bridge does not know that users are kept apart.
    flow = await flows.async_configure(await card(house), {})
    assert flow["errors"] == {"base": "no_answer"}
    result = await flows.async_configure(flow["flow_id"], {"client": USER})
    assert result["type"] == "create_entry", result
    await house.async_block_till_done()
    (found,) = house.config_entries.async_entries(DOMAIN)
    assert found.state is ConfigEntryState.LOADED
    return found


async def test_a_name_that_is_not_the_users_is_reported_and_can_be_corrected(
    house: HomeAssistant, entry: ConfigEntry
) -> None:
    assert await entry.runtime_data.jobs(100) == []

    # Another name: the broker drops in silence what is asked in it.
    wrong = {**entry.data, "client": "homeassistant"}
    house.config_entries.async_update_entry(entry, data=wrong)
    await until(house, lambda: entry.state is ConfigEntryState.SETUP_RETRY)
    assert entry.error_reason_translation_key == "no_answer"
    names = {"title": entry.title, "base": "comfy2mqtt", "client": "homeassistant"}
    assert placeholders_of(house, "no_answer") == [names]

    flows = house.config_entries.flow
    context = {"source": SOURCE_RECONFIGURE, "entry_id": entry.entry_id}
    flow = await flows.async_init(DOMAIN, context=context)
    result = await flows.async_configure(flow["flow_id"], {"base": "comfy2mqtt", "client": USER})
    assert result["reason"] == "reconfigure_successful"
    await until(house, lambda: entry.state is ConfigEntryState.LOADED)
    assert placeholders_of(house, "no_answer") == []

    # A user who is no operator gives no commands, and gets an error.
    with pytest.raises(HomeAssistantError, match="does not answer a command"):
        await entry.runtime_data.command("comfyui/update", install=False)
    assert placeholders_of(house, "no_answer") == []


async def acknowledged(hub: Any) -> None:
    """Wait until every job of ours is acknowledged to the bridge."""
    async with asyncio.timeout(TIMEOUT_S):
        while not all(job["acked"] for job in await hub.jobs(100)):
            pass


async def test_what_the_broker_does_not_take_has_its_event_after_the_next_start(
    house: HomeAssistant, entry: ConfigEntry
) -> None:
    events = async_capture_events(house, EVENT)
    hub: Any = entry.runtime_data
    for job_id in WITHHELD:
        await hub.submit("home", {}, follow=False, job_id=job_id)
    later = await hub.submit("home", {}, follow=False)
    # No ComfyUI is there that would run them: they end as cancelled.
    for job_id in (*WITHHELD, later):
        await hub.cancel(job_id)
    await until(house, lambda: ends(events))
    await until(house, lambda: hub._results._ledger.last == later)
    assert {job["job_id"]: job["acked"] for job in await hub.jobs(100)} == {
        **dict.fromkeys(WITHHELD, False),
        later: True,
    }
    assert await house.config_entries.async_reload(entry.entry_id)
    await until(house, lambda: len(ends(events)) > len(WITHHELD))
    await acknowledged(entry.runtime_data)
    assert await house.config_entries.async_reload(entry.entry_id)
    assert sorted(ends(events)) == sorted([*WITHHELD, later])


async def test_an_action_gets_the_result_that_the_broker_does_not_take(
    house: HomeAssistant, entry: ConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.ASK_S", 0.5)
    hub: Any = entry.runtime_data
    monkeypatch.setattr(hub, "new_job", lambda: AWAITED)
    events = async_capture_events(house, EVENT)
    waits = asyncio.create_task(hub.run("home", {}))
    async with asyncio.timeout(TIMEOUT_S):
        while AWAITED not in {each["job_id"] for each in await hub.jobs(100)}:
            pass
    await hub.cancel(AWAITED)
    assert (await waits).state == "cancelled"
    await until(house, lambda: ends(events))
    await acknowledged(hub)
