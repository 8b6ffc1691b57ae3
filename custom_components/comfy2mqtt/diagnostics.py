"""Diagnostics of a bridge.

No prompt, picture or password is in them, no text of an error, and neither the bridge's nor the
client's name.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.core import HomeAssistant

from .const import CONF_CLIENT, CONF_INPUTS
from .hub import Comfy2MQTTConfigEntry

# Inputs that were preset hold prompts; errors and paths may name people and folders.
_SECRET = {CONF_CLIENT, CONF_INPUTS, "name", "page", "last_error", "error"}


async def async_get_config_entry_diagnostics(
    _hass: HomeAssistant, entry: Comfy2MQTTConfigEntry
) -> dict[str, Any]:
    """Return a bridge's entry, state and workflows, without secrets."""
    hub = entry.runtime_data
    return {
        "entry": async_redact_data(dict(entry.data), _SECRET),
        "ai_tasks": [
            async_redact_data(dict(each.data), _SECRET) for each in entry.subentries.values()
        ],
        "available": hub.is_available,
        "info": None if hub.info is None else async_redact_data(asdict(hub.info), _SECRET),
        "silent": hub.is_silent,
        "health": {
            "store_works": hub.health.store is None,
            "held": hub.health.held is not None,
            "failed_hooks": len(hub.health.failed_hooks),
        },
        "comfyui": {name: async_redact_data(state, _SECRET) for name, state in hub.comfyui.items()},
        "workflows": {
            name: {
                "version": each.version,
                "runnable": each.runnable,
                "lacks": list(each.lacks),
                "inputs": {field.name: field.kind for field in each.inputs},
                "outputs": list(each.output_kinds),
            }
            for name, each in hub.workflows.items()
        },
        "displays": {name: len(shown.data) for name, shown in hub.displays.items()},
        "running": len(hub.running),
    }
