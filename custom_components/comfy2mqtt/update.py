"""Updates: the releases of each ComfyUI that the bridge manages and looks for newer ones of."""

from __future__ import annotations

from functools import partial
from typing import Any

from homeassistant.components.update import UpdateEntity, UpdateEntityFeature
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .devices import RELEASE, HubEntity, add_each
from .hub import COMFYUI, Comfy2MQTTConfigEntry
from .protocol.messages import RefusedError
from .protocol.releases import Release, read_release
from .requests import error_text

PARALLEL_UPDATES = 1


async def async_setup_entry(
    _hass: HomeAssistant,
    entry: Comfy2MQTTConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an entity for each ComfyUI whose releases are looked for."""
    hub = entry.runtime_data

    def managed() -> list[str]:
        return [name for name, state in hub.comfyui.items() if read_release(state) is not None]

    add_each(entry, COMFYUI, managed, partial(ComfyUIRelease, entry), async_add_entities)


class ComfyUIRelease(HubEntity, UpdateEntity):
    """The release that a ComfyUI runs, and the newest one."""

    _attr_translation_key = "comfyui"
    _attr_title = "ComfyUI"
    _attr_supported_features = (
        UpdateEntityFeature.INSTALL
        | UpdateEntityFeature.PROGRESS
        | UpdateEntityFeature.SPECIFIC_VERSION
    )

    def __init__(self, entry: Comfy2MQTTConfigEntry, comfyui: str) -> None:
        super().__init__(entry, f"{RELEASE}{comfyui}", None)
        self._comfyui = comfyui
        self._attr_translation_placeholders = {"comfyui": comfyui}
        self._take()

    async def async_added_to_hass(self) -> None:
        """Follow the state of the ComfyUI."""
        await super().async_added_to_hass()
        self.async_on_remove(self.hub.listen(COMFYUI, self._changed))

    @callback
    def _changed(self) -> None:
        self._take()
        self.async_write_ha_state()

    def _take(self) -> None:
        found = self._release
        if found is not None:
            self._attr_installed_version = found.installed
            self._attr_latest_version = found.latest
            self._attr_release_url = found.url
            self._attr_release_summary = found.error
            self._attr_in_progress = found.is_installing

    @property
    def _release(self) -> Release | None:
        return read_release(self.hub.comfyui.get(self._comfyui, {}))

    @property
    def available(self) -> bool:
        """Return True while the bridge looks for the releases of this ComfyUI."""
        return super().available and self._release is not None

    async def async_install(self, version: str | None, backup: bool, **_kwargs: Any) -> None:  # noqa: ARG002, FBT001 - Home Assistant's
        """Have the bridge install a release, by default the newest; its state shows how far it is.

        Raises HomeAssistantError.
        """
        try:
            await self.hub.command("comfyui/update", instance=self._comfyui, version=version)
        except RefusedError as error:
            raise HomeAssistantError(**error_text(error)) from None
