"""The conditions of a bridge's device: whether it is online, and whether a job runs."""

from __future__ import annotations

import probatio as vol
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import CONF_CONDITION, CONF_DEVICE_ID, CONF_DOMAIN, CONF_TYPE
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.condition import ConditionCheckerType
from homeassistant.helpers.config_validation import DEVICE_CONDITION_BASE_SCHEMA
from homeassistant.helpers.typing import ConfigType, TemplateVarsType

from .const import DOMAIN
from .devices import bridge_of
from .protocol.automation_events import CONDITIONS, OFFLINE

CONDITION_SCHEMA = DEVICE_CONDITION_BASE_SCHEMA.extend(
    {vol.Required(CONF_TYPE): vol.In(CONDITIONS)}
)


async def async_get_conditions(hass: HomeAssistant, device_id: str) -> list[dict[str, str]]:
    """Return the conditions of a device."""
    base = {CONF_CONDITION: "device", CONF_DOMAIN: DOMAIN, CONF_DEVICE_ID: device_id}
    types = () if bridge_of(hass, device_id) is None else CONDITIONS
    return [{**base, CONF_TYPE: each} for each in types]


@callback
def async_condition_from_config(hass: HomeAssistant, config: ConfigType) -> ConditionCheckerType:
    """Return the function that tests a condition; a bridge that is not set up is offline."""
    device_id, condition = config[CONF_DEVICE_ID], config[CONF_TYPE]

    @callback
    def test(_hass: HomeAssistant, _variables: TemplateVarsType = None) -> bool:
        entry = bridge_of(hass, device_id)
        if entry is None or entry.state is not ConfigEntryState.LOADED:
            return OFFLINE.holds(condition)
        return entry.runtime_data.status.holds(condition)

    return test
