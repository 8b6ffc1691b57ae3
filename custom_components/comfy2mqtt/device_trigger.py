"""The triggers of devices: a job's end at a workflow's, a change of the bridge at its own."""

from __future__ import annotations

import probatio as vol
from homeassistant.components.device_automation import DEVICE_TRIGGER_BASE_SCHEMA
from homeassistant.components.homeassistant.triggers import event
from homeassistant.const import CONF_DEVICE_ID, CONF_DOMAIN, CONF_PLATFORM, CONF_TYPE
from homeassistant.core import CALLBACK_TYPE, HomeAssistant
from homeassistant.helpers.trigger import TriggerActionType, TriggerInfo
from homeassistant.helpers.typing import ConfigType

from .const import DOMAIN, EVENT
from .devices import bridge_of
from .protocol.automation_events import OF_BRIDGE, OF_WORKFLOW

TRIGGER_SCHEMA = DEVICE_TRIGGER_BASE_SCHEMA.extend(
    {vol.Required(CONF_TYPE): vol.In((*OF_WORKFLOW, *OF_BRIDGE))}
)


async def async_get_triggers(hass: HomeAssistant, device_id: str) -> list[dict[str, str]]:
    """Return the triggers of a device."""
    base = {CONF_PLATFORM: "device", CONF_DOMAIN: DOMAIN, CONF_DEVICE_ID: device_id}
    types = OF_WORKFLOW if bridge_of(hass, device_id) is None else OF_BRIDGE
    return [{**base, CONF_TYPE: each} for each in types]


async def async_attach_trigger(
    hass: HomeAssistant, config: ConfigType, action: TriggerActionType, trigger_info: TriggerInfo
) -> CALLBACK_TYPE:
    """Run an action at each event of the device; the job is in `trigger.event.data`."""
    data = {name: config[name] for name in (CONF_DEVICE_ID, CONF_TYPE)}
    wanted = event.TRIGGER_SCHEMA({"platform": "event", "event_type": EVENT, "event_data": data})
    return await event.async_attach_trigger(
        hass, wanted, action, trigger_info, platform_type="device"
    )
