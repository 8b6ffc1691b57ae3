"""Setting up: found by itself, named by hand, changed; and AI tasks below it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import DEMO, INFO, FakeBridge
from homeassistant.config_entries import SOURCE_MQTT, SOURCE_RECONFIGURE, SOURCE_USER
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.helpers.service_info.mqtt import MqttServiceInfo
from pytest_homeassistant_custom_component.common import MockConfigEntry


def info(payload: Any = INFO, topic: str = "comfy2mqtt/bridge/info") -> MqttServiceInfo:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return MqttServiceInfo(
        topic=topic, payload=text, qos=0, retain=True, subscribed_topic=topic, timestamp=0.0
    )


async def found(home: HomeAssistant, message: MqttServiceInfo) -> Any:
    return await home.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_MQTT}, data=message
    )


async def answered(home: HomeAssistant, flow: Any, given: dict[str, Any]) -> Any:
    result = await home.config_entries.flow.async_configure(flow["flow_id"], given)
    await home.async_block_till_done()
    return result


async def in_progress(home: HomeAssistant) -> Any:
    """Return the card of the bridge that was found."""
    await home.async_block_till_done(wait_background_tasks=True)
    (flow,) = home.config_entries.flow.async_progress_by_handler(DOMAIN)
    return flow


async def test_a_bridge_that_is_online_is_found_and_set_up_with_one_click(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.come()  # Home Assistant listens for what the manifest names
    flow = await in_progress(home)
    assert flow["context"]["title_placeholders"] == {"name": "The bridge"}
    result = await answered(home, flow, {})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "The bridge"
    assert result["data"] == {"base": "comfy2mqtt", "client": "homeassistant"}
    assert home.states.get("image.demo_last_picture") is not None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (info(""), "invalid_discovery_info"),
        (info("no JSON"), "invalid_discovery_info"),
        (info({"name": "x"}), "invalid_discovery_info"),
        (info(INFO, "a/b/bridge/info"), "invalid_discovery_info"),
        (info({**INFO, "contract": 2}), "other_contract"),
    ],
)
async def test_what_is_no_bridge_of_ours_is_passed_over(
    home: HomeAssistant, bridge: FakeBridge, message: MqttServiceInfo, reason: str
) -> None:
    result = await found(home, message)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, reason)


async def test_a_bridge_is_set_up_once(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    assert (await found(home, info()))["reason"] == "already_configured"
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    result = await answered(home, flow, {"base": "comfy2mqtt", "client": "other"})
    assert result["reason"] == "already_configured"


@pytest.mark.parametrize("mqtt_config_entry_data", [{"broker": "b", "username": "ha-user"}])
async def test_where_the_broker_keeps_users_apart_the_name_is_that_of_the_mqtt_user(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.info = {**INFO, "isolation": "enforced"}
    bridge.client = "ha-user"
    bridge.come()
    result = await answered(home, await in_progress(home), {})
    assert result["data"]["client"] == "ha-user"


async def test_without_an_answer_the_name_can_be_changed(
    home: HomeAssistant, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    bridge.client = "other"
    bridge.come()
    flow = await answered(home, await in_progress(home), {})
    assert flow["errors"] == {"base": "no_answer"}
    result = await answered(home, flow, {"client": "other"})
    assert result["data"]["client"] == "other"


async def test_what_the_bridge_refuses_is_shown_in_its_words(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.errors["list"] = {"code": "quota_exceeded", "message": "too many clients"}
    bridge.come()
    flow = await answered(home, await in_progress(home), {})
    assert flow["errors"] == {"base": "refused"}
    said = {"error": "too many clients", "code": "quota_exceeded"}
    assert said.items() <= flow["description_placeholders"].items()
    bridge.errors.clear()
    result = await answered(home, flow, {"client": "homeassistant"})
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_bridge_of_another_base_works_as_one_that_was_found(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.base = "studio"
    bridge.come()
    await home.async_block_till_done(wait_background_tasks=True)
    # Only the default base is in the manifest.
    assert not home.config_entries.flow.async_progress_by_handler(DOMAIN)
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    given = {"base": "studio", "client": "homeassistant"}
    assert (await answered(home, flow, given))["type"] is FlowResultType.CREATE_ENTRY
    run = {"workflow": "demo", "inputs": {"prompt": "a boat"}}
    found: Any = await home.services.async_call(
        DOMAIN, "run", run, blocking=True, return_response=True
    )
    assert found["state"] == "succeeded"
    shown = home.states.get("event.demo_job_ended")
    assert shown is not None
    assert shown.attributes["job_id"] == found["job_id"]


async def test_a_bridge_can_be_named_by_hand(
    home: HomeAssistant, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.READY_S", 1.0)
    bridge.base = "studio"
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert flow["step_id"] == "user"
    flow = await answered(home, flow, {"base": "studio", "client": "homeassistant"})
    assert flow["errors"] == {"base": "cannot_connect"}
    flow = await answered(home, flow, {"base": "a/#", "client": "not an id"})
    assert flow["errors"] == {"base": "bad_base", "client": "bad_client"}
    bridge.info = {**INFO, "contract": 2}
    bridge.come()
    flow = await answered(home, flow, {"base": "studio", "client": "homeassistant"})
    assert flow["errors"] == {"base": "other_contract"}
    bridge.info = INFO
    bridge.come()
    result = await answered(home, flow, {"base": "studio", "client": "homeassistant"})
    assert result["title"] == "The bridge (studio)"


async def test_a_bridge_that_was_found_can_be_named_by_hand_all_the_same(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    bridge.come()
    await in_progress(home)
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    flow = await answered(home, flow, {"base": "comfy2mqtt", "client": "homeassistant"})
    assert flow["type"] is FlowResultType.CREATE_ENTRY
    assert not home.config_entries.flow.async_progress_by_handler(DOMAIN)


async def test_without_mqtt_nothing_can_be_set_up(home: HomeAssistant) -> None:
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert flow["reason"] == "mqtt_missing"


async def test_base_and_name_can_be_changed_later(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.client = "other"
    context = {"source": SOURCE_RECONFIGURE, "entry_id": loaded.entry_id}
    flow = await home.config_entries.flow.async_init(DOMAIN, context=context)
    assert flow["step_id"] == "reconfigure"
    result = await answered(home, flow, {"base": "comfy2mqtt", "client": "other"})
    assert result["reason"] == "reconfigure_successful"
    assert loaded.data["client"] == "other"
    assert loaded.runtime_data.topics.client == "other"
    entry_with(base="studio").add_to_hass(home)
    flow = await home.config_entries.flow.async_init(DOMAIN, context=context)
    result = await answered(home, flow, {"base": "studio", "client": "other"})
    assert result["reason"] == "already_configured"
    flow = await home.config_entries.flow.async_init(DOMAIN, context=context)
    flow = await answered(home, flow, {"base": "#", "client": "other"})
    assert flow["errors"] == {"base": "bad_base"}


async def test_at_another_base_entities_and_devices_are_the_same_ones(
    home: HomeAssistant, bridge: FakeBridge, mqtt_client_mock: Any, loaded: MockConfigEntry
) -> None:
    entities, devices = entity_registry.async_get(home), device_registry.async_get(home)
    entities.async_update_entity("image.demo_last_picture", new_entity_id="image.painter")
    # Something else has one of the ids already.
    taken = "studio-workflow-photo-picture"
    entities.async_get_or_create("image", DOMAIN, taken, suggested_object_id="other")
    await home.async_block_till_done()

    def ours() -> dict[str, str]:
        found = entity_registry.async_entries_for_config_entry(entities, loaded.entry_id)
        return {each.entity_id: each.unique_id.partition("-")[2] for each in found}

    def places() -> dict[str, set[str]]:
        found = device_registry.async_entries_for_config_entry(devices, loaded.entry_id)
        return {each.id: {identifier for _, identifier in each.identifiers} for each in found}

    before, at = ours(), places()
    assert "image.painter" in before
    FakeBridge(home, mqtt_client_mock, "studio").come()
    flow = await loaded.start_reconfigure_flow(home)
    result = await answered(home, flow, {"base": "studio", "client": "homeassistant"})
    assert result["reason"] == "reconfigure_successful"
    await home.async_block_till_done(wait_background_tasks=True)
    assert loaded.runtime_data.topics.base == "studio"
    assert {**ours(), "image.other": ""} == {**before, "image.other": ""}
    for entity in ("image.painter", "event.demo_job_ended", "ai_task.demo_task_demo"):
        found = home.states.get(entity)
        assert found is not None
        assert found.state != "unavailable"
    assert places() == {
        each: {identifier.replace("comfy2mqtt-", "studio-") for identifier in identifiers}
        for each, identifiers in at.items()
    }


async def test_a_bridge_becomes_one_that_was_found(
    home: HomeAssistant, bridge: FakeBridge, mqtt_client_mock: Any
) -> None:
    entry = await set_up(
        home, FakeBridge(home, mqtt_client_mock, "studio"), entry_with(base="studio")
    )
    bridge.come()
    await in_progress(home)
    flow = await entry.start_reconfigure_flow(home)
    result = await answered(home, flow, {"base": "comfy2mqtt", "client": "homeassistant"})
    assert result["reason"] == "reconfigure_successful"
    assert (entry.unique_id, entry.data["base"]) == ("comfy2mqtt", "comfy2mqtt")
    # Its card would set it up a second time.
    assert not home.config_entries.flow.async_progress_by_handler(DOMAIN)


async def test_an_ai_task_is_a_workflow_with_what_is_fixed(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    entry = await set_up(home, bridge, entry_with())
    subentries = home.config_entries.subentries
    flow = await subentries.async_init((entry.entry_id, "ai_task"), context={"source": SOURCE_USER})
    options = flow["data_schema"].schema["workflow"].config["options"]
    assert [each["value"] for each in options] == ["caption", "demo", "photo"]
    flow = await subentries.async_configure(flow["flow_id"], {"workflow": "demo"})
    fields = {str(key) for key in flow["data_schema"].schema}
    assert fields == {"name", "prompt_input", "timeout", "prompt", "steps", "style"}
    given = {"name": "Painter", "prompt_input": "prompt", "timeout": 60, "steps": 8.0}
    result = await subentries.async_configure(flow["flow_id"], given)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await home.async_block_till_done()
    (subentry,) = entry.subentries.values()
    assert subentry.title == "Painter"
    fixed = {"workflow": "demo", "prompt_input": "prompt", "timeout": 60, "inputs": {"steps": 8}}
    assert dict(subentry.data) == fixed
    assert home.states.get("ai_task.demo_painter") is not None

    flow = await entry.start_subentry_reconfigure_flow(home, subentry.subentry_id)
    result = await subentries.async_configure(flow["flow_id"], {"name": "Fast", "timeout": 5})
    assert result["reason"] == "reconfigure_successful"
    await home.async_block_till_done()
    (subentry,) = entry.subentries.values()
    assert (subentry.title, subentry.data["inputs"]) == ("Fast", {})


async def test_an_ai_task_needs_a_workflow_that_is_there(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    subentries, place = home.config_entries.subentries, (loaded.entry_id, "ai_task")
    flow = await subentries.async_init(place, context={"source": SOURCE_USER})
    for name in ("demo", "photo", "caption"):
        bridge.fire(f"workflow/{name}", "", retain=True)
    result = await subentries.async_configure(flow["flow_id"], {"workflow": "demo"})
    assert result["reason"] == "no_workflows"
    flow = await loaded.start_subentry_reconfigure_flow(home, "task0")
    assert flow["reason"] == "workflow_gone"
    bridge.fire("workflow/demo", DEMO, retain=True)
    flow = await loaded.start_subentry_reconfigure_flow(home, "task0")
    assert await home.config_entries.async_unload(loaded.entry_id)
    result = await subentries.async_configure(flow["flow_id"], {"timeout": 5})
    assert result["reason"] == "entry_not_loaded"
    flow = await subentries.async_init(place, context={"source": SOURCE_USER})
    assert flow["reason"] == "entry_not_loaded"
