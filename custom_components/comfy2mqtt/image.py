"""Pictures: the last one of each workflow, and what each display shows."""

from __future__ import annotations

from functools import partial

from homeassistant.components.image import ImageEntity, infer_image_type
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util import dt as dt_util

from .devices import HubEntity, add_each
from .hub import DISPLAYS, RESULTS, WORKFLOWS, Comfy2MQTTConfigEntry
from .protocol.definitions import IMAGE
from .protocol.messages import RefusedError, Result
from .protocol.pictures import Picture

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: Comfy2MQTTConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an entity for each workflow that makes pictures, and for each display."""
    hub = entry.runtime_data

    def workflows() -> list[str]:
        return [name for name, each in hub.workflows.items() if each.gives(IMAGE)]

    picture, display = partial(WorkflowImage, hass, entry), partial(DisplayImage, hass, entry)
    add_each(entry, WORKFLOWS, workflows, picture, async_add_entities)
    add_each(entry, DISPLAYS, lambda: hub.displays, display, async_add_entities)


class WorkflowImage(HubEntity, ImageEntity):
    """The last picture of a workflow. Its bytes are fetched when somebody looks at it.

    Discovery's is a JPEG of at most 1 MB, this one as it was made.
    """

    _attr_translation_key = "picture"

    def __init__(self, hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, workflow: str) -> None:
        HubEntity.__init__(self, entry, "picture", workflow)
        ImageEntity.__init__(self, hass)
        self._name = workflow
        self._picture: Picture | None = None
        self._data: bytes | None = None
        self._take()

    async def async_added_to_hass(self) -> None:
        """Follow the results."""
        await super().async_added_to_hass()
        self.async_on_remove(self.hub.listen(RESULTS, self._ended))

    @callback
    def _ended(self, result: Result, _is_history: bool) -> None:  # noqa: FBT001 - a listener's
        if result.workflow == self._name and self._take():
            self.async_write_ha_state()

    def _take(self) -> bool:
        """Take the workflow's last picture; True if it is another one."""
        picture = self.hub.pictures.get(self._name)
        if picture is None or picture == self._picture:
            return False
        self._picture, self._data = picture, None
        self._attr_content_type = picture.content_type
        self._attr_image_last_updated = dt_util.parse_datetime(picture.at)
        return True

    async def async_image(self) -> bytes | None:
        """Return the picture's bytes; None if there is none, or it is kept no longer."""
        picture = self._picture
        if picture is None or self._data is not None:
            return self._data
        try:
            media = await self.hub.output(picture.job_id, picture.output())
        except (RefusedError, HomeAssistantError):
            return None
        # Another may have come while this one was fetched.
        if picture == self._picture:
            self._data = media.data
        return media.data


class DisplayImage(HubEntity, ImageEntity):
    """A display's picture, in the form that the display takes."""

    _attr_translation_key = "display"

    def __init__(self, hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, display: str) -> None:
        HubEntity.__init__(self, entry, f"display-{display}", None)
        ImageEntity.__init__(self, hass)
        self._display = display
        self._attr_translation_placeholders = {"display": display}
        self._take()

    async def async_added_to_hass(self) -> None:
        """Follow the displays."""
        await super().async_added_to_hass()
        self.async_on_remove(self.hub.listen(DISPLAYS, self._changed))

    @callback
    def _changed(self) -> None:
        self._take()
        self.async_write_ha_state()

    def _take(self) -> None:
        shown = self.hub.displays.get(self._display)
        if shown is not None:
            self._attr_content_type = infer_image_type(shown.data) or "image/bmp"
            self._attr_image_last_updated = dt_util.parse_datetime(shown.at)

    @property
    def available(self) -> bool:
        """Return True while the display shows something."""
        return super().available and self._display in self.hub.displays

    async def async_image(self) -> bytes | None:
        """Return the picture's bytes; None while the display shows nothing."""
        shown = self.hub.displays.get(self._display)
        return None if shown is None else shown.data
