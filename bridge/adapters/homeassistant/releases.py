"""The releases of a ComfyUI as a component of the bridge's device. Pure."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.adapters.homeassistant.command_components import Component
from bridge.contract.reading import UNREADABLE
from bridge.contract.retained import ComfyUIRelease
from bridge.contract.topics import Topics

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


def component(instance: str, name: str, topics: Topics, *, installs: bool) -> Component:
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
