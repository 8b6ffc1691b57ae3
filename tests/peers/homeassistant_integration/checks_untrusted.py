"""Whatever somebody publishes, and whatever the stored files contain: the integration works."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import DEMO, INFO, FakeBridge
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry, selector
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    async_fire_time_changed,
)
from seen import PICTURE, ends, settled, state

from custom_components.comfy2mqtt.const import EVENT
from custom_components.comfy2mqtt.protocol import definitions, selectors
from custom_components.comfy2mqtt.protocol.messages import Output

PICTURE_OF: dict[str, Any] = {
    "n": 1,
    "job_id": "j",
    "index": 0,
    "content_type": "image/png",
    "size": 1,
    "sha256": "ab",
}


def of_version_1(data: Any) -> dict[str, Any]:
    return {"version": 1, "minor_version": 1, "data": data}


@pytest.mark.parametrize(
    "kept",
    [
        {"version": 1},
        *map(
            of_version_1,
            [
                [],
                7,
                {"after": "many"},
                {"after": 500, "last": "seen", "taken": 7},
                {"after": 500, "last": "seen", "taken": {"seen": "many"}},
                {"after": 500, "last": "seen", "taken": {}, "pictures": {"demo": {"n": 3}}},
                {
                    "after": 500,
                    "last": "seen",
                    "taken": {},
                    "pictures": {"demo": {**PICTURE_OF, "at": 7}},
                },
            ],
        ),
    ],
    ids=repr,
)
async def test_what_was_kept_and_cannot_be_read_is_listed_again(
    home: HomeAssistant,
    bridge: FakeBridge,
    hass_storage: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    kept: Any,
) -> None:
    entry = entry_with()
    hass_storage[f"{DOMAIN}.{entry.entry_id}"] = kept
    bridge.result("told")
    bridge.jobs[0]["acked"] = True
    bridge.result("missed")
    events = async_capture_events(home, EVENT)
    await set_up(home, bridge, entry)
    await settled(home)
    assert "are listed from the beginning" in caplog.text
    assert "Traceback" not in caplog.text
    # It is no first setup: what nobody has acknowledged was missed.
    assert ends(events) == ["missed"]
    assert all(each["acked"] for each in bridge.jobs)


async def test_a_setup_that_a_defect_ends_is_left_whole(
    home: HomeAssistant, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("custom_components.comfy2mqtt.follow_workflows", fail)
    entry = entry_with()
    entry.add_to_hass(home)
    bridge.come()
    assert not await home.config_entries.async_setup(entry.entry_id)
    asked = len(bridge.requests)
    bridge.leave()
    bridge.come()
    await settled(home)
    assert len(bridge.requests) == asked


@pytest.mark.parametrize("wrong", [{}, {"state": "succeeded"}, {"state": ["running"]}], ids=repr)
async def test_an_action_ends_whose_job_cannot_be_read(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.ASK_S", 0.01)
    bridge.ends = False
    bridge.status = wrong
    with pytest.raises(HomeAssistantError) as raised:
        await loaded.runtime_data.run("demo", {})
    assert raised.value.translation_key == "malformed"


@pytest.mark.parametrize(
    "page",
    [{}, {"jobs": 7}, {"jobs": [7], "more": True}, {"jobs": [{"n": 0}], "more": True}],
    ids=repr,
)
async def test_a_list_that_cannot_be_read_is_an_error_and_no_list_for_ever(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
    page: dict[str, Any],
) -> None:
    bridge.page = page
    with pytest.raises(HomeAssistantError) as raised:
        await home.services.async_call(DOMAIN, "list", {}, blocking=True, return_response=True)
    assert raised.value.translation_key == "malformed"
    bridge.leave()
    bridge.come()
    await settled(home)
    assert "cannot be listed" in caplog.text
    assert "Traceback" not in caplog.text
    await home.config_entries.async_reload(loaded.entry_id)
    assert loaded.state is ConfigEntryState.SETUP_RETRY
    assert loaded.error_reason_translation_key == "malformed"


async def test_a_list_without_end_is_an_error(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.MOST_REQUESTS", 7)

    def listed(_: str, data: Any) -> Any:
        n = data["after"] + 1
        job = {"n": n, "job_id": f"j{n}", "workflow": "demo", "state": "succeeded"}
        # A list without end, and lists without end of one page each.
        return {"jobs": [job], "more": n % pages != 0}

    monkeypatch.setattr(bridge, "_list", listed)
    for pages in (1000, 1):
        bridge.requests.clear()
        if pages > 1:
            with pytest.raises(HomeAssistantError, match="a list without end"):
                await loaded.runtime_data.jobs(1)
            assert len(bridge.asked("list")) == 7
        bridge.requests.clear()
        bridge.leave()
        bridge.come()
        await settled(home)
        assert len(bridge.asked("list")) == 7
    assert "a list without end" in caplog.text


async def test_an_output_without_end_is_an_error(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.MOST_REQUESTS", 7)

    def fetched(_: str, data: Any) -> Any:
        return {"base64": "YQ==", "next": data["offset"] + 1}

    monkeypatch.setattr(bridge, "_fetch", fetched)
    hub = loaded.runtime_data
    for size, width, error, requests in (
        (1000, None, "an output without end", 7),
        (3, None, "are not those of its result", 3),
        (3, 64, "an output without end", 7),
    ):
        bridge.requests.clear()
        output = Output(0, "picture", "image", "image/png", size, "ab")
        with pytest.raises(HomeAssistantError, match=error):
            await hub.output("j1", output, width)
        assert len(bridge.asked("fetch")) == requests


async def test_a_setup_that_failed_writes_nothing_afterwards(
    home: HomeAssistant,
    bridge: FakeBridge,
    hass_storage: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next try may have kept something newer by then."""
    acknowledge = bridge._ack

    def then_refuse(whole: str, data: Any) -> Any:
        bridge.errors["list"] = {"code": "busy", "message": "the journal is full"}
        return acknowledge(whole, data)

    monkeypatch.setattr(bridge, "_ack", then_refuse)
    bridge.result("old")
    entry = entry_with()
    entry.add_to_hass(home)
    bridge.come()
    await home.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    # What it knew is kept at once.
    assert hass_storage[f"{DOMAIN}.{entry.entry_id}"]["data"]["last"] == "old"
    newer = hass_storage[f"{DOMAIN}.{entry.entry_id}"] = of_version_1({"after": 9})
    bridge.errors["list"] = {"code": "busy", "message": "still"}
    async_fire_time_changed(home, dt_util.utcnow() + timedelta(minutes=1))
    await settled(home)
    assert hass_storage[f"{DOMAIN}.{entry.entry_id}"] is newer


async def test_a_job_whose_number_cannot_be_read_is_no_new_journal(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    events = async_capture_events(home, EVENT)
    bridge.end("first", n=500)
    await settled(home)
    bridge.status = {"n": "many"}
    bridge.leave()
    bridge.come()
    await settled(home)
    assert loaded.runtime_data._results._ledger.last == "first"
    bridge.status = None
    bridge.end("second", n=501)
    bridge.leave()
    bridge.come()
    await settled(home)
    assert ends(events) == ["first", "second"]
    assert all(each["acked"] for each in bridge.jobs)


@pytest.mark.parametrize(
    "page", ["http://pc.example:99999", "http://pc.example:x/", "http://[", "ftp://pc.example"]
)
async def test_an_address_that_is_none_is_at_no_device(
    home: HomeAssistant, bridge: FakeBridge, page: str
) -> None:
    bridge.info = {**INFO, "page": page}
    entry = await set_up(home, bridge, entry_with())
    assert entry.state is ConfigEntryState.LOADED
    devices = device_registry.async_get(home)
    made = device_registry.async_entries_for_config_entry(devices, entry.entry_id)
    assert made
    assert {each.configuration_url for each in made} == {None}


async def test_an_output_whose_parts_do_not_go_on_is_an_error(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.result("j1")
    bridge.part = {"base64": "", "next": 0}
    (output,) = (await loaded.runtime_data.result_of("j1")).outputs
    with pytest.raises(HomeAssistantError) as raised:
        await loaded.runtime_data.output("j1", output)
    assert raised.value.translation_key == "malformed"


async def test_a_workflow_may_make_pictures_no_more_and_then_again(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = [{"name": "text", "kind": "text", "node": "9"}]
    for changed in ({**DEMO, "outputs": text}, DEMO):
        bridge.fire("workflow/demo", changed, retain=True)
        await settled(home)
    assert state(home, PICTURE)
    assert "unique ID" not in caplog.text


@pytest.mark.parametrize(
    "schema",
    [
        {"x-kind": "integer", "minimum": 9, "maximum": 1},
        {"x-kind": "float", "minimum": -1e300, "maximum": 1e300, "x-step": -5},
        {"x-kind": "float", "x-step": 1e-300},
        {"x-kind": "choice", "enum": [{"a": 1}, None, "", 7]},
        {"x-kind": "image", "contentMediaType": ""},
        {"x-kind": "of a later version"},
    ],
    ids=repr,
)
def test_whatever_an_input_is_its_selector_is_one_that_home_assistant_takes(
    schema: dict[str, Any],
) -> None:
    each = definitions._input("x", schema, required=False)
    assert selector.selector(selectors.selector(each, {}))
