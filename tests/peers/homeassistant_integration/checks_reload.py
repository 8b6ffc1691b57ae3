"""An entry is loaded again only if what it is set up from has changed."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

from conftest import DOMAIN, entry_with, set_up
from fake_bridge import FakeBridge
from homeassistant.components import ai_task
from homeassistant.config_entries import SOURCE_USER
from homeassistant.core import HomeAssistant
from homeassistant.helpers.discovery_flow import DiscoveryKey
from pytest_homeassistant_custom_component.common import MockConfigEntry
from seen import issues, state


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
    # Another bridge or name has it loaded again.
    home.config_entries.async_update_entry(loaded, title="The studio")
    await home.async_block_till_done(wait_background_tasks=True)
    (entry,) = home.config_entries.async_entries(DOMAIN)
    assert entry.runtime_data is not hub


async def test_a_job_that_is_waited_for_outlives_tasks_that_are_added_changed_and_removed(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.ends = False
    hub, entries = loaded.runtime_data, home.config_entries
    waiting = home.async_create_background_task(hub.run("demo", {}), "waits")
    while not bridge.asked("submit"):
        await home.async_add_executor_job(int)
    source = {"source": SOURCE_USER}
    flow = await entries.subentries.async_init((loaded.entry_id, "ai_task"), context=source)
    flow = await entries.subentries.async_configure(flow["flow_id"], {"workflow": "demo"})
    await entries.subentries.async_configure(flow["flow_id"], {"name": "Painter"})
    await home.async_block_till_done()
    assert state(home, "ai_task.demo_painter").name == "Demo Painter"

    (added,) = (each for each in loaded.subentries.values() if each.title == "Painter")
    options = {"workflow": "demo", "prompt_input": "prompt", "inputs": {"steps": 7}}
    entries.async_update_subentry(loaded, added, title="Miller", data=options)
    await home.async_block_till_done()
    assert state(home, "ai_task.demo_painter").name == "Demo Miller"
    painted = asyncio.create_task(
        ai_task.async_generate_image(
            home, task_name="a", entity_id="ai_task.demo_painter", instructions="red"
        )
    )
    while len(bridge.asked("submit")) < 2:
        await home.async_add_executor_job(int)
    assert bridge.asked("submit")[1]["inputs"] == {"prompt": "red", "steps": 7}

    # A task in progress continues, too, though its entity is gone.
    entries.async_remove_subentry(loaded, added.subentry_id)
    await home.async_block_till_done()
    assert home.states.get("ai_task.demo_painter") is None
    for job in bridge.asked("submit"):
        bridge.end(job["job_id"])
    assert (await waiting).state == "succeeded"
    assert (await painted)["model"] == "demo"
    assert loaded.runtime_data is hub


async def test_a_task_whose_workflow_is_gone_is_no_repair_once_it_is_removed(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    entry = await set_up(home, bridge, entry_with({"workflow": "gone"}))
    assert issues(home) == {"workflow_gone"}
    home.config_entries.async_remove_subentry(entry, "task0")
    await home.async_block_till_done()
    assert issues(home) == set()
