"""Makes the announcements of devices for Home Assistant's MQTT discovery. Pure.

One key at the top that it does not know, a missing origin or a missing `unique_id` make it reject a
whole device; a key that a component does not have is dropped in silence. Ids are made of the base
topic and the workflow's name, never of titles, so that entities stay when those change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from msgspec import Struct

from bridge.adapters.homeassistant.command_components import (
    Component,
    command_components,
    release_component,
)
from bridge.adapters.homeassistant.device_state import OUTCOMES, STATES
from bridge.adapters.homeassistant.fields import LONGEST_STATE, OFF, ON, Field
from bridge.contract.reading import UNREADABLE
from bridge.contract.retained import HEALTH_EXPIRY_S, Definition, StateName
from bridge.contract.topics import HomeAssistantTopics, Topics

JPEG = "image/jpeg"
# What the button sends that asks for several pictures at once.
SURPRISE = "SURPRISE"
MAKER = "comfy2mqtt"
# What is a trigger of the device and no entity.
TRIGGER = "device_automation"
# With more steps than this nobody finds one on a slider.
_SLIDER_STEPS = 200
_NO_OBJECT_ID = re.compile(r"[^a-z0-9_]+")

Device = dict[str, Any]


class AnnouncedBridge(Struct, frozen=True):
    """The bridge, for its own device.

    `instances`: its ComfyUIs; `url`: its page; `takes_commands`: it takes an operator's commands;
    `updated`: those ComfyUIs whose releases are looked for.
    """

    name: str
    version: str
    instances: tuple[str, ...]
    takes_commands: bool = False
    url: str | None = None
    updated: frozenset[str] = frozenset()


def workflow_id(topics: Topics, name: str) -> str:
    """Return the id of a workflow's device."""
    return f"{topics.base}-workflow-{name}"


def bridge_id(topics: Topics) -> str:
    """Return the id of the bridge's device."""
    return f"{topics.base}-bridge"


def workflow(
    definition: Definition,
    fields: Sequence[Field],
    bridge: AnnouncedBridge,
    topics: Topics,
    tree: HomeAssistantTopics,
) -> Device:
    """Return a workflow's device."""
    name = definition.name
    found = {**_shown(name, tree), **_surprise(name, fields, tree), **_inputs(name, fields, tree)}
    return {
        "device": {
            "identifiers": [workflow_id(topics, name)],
            "name": definition.title,
            "manufacturer": MAKER,
            "model": "Workflow",
            "via_device": bridge_id(topics),
            **_page(bridge),
        },
        "origin": _origin(bridge),
        "availability": [{"topic": topics.state}, {"topic": tree.state(name, "available")}],
        "availability_mode": "all",
        "components": _components(f"{topics.base}_{name}", workflow_id(topics, name), found),
    }


def the_bridge(bridge: AnnouncedBridge, topics: Topics) -> Device:
    """Return the bridge's device."""
    # Not available itself it could not say that the bridge is not.
    connectivity = {
        "platform": "binary_sensor",
        "name": "Connection",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": topics.state,
        "payload_on": "online",
        "payload_off": "offline",
    }
    available = {"availability": [{"topic": topics.state}]}
    others = {key: {**each, **available} for key, each in _of_bridge(bridge, topics).items()}
    found = {"connectivity": connectivity, **others}
    return {
        "device": {
            "identifiers": [bridge_id(topics)],
            "name": bridge.name,
            "manufacturer": MAKER,
            "model": "Bridge",
            "sw_version": bridge.version,
            **_page(bridge),
        },
        "origin": _origin(bridge),
        "components": _components(topics.base, bridge_id(topics), found),
    }


def _page(bridge: AnnouncedBridge) -> Component:
    """Return the link to the bridge's page, if it has one."""
    return {} if bridge.url is None else {"configuration_url": bridge.url}


def without(device: Device, gone: Mapping[str, str]) -> Device:
    """Return a device that has its components of before, by their platform, removed.

    They come first: Home Assistant forgets the rest of an announcement at the first component that
    it is still busy with.
    """
    removed: dict[str, Component] = {key: {"platform": gone[key]} for key in gone}
    return {**device, "components": {**removed, **device["components"]}}


class Announced(Struct, frozen=True):
    """The useful part of an announcement that the broker retains."""

    components: dict[str, dict[str, Any]]
    availability: list[dict[str, str]] = []

    def is_of(self, topics: Topics) -> bool:
        """True if a bridge of this base announced it: all is available by its state."""
        wanted = {"topic": topics.state}
        return wanted in self.availability or any(
            component.get("availability") == [wanted] for component in self.components.values()
        )

    def gone(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the platforms of the components that are no more, those removed left out."""
        kept = set(keys)
        return {
            key: str(component.get("platform"))
            for key, component in self.components.items()
            if key not in kept and len(component) > 1
        }

    def topics(self, keys: Iterable[str]) -> list[str]:
        """Return the topics of components' states; of all, also of their availability."""
        found = [
            topic
            for key in keys
            for name, topic in self.components[key].items()
            if name in ("state_topic", "image_topic", "json_attributes_topic")
            and isinstance(topic, str)
        ]
        return [*found, *(each["topic"] for each in self.availability)]


_read = msgspec.json.Decoder(Announced)


def announced(payload: bytes) -> Announced | None:
    """Read an announcement; None for one that is not as ours are."""
    try:
        return _read.decode(payload)
    except UNREADABLE:
        return None


def _surprise(
    name: str, fields: Iterable[Field], tree: HomeAssistantTopics
) -> dict[str, Component]:
    """The button for several pictures at once, of a workflow that draws each from a seed."""
    if not any(field.kind == "seed" for field in fields):
        return {}
    button = {
        "platform": "button",
        "name": "Surprise me",
        "icon": "mdi:dice-multiple",
        "command_topic": tree.run_command(name),
        "payload_press": SURPRISE,
    }
    return {"surprise": button}


def _shown(name: str, tree: HomeAssistantTopics) -> dict[str, Component]:
    """The parts that every workflow has."""

    def of(what: str) -> str:
        return tree.state(name, what)

    return {
        "image": {
            "platform": "image",
            "name": "Picture",
            "image_topic": of("image"),
            "content_type": JPEG,
        },
        "preview": {
            "platform": "camera",
            "name": "Preview",
            "topic": of("preview"),
            "enabled_by_default": False,
        },
        "run": {
            "platform": "button",
            "name": "Run",
            "icon": "mdi:play",
            "command_topic": tree.run_command(name),
        },
        "state": {
            "platform": "sensor",
            "name": "State",
            "device_class": "enum",
            "options": list(STATES),
            "state_topic": of("state"),
        },
        "progress": {
            "platform": "sensor",
            "name": "Progress",
            "icon": "mdi:progress-clock",
            "unit_of_measurement": "%",
            "state_topic": of("progress"),
        },
        "queue": {
            "platform": "sensor",
            "name": "Queue",
            "icon": "mdi:tray-full",
            "unit_of_measurement": "jobs",
            "state_topic": of("queue"),
        },
        "eta": {
            "platform": "sensor",
            "name": "Time left",
            "device_class": "duration",
            "unit_of_measurement": "s",
            "state_topic": of("eta"),
        },
        "busy": {
            "platform": "binary_sensor",
            "name": "Busy",
            "device_class": "running",
            "payload_on": ON,
            "payload_off": OFF,
            "state_topic": of("busy"),
        },
        "message": {
            "platform": "sensor",
            "name": "Message",
            "icon": "mdi:message-alert",
            "entity_category": "diagnostic",
            "state_topic": of("message"),
        },
        "done": {
            "platform": "event",
            "name": "Done",
            "icon": "mdi:image-check",
            "event_types": list(OUTCOMES),
            "state_topic": of("done"),
        },
        **{
            f"trigger-{outcome}": {
                "platform": TRIGGER,
                "automation_type": "trigger",
                # Home Assistant shows both as they are: "Job" succeeded.
                "type": outcome,
                "subtype": "Job",
                "topic": of("done"),
                "value_template": "{{ value_json.event_type }}",
                "payload": outcome,
            }
            for outcome in OUTCOMES
        },
    }


def _inputs(name: str, fields: Sequence[Field], tree: HomeAssistantTopics) -> dict[str, Component]:
    found: dict[str, Component] = {}
    for field in fields:
        component: Component = {
            "platform": field.platform,
            "name": field.title,
            "state_topic": tree.input(name, field.key),
            "command_topic": tree.input_command(name, field.key),
            **_details(field),
        }
        if field.is_searched:
            component["json_attributes_topic"] = tree.input_allowed(name, field.key)
        found[f"{field.platform}-{field.key}"] = component
        if field.kind == "text" and field.platform == "text":
            found[f"notify-{field.key}"] = {
                "platform": "notify",
                "name": f"{field.title} (any length)",
                "command_topic": component["command_topic"],
            }
    return found


def _details(field: Field) -> Component:
    match field.platform:
        case "switch":
            return {"payload_on": ON, "payload_off": OFF}
        case "select":
            return {"options": list(field.options)}
        case "number":
            # One that has no maximum would have 100.
            few = (field.maximum - field.minimum) / field.step <= _SLIDER_STEPS
            return {
                "min": field.minimum,
                "max": field.maximum,
                "step": field.step,
                "mode": "slider" if few else "box",
            }
        case "text":
            return {
                "max": min(field.max_length or LONGEST_STATE, LONGEST_STATE),
                "value_template": "{{ value_json.value }}",
            }


def _of_bridge(bridge: AnnouncedBridge, topics: Topics) -> dict[str, Component]:
    found: dict[str, Component] = {
        "version": {
            "platform": "sensor",
            "name": "Version",
            "entity_category": "diagnostic",
            "state_topic": topics.info,
            "value_template": "{{ value_json.version }}",
        },
        "memory": {
            "platform": "sensor",
            "name": "Memory",
            "entity_category": "diagnostic",
            "device_class": "data_size",
            "state_class": "measurement",
            "unit_of_measurement": "MB",
            "state_topic": topics.health,
            "value_template": (
                "{{ (value_json.memory / 1000000) | round(1)"
                " if value_json.memory is defined else None }}"
            ),
            "expire_after": HEALTH_EXPIRY_S,
        },
        "queue": {
            "platform": "sensor",
            "name": "Queue",
            "unit_of_measurement": "jobs",
            "state_topic": topics.health,
            "value_template": "{{ value_json.queued }}",
            "expire_after": HEALTH_EXPIRY_S,
        },
    }
    for instance in bridge.instances:
        several = len(bridge.instances) > 1
        found[f"comfyui-{instance}"] = {
            "platform": "sensor",
            "name": f"ComfyUI {instance}" if several else "ComfyUI",
            "device_class": "enum",
            "options": list(get_args(StateName)),
            "state_topic": topics.comfyui(instance),
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": topics.comfyui(instance),
        }
        if instance in bridge.updated:
            name = f"ComfyUI {instance} release" if several else "ComfyUI release"
            found[f"release-{instance}"] = release_component(
                instance, name, topics, installs=bridge.takes_commands
            )
    return found | (command_components(bridge.instances, topics) if bridge.takes_commands else {})


def _origin(bridge: AnnouncedBridge) -> Component:
    return {"name": MAKER, "sw_version": bridge.version}


def _components(name: str, device: str, found: Mapping[str, Component]) -> dict[str, Component]:
    """Assign components their ids; a trigger is no entity, and has none."""
    components = {}
    for key, component in found.items():
        platform = component["platform"]
        if platform == TRIGGER:
            components[key] = {**component, "qos": 1}
            continue
        plain = key.removeprefix(f"{platform}-")
        object_id = _NO_OBJECT_ID.sub("_", f"{name}_{plain}".lower())
        components[key] = {
            **component,
            "unique_id": f"{device}-{key}",
            # The first is for Home Assistant from 2025.10 on, the second for those before.
            "default_entity_id": f"{platform}.{object_id}",
            "object_id": object_id,
            "qos": 1,
        }
    return components
