"""comfy2mqtt: ComfyUI's workflows as AI tasks, actions and pictures of Home Assistant.

`protocol` is the bridge's contract and pure; `hub` is one bridge at Home Assistant's own MQTT
connection; the rest are Home Assistant's platforms on top of it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ConfigEntryNotReady, HomeAssistantError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.typing import ConfigType

from . import actions, automations, card, issues, media_source
from .action_names import action_names
from .const import CONF_BASE, CONF_CLIENT, DOMAIN
from .devices import device, follow_discovery, follow_workflows
from .hub import AVAILABILITY, WORKFLOWS, Comfy2MQTTConfigEntry, Hub
from .protocol.messages import RefusedError
from .protocol.topics import Topics
from .requests import error_text, failure, mqtt_is_there
from .storage import store

PLATFORMS = [Platform.AI_TASK, Platform.EVENT, Platform.IMAGE, Platform.UPDATE]
CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)


async def async_setup(hass: HomeAssistant, _config: ConfigType) -> bool:
    """Register the actions, what serves results, and the dashboard card."""
    await action_names(hass)
    actions.set_up(hass)
    issues.set_up(hass)
    hass.http.register_view(media_source.ResultView())
    await card.set_up(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> bool:
    """Set up one bridge."""
    if not await mqtt_is_there(hass):
        issues.withdraw_all(hass, entry)
        raise ConfigEntryNotReady(translation_domain=DOMAIN, translation_key="no_mqtt")
    topics = Topics(entry.data[CONF_BASE], entry.data[CONF_CLIENT])
    spawn = partial(entry.async_create_background_task, hass)
    hub = Hub(hass, topics, entry.entry_id, spawn)
    # Also where what follows fails.
    entry.async_on_unload(hub.stop)
    try:
        await hub.start()
    except (TimeoutError, RefusedError, HomeAssistantError) as error:
        issues.update(hass, entry, hub)
        if isinstance(error, TimeoutError):
            raise ConfigEntryNotReady(
                **error_text(failure("not_available", base=topics.base))
            ) from error
        raise ConfigEntryNotReady(**error_text(error)) from error
    entry.runtime_data = hub
    entry.async_on_unload(follow_discovery(hass, entry))
    device(hass, entry, None)
    follow_workflows(hass, entry)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    entry.async_on_unload(hub.listen(WORKFLOWS, lambda: follow_workflows(hass, entry)))
    # What the bridge says of itself may be another thing once it was restarted.
    entry.async_on_unload(hub.listen(AVAILABILITY, lambda: device(hass, entry, None)))
    entry.async_on_unload(await actions.follow(hass, entry))
    entry.async_on_unload(automations.follow(hass, entry))
    entry.async_on_unload(issues.follow(hass, entry))
    entry.async_on_unload(entry.add_update_listener(partial(_updated, _made_of(entry))))
    entry.async_on_unload(async_at_started(hass, hub.report_missed))
    return True


def _made_of(entry: Comfy2MQTTConfigEntry) -> tuple[Any, ...]:
    """Return what an entry is set up from; AI tasks come and go while it is loaded."""
    return entry.title, dict(entry.data)


async def _updated(
    before: tuple[Any, ...], hass: HomeAssistant, entry: Comfy2MQTTConfigEntry
) -> None:
    """Reload if it is another bridge now; for anything else whoever waits for a job is kept."""
    if _made_of(entry) != before:
        await hass.config_entries.async_reload(entry.entry_id)
    else:
        entry.runtime_data.tasks_changed()


async def async_unload_entry(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> bool:
    """Unload one bridge."""
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)


async def async_remove_entry(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> None:
    """Remove what was kept of a bridge: nothing of it stays."""
    await store(hass, entry.entry_id).async_remove()
    await (await action_names(hass)).release(entry.entry_id)
    await media_source.remove(hass, entry.entry_id)
    issues.remove_all(hass, entry)


async def async_remove_config_entry_device(
    _hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, removed: dr.DeviceEntry
) -> bool:
    """Let a device be removed by hand whose workflow is gone, which is known while it is loaded."""
    if entry.state is not ConfigEntryState.LOADED:
        return False
    there = {
        f"{entry.data[CONF_BASE]}-workflow-{name}" for name in entry.runtime_data.workflows
    } | {f"{entry.data[CONF_BASE]}-bridge"}
    return not any(
        domain == DOMAIN and identifier in there for domain, identifier in removed.identifiers
    )
