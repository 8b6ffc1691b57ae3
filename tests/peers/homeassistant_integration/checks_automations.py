"""The triggers and conditions of devices, as Home Assistant offers and runs them."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import DOMAIN
from fake_bridge import FakeBridge
from homeassistant.components.device_automation import (
    DeviceAutomationType,
    async_get_device_automations,
)
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events


def device_of(home: HomeAssistant, entry: MockConfigEntry, name: str) -> str:
    found = device_registry.async_get(home).async_get_device_by_identifier(
        (DOMAIN, f"comfy2mqtt-{name}"), entry.entry_id
    )
    assert found is not None
    return found.id


async def offered(home: HomeAssistant, kind: DeviceAutomationType, device: str) -> list[str]:
    found = await async_get_device_automations(home, kind, [device])
    return [each["type"] for each in found[device] if each["domain"] == DOMAIN]


async def automation(home: HomeAssistant, **parts: Any) -> list[Any]:
    """Set up an automation of these parts; what it fires is in the list."""
    parts["actions"] = {
        "event": "ran",
        "event_data": {
            "type": "{{ trigger.event.data.type }}",
            "job": "{{ trigger.event.data.get('job_id') }}",
        },
    }
    found = async_capture_events(home, "ran")
    assert await async_setup_component(home, "automation", {"automation": {"alias": "it", **parts}})
    await home.async_block_till_done()
    assert [each.state for each in home.states.async_all("automation")] == ["on"]
    return found


def of(device: str, kind: str) -> dict[str, str]:
    return {"domain": DOMAIN, "device_id": device, "type": kind}


async def test_each_device_offers_what_fits_it(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    workflow, own = (device_of(home, loaded, name) for name in ("workflow-demo", "bridge"))
    triggers, conditions = DeviceAutomationType.TRIGGER, DeviceAutomationType.CONDITION
    assert await offered(home, triggers, workflow) == [
        "job_succeeded",
        "job_failed",
        "job_cancelled",
        "job_expired",
    ]
    assert await offered(home, conditions, workflow) == []
    assert await offered(home, triggers, own) == [
        "bridge_online",
        "bridge_offline",
        "bridge_busy",
        "bridge_idle",
    ]
    assert await offered(home, conditions, own) == ["is_online", "is_offline", "is_busy", "is_idle"]


async def test_a_job_that_ends_runs_what_waits_for_it_also_after_a_reload(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    device = device_of(home, loaded, "workflow-demo")
    ran = await automation(home, triggers={"trigger": "device", **of(device, "job_failed")})
    bridge.end("j1")
    bridge.end("j2", workflow="photo", state="failed")
    # An outcome that a later bridge may have, and a workflow that is gone.
    bridge.end("j3", state="of a later version")
    bridge.end("j4", workflow="gone", state="failed")
    bridge.end("j5", state="failed", error={"code": "timeout", "message": "too long"})
    await home.async_block_till_done()
    assert [each.data for each in ran] == [{"type": "job_failed", "job": "j5"}]
    bridge.leave()
    bridge.come()
    await home.config_entries.async_reload(loaded.entry_id)
    await home.async_block_till_done(wait_background_tasks=True)
    bridge.end("j6", state="failed")
    await home.async_block_till_done()
    assert [each.data["job"] for each in ran] == ["j5", "j6"]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bridge_offline", [("bridge/state", "offline")]),
        ("bridge_online", [("bridge/state", "offline"), ("bridge/state", "online")]),
        ("bridge_busy", [("bridge/comfyui/default", {"state": "busy"})]),
        (
            "bridge_idle",
            [
                ("bridge/comfyui/default", {"state": "busy"}),
                ("bridge/comfyui/default", {"state": "ready"}),
            ],
        ),
    ],
)
async def test_a_change_of_the_bridge_runs_what_waits_for_it(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    kind: str,
    changes: list[tuple[str, Any]],
) -> None:
    device = device_of(home, loaded, "bridge")
    ran = await automation(home, triggers={"trigger": "device", **of(device, kind)})
    for topic, payload in changes:
        bridge.fire(topic, payload, retain=True)
        # What is as it was is no change.
        bridge.fire(topic, payload, retain=True)
    await home.async_block_till_done()
    assert [each.data["type"] for each in ran] == [kind]


async def test_conditions_are_tested_as_the_bridge_stands(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    device = device_of(home, loaded, "bridge")
    ran = await automation(
        home,
        triggers={"trigger": "event", "event_type": "look", "event_data": {}},
        conditions={"condition": "device", **of(device, "is_busy")},
    )
    bridge.fire("bridge/comfyui/default", {"state": "busy"}, retain=True)
    home.bus.async_fire("look", {"type": "while busy"})
    await home.async_block_till_done()
    bridge.fire("bridge/comfyui/default", {"state": "ready"}, retain=True)
    home.bus.async_fire("look", {"type": "while idle"})
    await home.async_block_till_done()
    bridge.fire("bridge/comfyui/default", {"state": "busy"}, retain=True)
    assert await home.config_entries.async_unload(loaded.entry_id)
    home.bus.async_fire("look", {"type": "while it is not set up"})
    await home.async_block_till_done()
    assert [each.data["type"] for each in ran] == ["while busy"]
