"""A real bridge that keeps results for a moment only, while Home Assistant is away."""

from __future__ import annotations

from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import async_capture_events
from real_run import control, house, set_up, until

from custom_components.comfy2mqtt.const import EVENT

__all__ = ["house"]  # a fixture


async def test_a_result_that_is_kept_no_longer_has_its_event(house: HomeAssistant) -> None:
    entry = await set_up(house)
    hub = entry.runtime_data
    events = async_capture_events(house, EVENT)
    missed = await hub.submit("home", {}, follow=False)
    assert await house.config_entries.async_unload(entry.entry_id)
    await control(f"expire {missed}")
    assert await house.config_entries.async_setup(entry.entry_id)
    (found,) = await until(house, lambda: [each.data for each in events if "job_id" in each.data])
    assert (found["job_id"], found["state"]) == (missed, "cancelled")
    assert (found["outputs_known"], found["outputs"], found["inputs"]) == (False, [], {})
    jobs = await entry.runtime_data.jobs(100)
    await until(house, lambda: entry.runtime_data._results._ledger.after >= jobs[-1]["n"])
    assert await house.config_entries.async_reload(entry.entry_id)
    assert [each.data["job_id"] for each in events if "job_id" in each.data] == [missed]
