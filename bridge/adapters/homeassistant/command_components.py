"""An operator's commands as components of the bridge's device. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from bridge.adapters.homeassistant.fields import OFF, ON
from bridge.contract.topics import Topics

Component: TypeAlias = dict[str, Any]


def command_components(instances: Sequence[str], topics: Topics) -> list[tuple[str, Component]]:
    """Draw an operator's commands: switches for lasting states, a button for the others.

    The buttons that were there before the switches are announced still, as automations press them;
    who has not had them finds them disabled.
    """
    found: list[tuple[str, Component]] = [
        (
            "paused",
            {
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
            },
        )
    ]
    for instance in instances:
        named = f" of {instance}" if len(instances) > 1 else ""
        prefix = f'{{"instance":"{instance}","yielded":'
        found.append(
            (
                f"yielded-{instance}",
                {
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
                },
            )
        )
    buttons = (
        ("restart", "comfyui/restart", "Restart ComfyUI", "mdi:restart"),
        ("pause", "queue/pause", "Pause the queue", "mdi:pause"),
        ("resume", "queue/resume", "Resume the queue", "mdi:play"),
        ("yield", "comfyui/yield", "Yield the GPU", "mdi:gamepad-variant"),
        ("take-back", "comfyui/resume", "Take the GPU back", "mdi:gamepad-variant-outline"),
    )
    for key, verb, name, icon in buttons:
        button: Component = {
            "platform": "button",
            "name": name,
            "icon": icon,
            "command_topic": topics.command(verb),
            "payload_press": "{}",
        }
        found.append((key, button if key == "restart" else {**button, "enabled_by_default": False}))
    return found
