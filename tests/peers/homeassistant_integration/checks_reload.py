"""An entry is loaded again only if what it is set up from has changed."""

from __future__ import annotations

from types import MappingProxyType

from conftest import DOMAIN
from fake_bridge import FakeBridge
from homeassistant.core import HomeAssistant
from homeassistant.helpers.discovery_flow import DiscoveryKey
from pytest_homeassistant_custom_component.common import MockConfigEntry


async def test_a_job_that_is_waited_for_outlives_a_note_of_how_the_bridge_was_found(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.ends = False
    hub = loaded.runtime_data
    waiting = home.async_create_background_task(hub.run("demo", {}), "waits")
    while not bridge.asked("submit"):
        await home.async_add_executor_job(int)
    key = DiscoveryKey(domain="mqtt", key="comfy2mqtt/bridge/info again", version=1)
    home.config_entries.async_update_entry(
        loaded, discovery_keys=MappingProxyType({"mqtt": (key,)})
    )
    await home.async_block_till_done()
    (job,) = bridge.asked("submit")
    bridge.end(job["job_id"])
    assert (await waiting).state == "succeeded"
    assert loaded.runtime_data is hub
    # What it is made of has it loaded again.
    home.config_entries.async_update_entry(loaded, title="The studio")
    await home.async_block_till_done(wait_background_tasks=True)
    (entry,) = home.config_entries.async_entries(DOMAIN)
    assert entry.runtime_data is not hub
