"""A real broker whose ACL keeps users apart, as a person sees it in Home Assistant."""

from __future__ import annotations

import os

import pytest
from checks_hub import said_of
from conftest import DOMAIN
from homeassistant.config_entries import SOURCE_RECONFIGURE, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from real_run import house, until

__all__ = ["house"]  # a fixture

USER = os.environ["COMFY2MQTT_TEST_USER"]


async def test_a_name_that_is_not_the_users_is_said_and_can_be_corrected(
    house: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 1.0)
    flows = house.config_entries.flow
    (card,) = await until(house, lambda: flows.async_progress_by_handler(DOMAIN))
    # Without a client's password the bridge does not know that users are kept apart.
    flow = await flows.async_configure(card["flow_id"], {})
    assert flow["errors"] == {"base": "no_answer"}
    result = await flows.async_configure(card["flow_id"], {"client": USER})
    assert result["type"] == "create_entry", result
    await house.async_block_till_done()
    (entry,) = house.config_entries.async_entries(DOMAIN)
    assert entry.state is ConfigEntryState.LOADED
    assert await entry.runtime_data.jobs() == []

    # Another name: the broker drops in silence what is asked in it.
    wrong = {**entry.data, "client": "homeassistant"}
    house.config_entries.async_update_entry(entry, data=wrong)
    await until(house, lambda: entry.state is ConfigEntryState.SETUP_RETRY)
    assert entry.error_reason_translation_key == "no_answer"
    names = {"title": entry.title, "base": "comfy2mqtt", "client": "homeassistant"}
    assert said_of(house, "no_answer") == [names]

    context = {"source": SOURCE_RECONFIGURE, "entry_id": entry.entry_id}
    flow = await flows.async_init(DOMAIN, context=context)
    result = await flows.async_configure(flow["flow_id"], {"base": "comfy2mqtt", "client": USER})
    assert result["reason"] == "reconfigure_successful"
    await until(house, lambda: entry.state is ConfigEntryState.LOADED)
    assert said_of(house, "no_answer") == []

    # A user who is no operator gives no commands, and is told so.
    with pytest.raises(HomeAssistantError, match="does not answer a command"):
        await entry.runtime_data.command("comfyui/update", install=False)
    assert said_of(house, "no_answer") == []
