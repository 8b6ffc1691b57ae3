"""The bridge's discovery in the newest Home Assistant, at a real broker."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import DOMAIN
from homeassistant.components import mqtt
from homeassistant.components.device_automation import (
    DeviceAutomationType,
    async_get_device_automations,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry, entity_registry, issue_registry
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import parse_yaml
from pytest_homeassistant_custom_component.common import async_capture_events
from real_run import TIMEOUT_S, control, house, set_up, until
from seen import ends

from custom_components.comfy2mqtt.const import EVENT
from custom_components.comfy2mqtt.devices import discovered

__all__ = ["house"]  # a fixture


async def test_every_component_becomes_an_entity_and_none_of_its_keys_is_dropped(
    house: HomeAssistant, caplog: pytest.LogCaptureFixture
) -> None:
    found: dict[str, dict[str, Any]] = {}

    @callback  # else it would be called in a thread
    def take(message: mqtt.ReceiveMessage) -> None:
        found[message.topic] = json.loads(message.payload)

    stop = await mqtt.async_subscribe(house, "homeassistant/device/+/config", take)
    await until(house, lambda: len(found) == 5)
    stop()
    entities = entity_registry.async_get(house)
    for config in found.values():
        for key, component in config["components"].items():
            platform = component["platform"]
            if platform == "device_automation":
                continue

            def entity(platform: str = platform, component: Any = component) -> str | None:
                return entities.async_get_entity_id(platform, mqtt.DOMAIN, component["unique_id"])

            await until(house, entity)
            assert entity() == component["default_entity_id"], key
            module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
            given = {name: value for name, value in component.items() if name != "platform"}
            read = module.DISCOVERY_SCHEMA({**given, "device": config["device"]})
            # For those before 2025.10.
            assert set(given) - set(read) == {"object_id"}, key
    assert not issue_registry.async_get(house).issues
    said = [
        each.getMessage()
        for each in caplog.records
        if each.name.startswith("homeassistant") and each.levelno >= logging.WARNING
    ]
    assert not [each for each in said if "comfy2mqtt" in each]


async def test_the_end_of_a_job_is_a_trigger_of_its_device(house: HomeAssistant) -> None:
    device = await until(house, lambda: discovered(house, "comfy2mqtt-workflow-home"))
    kind, wanted = DeviceAutomationType.TRIGGER, {"succeeded", "failed", "cancelled", "expired"}

    async def offered() -> set[str]:
        found = await async_get_device_automations(house, kind, [device.id])
        return {each["type"] for each in found[device.id] if each["domain"] == mqtt.DOMAIN}

    # They are read one after the other, and no event says that all are there.
    async with asyncio.timeout(TIMEOUT_S):
        while not wanted <= await offered():
            await asyncio.sleep(0.1)
    ran = async_capture_events(house, "ran")
    trigger = {"trigger": "device", "domain": mqtt.DOMAIN, "device_id": device.id}
    config = {
        "alias": "it",
        "triggers": {**trigger, "type": "cancelled", "subtype": "Job"},
        "actions": {"event": "ran", "event_data": {"job": "{{ trigger.payload_json.job_id }}"}},
    }
    assert await async_setup_component(house, "automation", {"automation": config})
    requests = "comfy2mqtt/client/homeassistant/request"
    tried: list[str] = []
    # An end is received once Home Assistant has subscribed, and of that there is no event.
    async with asyncio.timeout(TIMEOUT_S):
        while not ran:
            tried.append(f"j-trigger-{len(tried)}")
            await mqtt.async_publish(house, f"{requests}/run/home/{tried[-1]}", "{}", 1)
            cancel = json.dumps({"job_id": tried[-1]})
            await mqtt.async_publish(house, f"{requests}/cancel", cancel, 1)
            await asyncio.sleep(1)
    assert ran[0].data["job"] in tried


async def test_the_queue_is_paused_by_a_switch_that_shows_it(house: HomeAssistant) -> None:
    paused, yielded = "switch.comfy2mqtt_paused", "switch.comfy2mqtt_yielded_default"

    def is_now(entity: str, wanted: str) -> bool:
        state = house.states.get(entity)
        return state is not None and state.state == wanted

    for entity in (paused, yielded):
        await until(house, lambda entity=entity: is_now(entity, "off"))
    for action, wanted in (("turn_on", "on"), ("turn_off", "off")):
        await house.services.async_call("switch", action, {"entity_id": paused}, blocking=True)
        await until(house, lambda wanted=wanted: is_now(paused, wanted))
    memory = house.states.get("sensor.comfy2mqtt_memory")
    assert memory is not None
    assert 1 < float(memory.state) < 1000
    assert memory.attributes["unit_of_measurement"] == "MB"


async def test_of_very_many_choices_one_is_found_by_a_part_of_its_name(
    house: HomeAssistant,
) -> None:
    text, message = "text.comfy2mqtt_many_style", "sensor.comfy2mqtt_many_message"

    def shown(entity: str) -> Any:
        state = house.states.get(entity)
        return ("", {}) if state is None else (state.state, state.attributes)

    async def put(value: str) -> None:
        data = {"entity_id": text, "value": value}
        await house.services.async_call("text", "set_value", data, blocking=True)

    await until(house, lambda: shown(text)[1].get("choices") == 600)
    assert shown(text)[1]["allowed"] == [f"style{number}" for number in range(600)]
    await put("STYLE59")
    await until(house, lambda: shown(text)[1].get("like") == "STYLE59")
    found = ["style59", *(f"style{number}" for number in range(590, 600))]
    assert (shown(text)[0], shown(text)[1]["allowed"]) == ("style0", found)
    await until(house, lambda: "like it are style59, style590" in shown(message)[0])
    await put("style599")
    await until(house, lambda: shown(text)[0] == "style599")
    await until(house, lambda: "like" not in shown(text)[1])


async def test_the_automations_of_the_page_are_valid(house: HomeAssistant) -> None:
    page = (Path(__file__).parents[3] / "docs" / "home-assistant.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    config = [found for each in blocks if "alias" in (found := parse_yaml(each))]
    assert len(config) == 4
    assert await async_setup_component(house, "automation", {"automation": config})
    assert [each.state for each in house.states.async_all("automation")] == ["on"] * 4


async def test_a_workflow_that_is_added_while_both_run_is_one_device(house: HomeAssistant) -> None:
    entry = await set_up(house)
    devices, entities = device_registry.async_get(house), entity_registry.async_get(house)
    identifier = "comfy2mqtt-workflow-added"

    def ours() -> str | None:
        return entities.async_get_entity_id("image", DOMAIN, f"{identifier}-picture")

    await control("add added")
    device = await until(house, lambda: discovered(house, identifier))
    known = entities.async_get(await until(house, ours))
    assert known is not None
    assert known.device_id == device.id
    assert known.disabled_by is entity_registry.RegistryEntryDisabler.INTEGRATION
    made = device_registry.async_entries_for_config_entry(devices, entry.entry_id)
    assert not [each for each in made if each.model == "Workflow"]
    await control("delete added")
    await until(house, lambda: discovered(house, identifier) is None)


async def test_a_connection_that_is_made_anew_is_used_and_then_left(house: HomeAssistant) -> None:
    """Of Home Assistant's MQTT integration, which is loaded again where its settings change."""
    entry = await set_up(house)
    hub: Any = entry.runtime_data
    events = async_capture_events(house, EVENT)
    (broker,) = house.config_entries.async_entries(mqtt.DOMAIN)
    assert await house.config_entries.async_reload(broker.entry_id)
    await until(house, lambda: hub.is_available)
    first = await hub.submit("home", {}, follow=False)
    await hub.cancel(first)
    await until(house, lambda: ends(events) == [first])
    await until(house, lambda: hub._results._ledger.last == first)

    # The subscriptions stay: what has ended takes and acknowledges nothing any more.
    assert await house.config_entries.async_unload(entry.entry_id)
    place = "comfy2mqtt/client/homeassistant"
    seen: dict[str, list[str]] = {}

    @callback  # else it would be called in a thread
    def take(message: mqtt.ReceiveMessage) -> None:
        seen.setdefault(message.topic.removeprefix(f"{place}/"), []).append(message.payload)

    for each in ("request/ack", "response/list", "job/+/result"):
        await mqtt.async_subscribe(house, f"{place}/{each}", take)

    async def asked(verb: str, answer: str, **fields: Any) -> None:
        """Send a request until it is answered: no event says that all is subscribed to."""
        async with asyncio.timeout(TIMEOUT_S):
            while answer not in seen:
                await mqtt.async_publish(house, f"{place}/request/{verb}", json.dumps(fields), 1)
                await asyncio.sleep(0.5)

    await mqtt.async_publish(house, f"{place}/request/run/home/j-unheard", "{}", 1)
    await asked("cancel", "job/j-unheard/result", job_id="j-unheard")
    await asked("list", "response/list", peek=True)
    assert "request/ack" not in seen
    assert await house.config_entries.async_setup(entry.entry_id)
    await until(house, lambda: ends(events) == [first, "j-unheard"])
    await until(house, lambda: "request/ack" in seen)


async def test_a_broker_that_restarts_is_no_end(
    house: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeassistant.components.mqtt.client.RECONNECT_INTERVAL_SECONDS", 0.2)
    hub: Any = (await set_up(house)).runtime_data
    await hub.submit("home", {"prompt": "before"}, follow=False)
    await control("broker stop")
    await until(house, lambda: not hub.is_available)
    with pytest.raises(HomeAssistantError, match="is not available"):
        await hub.submit("home", {"prompt": "meanwhile"}, follow=False)
    await control("broker start")
    await until(house, lambda: hub.is_available)
    await hub.submit("home", {"prompt": "after"}, follow=False)
    jobs = await hub.jobs(9, workflow="home", states=["queued"])
    assert len(jobs) == 2
    for each in jobs:
        await hub.cancel(each["job_id"])
    # What ended is acknowledged once it was seen.
    await until(house, lambda: hub._results.newest >= jobs[0]["n"])
