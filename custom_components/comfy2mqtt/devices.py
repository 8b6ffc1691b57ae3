"""Devices: those that the bridge's discovery has made where there are such, else our own.

A device of Home Assistant belongs to one config entry. Where the bridge announces its workflows by
MQTT discovery (`homeassistant = true`), our entities are added to those devices, so that a workflow
is one device and not two; `base-workflow-name` names it in either case. Where discovery comes
later, our device is given up, and its entities move to that of discovery; where discovery is turned
off they move back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta

from homeassistant.components import mqtt
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback, EntityPlatform
from homeassistant.util import dt as dt_util

from .const import CONF_BASE, DOMAIN
from .hub import AVAILABILITY, WORKFLOWS, Comfy2MQTTConfigEntry, bridges
from .protocol.topics import Topics

MAKER = "comfy2mqtt"
_BRIDGE = "-bridge"
# The entities that each workflow has, by the last part of their ids.
OF_WORKFLOW = ("picture", "job-ended")
TASK = "task-"
RELEASE = "release-"
# A bridge announces a workflow by discovery right after the workflow itself. Whoever has used an
# entity for longer keeps it.
_AT_ONCE = timedelta(minutes=1)


def _is_of_discovery_too(key: str) -> bool:
    """Return True for an entity that discovery has as well: beside that one it is disabled."""
    return key in OF_WORKFLOW or key.startswith(RELEASE)


def workflow_identifier(topics: Topics, name: str) -> str:
    """Return the identifier of a workflow's device."""
    return f"{topics.base}-workflow-{name}"


def _identifier(topics: Topics, workflow: str | None) -> str:
    """Return the identifier of a workflow's device, or with None of the bridge's."""
    return f"{topics.base}{_BRIDGE}" if workflow is None else workflow_identifier(topics, workflow)


@callback
def discovered(hass: HomeAssistant, identifier: str) -> dr.DeviceEntry | None:
    """Return the device that discovery has made for an identifier."""
    registry = dr.async_get(hass)
    for entry in hass.config_entries.async_entries(mqtt.DOMAIN):
        found = registry.async_get_device_by_identifier((mqtt.DOMAIN, identifier), entry.entry_id)
        if found is not None:
            return found
    return None


@callback
def device(
    hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, workflow: str | None
) -> dr.DeviceEntry:
    """Return the device of a workflow, or with None of the bridge; ours is made where need be."""
    found = discovered(hass, _identifier(entry.runtime_data.topics, workflow))
    return _own_device(hass, entry, workflow) if found is None else found


@callback
def _own_device(
    hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, workflow: str | None
) -> dr.DeviceEntry:
    hub, registry = entry.runtime_data, dr.async_get(hass)
    name, model, version = entry.title, "Bridge", None if hub.info is None else hub.info.version
    if workflow is not None:
        definition = hub.workflows.get(workflow)
        name = workflow if definition is None else definition.title
        model, version = "Workflow", None
    made = registry.async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, _identifier(hub.topics, workflow))},
        name=name,
        manufacturer=MAKER,
        model=model,
        sw_version=version,
        configuration_url=None if hub.info is None else hub.info.page,
        entry_type=dr.DeviceEntryType.SERVICE,
    )
    if workflow is not None:
        bridge = device(hass, entry, None)
        registry.async_update_device(made.id, via_device_id=bridge.id)
    return made


@callback
def follow_discovery(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> CALLBACK_TYPE:
    """Give up our devices where discovery makes one as well, and have them back where it goes.

    Returns what ends that.
    """
    return _Discovery(hass, entry).stop


class _Discovery:
    """The devices of discovery beside those of ours."""

    def __init__(self, hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> None:
        self._hass = hass
        self._entry = entry
        # Devices of discovery that have nothing of MQTT any more, and are about to be removed.
        self._emptied: set[str] = set()
        self._join()
        self._ends = [
            hass.bus.async_listen(dr.EVENT_DEVICE_REGISTRY_UPDATED, self._device_changed),
            hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, self._entity_changed),
        ]

    @callback
    def stop(self) -> None:
        for end in self._ends:
            end()

    @callback
    def _device_changed(self, event: Event[dr.EventDeviceRegistryUpdatedData]) -> None:
        if event.data["action"] == "create":
            self._join()
        elif event.data["action"] == "remove":
            removed = event.data["device"]["identifiers"]
            gone = {identifier for domain, identifier in removed if domain == mqtt.DOMAIN}
            self._emptied -= gone
            for workflow, identifier in self._identifiers():
                if identifier in gone:
                    # Home Assistant leaves entities of others without a device.
                    _have_back(self._hass, self._entry, workflow, None)

    @callback
    def _entity_changed(self, event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        """Leave a device once nothing of MQTT is there: it would be kept for our entities."""
        if event.data["action"] != "remove":
            return
        entities = er.async_get(self._hass)
        for workflow, identifier in self._identifiers():
            found = discovered(self._hass, identifier)
            if found is None or identifier in self._emptied:
                continue
            there = er.async_entries_for_device(entities, found.id, include_disabled_entities=True)
            if all(each.config_entry_id != found.config_entry_id for each in there):
                self._emptied.add(identifier)
                _have_back(self._hass, self._entry, workflow, found.id)

    def _identifiers(self) -> list[tuple[str | None, str]]:
        hub = self._entry.runtime_data
        return [(each, _identifier(hub.topics, each)) for each in (None, *hub.workflows)]

    @callback
    def _join(self) -> None:
        registry = dr.async_get(self._hass)
        for ours in dr.async_entries_for_config_entry(registry, self._entry.entry_id):
            for domain, identifier in ours.identifiers:
                is_there = domain == DOMAIN and identifier not in self._emptied
                found = discovered(self._hass, identifier) if is_there else None
                if found is not None:
                    _move_entities(self._hass, ours, found, identifier)
                    _give_up(self._hass, ours, found)
                    break


@callback
def _have_back(
    hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, workflow: str | None, place: str | None
) -> None:
    """Move our entities of a workflow from a device, or from none, to one of ours."""
    entities = er.async_get(hass)
    prefix = f"{_identifier(entry.runtime_data.topics, workflow)}-"
    keys = {*OF_WORKFLOW, *(f"{TASK}{subentry_id}" for subentry_id in entry.subentries)}
    moved = [
        each
        for each in er.async_entries_for_config_entry(entities, entry.entry_id)
        if each.device_id == place
        and each.unique_id.startswith(prefix)
        # Another workflow's name may start with this one's.
        and (workflow is None or each.unique_id.removeprefix(prefix) in keys)
    ]
    if not moved:
        return
    made = _own_device(hass, entry, workflow)
    for each in moved:
        entities.async_update_entity(each.entity_id, device_id=made.id)
        by_us = each.disabled_by is er.RegistryEntryDisabler.INTEGRATION
        if by_us and _is_of_discovery_too(each.unique_id.removeprefix(prefix)):
            entities.async_update_entity(each.entity_id, disabled_by=None)


@callback
def _move_entities(
    hass: HomeAssistant, ours: dr.DeviceEntry, found: dr.DeviceEntry, identifier: str
) -> None:
    entities = er.async_get(hass)
    for entity in er.async_entries_for_device(entities, ours.id, include_disabled_entities=True):
        entities.async_update_entity(entity.entity_id, device_id=found.id)
        key = entity.unique_id.removeprefix(f"{identifier}-")
        # A clock that was set back makes nothing new.
        is_new = abs(dt_util.utcnow() - entity.created_at) < _AT_ONCE
        if is_new and _is_of_discovery_too(key) and entity.disabled_by is None:
            entities.async_update_entity(
                entity.entity_id, disabled_by=er.RegistryEntryDisabler.INTEGRATION
            )


@callback
def _give_up(hass: HomeAssistant, ours: dr.DeviceEntry, found: dr.DeviceEntry) -> None:
    """Remove our device; what a person has set of it goes to the other one."""
    registry = dr.async_get(hass)
    for each in dr.async_entries_for_config_entry(registry, ours.config_entry_id):
        if each.via_device_id == ours.id:
            registry.async_update_device(each.id, via_device_id=found.id)
    registry.async_update_device(
        found.id,
        area_id=found.area_id or ours.area_id,
        labels=found.labels | ours.labels,
        name_by_user=found.name_by_user or ours.name_by_user,
    )
    registry.async_remove_device(ours.id)


@callback
def bridge_of(hass: HomeAssistant, device_id: str) -> Comfy2MQTTConfigEntry | None:
    """Return the entry whose bridge has a device as its own; None if it is any other device."""
    found = dr.async_get(hass).async_get(device_id)
    # Where discovery has made the device, its identifiers are in the domain of MQTT.
    known = set() if found is None else {identifier for _, identifier in found.identifiers}
    return next((e for e in bridges(hass) if f"{e.data[CONF_BASE]}{_BRIDGE}" in known), None)


@callback
def follow_workflows(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> None:
    """Name our devices as the workflows are, and remove those of workflows that are no more."""
    hub, registry = entry.runtime_data, dr.async_get(hass)
    prefix = workflow_identifier(hub.topics, "")
    # Entities at devices of discovery stay when those are removed.
    entities = er.async_get(hass)
    there = {
        f"{workflow_identifier(hub.topics, name)}-{key}"
        for name in hub.workflows
        for key in OF_WORKFLOW
    }
    for entity in er.async_entries_for_config_entry(entities, entry.entry_id):
        unique_id = entity.unique_id
        if (
            unique_id.startswith(prefix)
            and unique_id.endswith(tuple(f"-{key}" for key in OF_WORKFLOW))
            and unique_id not in there
        ):
            entities.async_remove(entity.entity_id)
    for each in dr.async_entries_for_config_entry(registry, entry.entry_id):
        names = [
            identifier.removeprefix(prefix)
            for domain, identifier in each.identifiers
            if domain == DOMAIN and identifier.startswith(prefix)
        ]
        there_now = [hub.workflows[name] for name in names if name in hub.workflows]
        if names and not there_now:
            registry.async_remove_device(each.id)
        elif there_now and each.name != there_now[0].title:
            registry.async_update_device(each.id, name=there_now[0].title)


@callback
def known_workflows(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> list[str]:
    """Return the workflows that a bridge had when it was loaded last, by their entities."""
    prefix, suffix = f"{entry.data[CONF_BASE]}-workflow-", "-job-ended"
    found = er.async_entries_for_config_entry(er.async_get(hass), entry.entry_id)
    return sorted(
        each.unique_id.removeprefix(prefix).removesuffix(suffix)
        for each in found
        if each.unique_id.startswith(prefix) and each.unique_id.endswith(suffix)
    )


@callback
def change_base(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, base: str) -> None:
    """Have our entities and devices stay the same ones at another base topic.

    What would have the id of another one stays as it is.
    """
    before, after = f"{entry.data[CONF_BASE]}-", f"{base}-"

    def changed(identifier: str) -> str:
        is_ours = identifier.startswith(before)
        return after + identifier.removeprefix(before) if is_ours else identifier

    entities, devices = er.async_get(hass), dr.async_get(hass)
    for entity in er.async_entries_for_config_entry(entities, entry.entry_id):
        unique_id = changed(entity.unique_id)
        if entities.async_get_entity_id(entity.domain, entity.platform, unique_id) is None:
            entities.async_update_entity(entity.entity_id, new_unique_id=unique_id)
    for ours in dr.async_entries_for_config_entry(devices, entry.entry_id):
        places = {(domain, changed(identifier)) for domain, identifier in ours.identifiers}
        taken = (devices.async_get_device_by_identifier(each, entry.entry_id) for each in places)
        if not any(taken):
            devices.async_update_device(ours.id, new_identifiers=places)


@callback
def add_each(
    entry: Comfy2MQTTConfigEntry,
    what: str,
    names: Callable[[], Iterable[str]],
    make: Callable[[str], Entity],
    add: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an entity for each name that there is now, or after a change of `what`."""
    hub = entry.runtime_data
    known: set[str] = set()

    @callback
    def update() -> None:
        if what == WORKFLOWS:
            # All that a workflow had goes with it; anything else is unavailable until it is back.
            known.intersection_update(hub.workflows)
        new = sorted({*names()} - known)
        known.update(new)
        add(make(name) for name in new)

    update()
    entry.async_on_unload(hub.listen(what, update))


class HubEntity(Entity):
    """An entity of one bridge: of a workflow where it has a `workflow`, else of the bridge."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, entry: Comfy2MQTTConfigEntry, key: str, workflow: str | None) -> None:
        self._entry = entry
        self.hub = entry.runtime_data
        self.workflow = workflow
        self._key = key
        self._attr_unique_id = f"{_identifier(self.hub.topics, workflow)}-{key}"

    @callback
    def add_to_platform_start(
        self,
        hass: HomeAssistant,
        platform: EntityPlatform,
        parallel_updates: asyncio.Semaphore | None,
    ) -> None:
        """Take the device that there is now: discovery may have made one since this was made."""
        super().add_to_platform_start(hass, platform, parallel_updates)
        # A device belongs to one subentry, or to none: those of AI tasks are not made with them.
        self.device_entry = device(hass, self._entry, self.workflow)
        if _is_of_discovery_too(self._key):
            is_beside_discovery = self.device_entry.config_entry_id != self._entry.entry_id
            self._attr_entity_registry_enabled_default = not is_beside_discovery

    async def async_added_to_hass(self) -> None:
        """Follow whether the bridge is there."""
        await super().async_added_to_hass()
        self.async_on_remove(self.hub.listen(AVAILABILITY, self.async_write_ha_state))

    @property
    def available(self) -> bool:
        """Return True while the bridge is there, and has the workflow."""
        return self.hub.is_available and (
            self.workflow is None or self.workflow in self.hub.workflows
        )
