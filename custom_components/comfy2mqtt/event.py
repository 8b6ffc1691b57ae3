"""Events: the end of each job, by workflow."""

from __future__ import annotations

from functools import partial

from homeassistant.components.event import EventEntity
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .actions import response_of
from .devices import HubEntity, add_each
from .hub import RESULTS, WORKFLOWS, Comfy2MQTTConfigEntry
from .protocol.messages import OUTCOMES, Result

PARALLEL_UPDATES = 0


async def async_setup_entry(
    _hass: HomeAssistant,
    entry: Comfy2MQTTConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an entity for each workflow."""
    hub = entry.runtime_data
    add_each(entry, WORKFLOWS, lambda: hub.workflows, partial(JobEnded, entry), async_add_entities)


class JobEnded(HubEntity, EventEntity):
    """The end of a job; what was missed while Home Assistant was away comes afterwards."""

    _attr_translation_key = "job_ended"

    def __init__(self, entry: Comfy2MQTTConfigEntry, workflow: str) -> None:
        super().__init__(entry, "job-ended", workflow)
        self._attr_event_types = list(OUTCOMES)
        self._entry_id = entry.entry_id

    async def async_added_to_hass(self) -> None:
        """Follow the results."""
        await super().async_added_to_hass()
        self.async_on_remove(self.hub.listen(RESULTS, self._ended))

    @callback
    def _ended(self, result: Result, is_history: bool) -> None:  # noqa: FBT001 - a listener's
        if result.workflow != self.workflow or is_history or result.state not in OUTCOMES:
            return
        self._trigger_event(result.state, response_of(self._entry_id, result))
        self.async_write_ha_state()
