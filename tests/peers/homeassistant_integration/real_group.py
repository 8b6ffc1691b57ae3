"""A group of bridges in a real Home Assistant: which one announces, and runs, is not to be seen.

Run by `tests/peers/test_homeassistant_integration.py`; nothing of MQTT is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import DOMAIN
from homeassistant.components import mqtt
from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import device_registry, entity_registry, issue_registry
from real_run import control, house, set_up, until

__all__ = ["house"]  # a fixture

PROMPT, STRENGTH = "text.comfy2mqtt_home_prompt", "number.comfy2mqtt_home_strength"
STYLE, SWITCH = "select.comfy2mqtt_home_style", "switch.comfy2mqtt_home_upscale"
RUN, DONE = "button.comfy2mqtt_home_run", "event.comfy2mqtt_home_done"
SET = {PROMPT: "a boat at night", STRENGTH: "0.25", STYLE: "ink", SWITCH: "on"}


def state(house: HomeAssistant, entity: str) -> str | None:
    found = house.states.get(entity)
    return None if found is None else found.state


@contextmanager
def ends(house: HomeAssistant) -> Iterator[list[Any]]:
    """Yield the ends of jobs, as discovery's event tells them."""
    found: list[Any] = []

    @callback
    def take(event: Event[Any]) -> None:
        new = event.data["new_state"]
        if event.data["entity_id"] == DONE and new is not None and "job_id" in new.attributes:
            found.append(new.attributes)

    stop = house.bus.async_listen(EVENT_STATE_CHANGED, take)
    yield found
    stop()


@contextmanager
def stay(house: HomeAssistant) -> Iterator[None]:
    """Assert that no entity of discovery is removed, or unavailable for a moment."""
    registry = entity_registry.async_get(house)
    away: list[str] = []

    @callback
    def take(event: Event[Any]) -> None:
        new = event.data["new_state"]
        if new is None or new.state == "unavailable":
            away.append(event.data["entity_id"])

    def ours() -> set[str]:
        return {
            each.entity_id
            for each in registry.entities.values()
            if each.platform == mqtt.DOMAIN and each.disabled_by is None
        }

    before = ours()
    stop = house.bus.async_listen(EVENT_STATE_CHANGED, take)
    yield
    stop()
    assert ours() == before
    assert not [each for each in away if each in before]


async def press(house: HomeAssistant) -> None:
    await house.services.async_call("button", "press", {"entity_id": RUN}, blocking=True)


async def set_all(house: HomeAssistant) -> None:
    """Set an input of each kind, as a person does."""
    for domain, action, entity, data in (
        ("text", "set_value", PROMPT, {"value": SET[PROMPT]}),
        ("number", "set_value", STRENGTH, {"value": float(SET[STRENGTH])}),
        ("select", "select_option", STYLE, {"option": SET[STYLE]}),
        ("switch", "turn_on", SWITCH, {}),
    ):
        await house.services.async_call(
            domain, action, {"entity_id": entity, **data}, blocking=True
        )
    await until(house, lambda: all(state(house, each) == SET[each] for each in SET))


async def test_a_bridge_that_is_killed_is_not_missed(
    house: HomeAssistant, caplog: pytest.LogCaptureFixture
) -> None:
    # The ComfyUIs of both bridges are at one device.
    for name in ("a", "b"):
        entity = f"sensor.comfy2mqtt_comfyui_{name}_default"
        await until(house, lambda entity=entity: state(house, entity) in ("ready", "busy"))
    hub: Any = (await set_up(house)).runtime_data
    await until(house, lambda: state(house, RUN) is not None)
    await set_all(house)
    with ends(house) as ended, stay(house):
        await press(house)
        await until(house, lambda: len(ended) == 1)
        for killed, left in (("a", "b"), ("b", "a")):
            count = len(ended)
            await control(f"kill {killed}")
            # At once: nobody may have noticed yet. It waits at the broker.
            await press(house)
            await until(house, lambda count=count: len(ended) == count + 1)
            assert {each["event_type"] for each in ended} == {"succeeded"}
            inputs = await control(f"inputs {left} {ended[-1]['job_id']}")
            found = [inputs[each] for each in ("prompt", "strength", "style", "upscale")]
            assert found == [SET[PROMPT], 0.25, SET[STYLE], True]
            for each in (*SET, RUN, "image.comfy2mqtt_home_image"):
                assert state(house, each) not in (None, "unavailable"), each
            assert {each: state(house, each) for each in SET} == SET
            # The integration continues as well: an action waits for its job's end.
            async with asyncio.timeout(60):
                result = await hub.run("home", {"prompt": f"after {killed}"})
            assert result.state == "succeeded"
            await until(house, lambda count=count: len(ended) == count + 2)
            await control(f"start {killed}")
            entity = f"sensor.comfy2mqtt_comfyui_{killed}_default"
            await until(house, lambda entity=entity: state(house, entity) in ("ready", "busy"))
        # Each job was reported once.
        jobs = [each["job_id"] for each in ended]
        assert len(jobs) == len(set(jobs)) == 5
    devices = device_registry.async_get(house).devices
    names = [
        identifier
        for each in devices
        for domain, identifier in each.identifiers
        if domain in (mqtt.DOMAIN, DOMAIN)
    ]
    assert len(names) == len(set(names))
    assert not issue_registry.async_get(house).issues
    assert not [each for each in caplog.records if each.exc_info]
