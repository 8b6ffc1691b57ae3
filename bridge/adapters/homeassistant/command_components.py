"""An operator's commands and a ComfyUI's releases as components of the bridge's device. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.adapters.homeassistant.fields import OFF, ON
from bridge.contract.reading import UNREADABLE
from bridge.contract.retained import ComfyUIRelease
from bridge.contract.topics import Topics

Component: TypeAlias = dict[str, Any]


def command_components(instances: Sequence[str], topics: Topics) -> dict[str, Component]:
    """Draw an operator's commands: switches for lasting states, a button for the others.

    The buttons that were there before the switches are announced still, as automations press them;
    who has not had them finds them disabled.
    """
    found: dict[str, Component] = {
        "paused": {
            "platform": "switch",
            "name": "Queue paused",
            "icon": "mdi:pause-octagon",
            "state_topic": topics.health,
            "value_template": "{{ 'ON' if value_json.paused else 'OFF' }}",
            "state_on": ON,
            "state_off": OFF,
            "command_topic": topics.command("queue/pause"),
            "payload_on": '{"paused":true}',
            "payload_off": '{"paused":false}',
        }
    }
    for instance in instances:
        named = f" of {instance}" if len(instances) > 1 else ""
        prefix = f'{{"instance":"{instance}","yielded":'
        found[f"yielded-{instance}"] = {
            "platform": "switch",
            "name": f"GPU{named} yielded",
            "icon": "mdi:gamepad-variant",
            "state_topic": topics.comfyui(instance),
            "value_template": "{{ 'ON' if value_json.state == 'yielded' else 'OFF' }}",
            "state_on": ON,
            "state_off": OFF,
            "command_topic": topics.command("comfyui/yield"),
            "payload_on": f"{prefix}true}}",
            "payload_off": f"{prefix}false}}",
        }
    buttons = (
        ("restart", "comfyui/restart", "Restart ComfyUI", "mdi:restart"),
        ("pause", "queue/pause", "Pause the queue", "mdi:pause"),
        ("resume", "queue/resume", "Resume the queue", "mdi:play"),
        ("yield", "comfyui/yield", "Yield the GPU", "mdi:gamepad-variant"),
        ("take-back", "comfyui/resume", "Take the GPU back", "mdi:gamepad-variant-outline"),
    )
    for key, verb, name, icon in buttons:
        found[key] = {
            "platform": "button",
            "name": name,
            "icon": icon,
            "command_topic": topics.command(verb),
            "payload_press": "{}",
            **({} if key == "restart" else {"enabled_by_default": False}),
        }
    return found


# Before the first look nothing says that there is no newer one. Home Assistant keeps the values of
# keys that are left out, so what went wrong is said to be nothing.
_TEMPLATE = (
    "{% set found = value_json.release %}"
    "{% if found is defined %}"
    "{% set shown = {'installed_version': found.installed, 'in_progress': found.step is defined,"
    " 'release_summary': found.error | default('')} %}"
    "{% if found.latest is defined %}"
    "{% set shown = dict(shown, latest_version=found.latest) %}{% endif %}"
    "{% if found.url is defined %}{% set shown = dict(shown, release_url=found.url) %}{% endif %}"
    "{{ shown | to_json }}{% endif %}"
)


class _ReleaseKnown(Struct, frozen=True):
    release: ComfyUIRelease | UnsetType = UNSET


_decode = msgspec.json.Decoder(_ReleaseKnown).decode


def is_updated(state: bytes) -> bool:
    """True if a ComfyUI's state has what is known of its releases."""
    try:
        return _decode(state).release is not UNSET
    except UNREADABLE:
        return False


def release_component(instance: str, name: str, topics: Topics, *, installs: bool) -> Component:
    """Return the component; it `installs` where the bridge takes an operator's commands."""
    shown: Component = {
        "platform": "update",
        "name": name,
        "title": "ComfyUI",
        "entity_category": "config",
        "state_topic": topics.comfyui(instance),
        "value_template": _TEMPLATE,
    }
    if not installs:
        return shown
    command = topics.command("comfyui/update")
    payload = f'{{"instance":"{instance}"}}'
    return {**shown, "command_topic": command, "payload_install": payload}
