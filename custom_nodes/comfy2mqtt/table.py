"""The table of nodes.

To add one: a row here, and its class. A module that asks for something which this ComfyUI does
not bring along (PyAV, comfy_api) costs its own nodes only: they are not registered, and the
greeting says why.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger("comfy2mqtt")


@dataclass(frozen=True, slots=True)
class Row:
    """`name` stands in graphs, `title` on ComfyUI's page; `place` is module and class."""

    name: str
    title: str
    place: str


NODES = (
    Row("Comfy2MQTTTextInput", "Text Input (MQTT)", "inputs.values:TextInput"),
    Row("Comfy2MQTTIntegerInput", "Integer Input (MQTT)", "inputs.values:IntegerInput"),
    Row("Comfy2MQTTFloatInput", "Float Input (MQTT)", "inputs.values:FloatInput"),
    Row("Comfy2MQTTBooleanInput", "Boolean Input (MQTT)", "inputs.values:BooleanInput"),
    Row("Comfy2MQTTChoiceInput", "Choice Input (MQTT)", "inputs.values:ChoiceInput"),
    Row("Comfy2MQTTSeedInput", "Seed Input (MQTT)", "inputs.values:SeedInput"),
    Row("Comfy2MQTTImageInput", "Image Input (MQTT)", "inputs.images:ImageInput"),
    Row("Comfy2MQTTMaskInput", "Mask Input (MQTT)", "inputs.images:MaskInput"),
    Row("Comfy2MQTTAudioInput", "Audio Input (MQTT)", "inputs.audio:AudioInput"),
    Row("Comfy2MQTTVideoInput", "Video Input (MQTT)", "inputs.video:VideoInput"),
    Row("Comfy2MQTTFileInput", "File Input (MQTT)", "inputs.files:FileInput"),
    Row("Comfy2MQTTImageOutput", "Image Output (MQTT)", "outputs.images:ImageOutput"),
    Row("Comfy2MQTTMaskOutput", "Mask Output (MQTT)", "outputs.images:MaskOutput"),
    Row("Comfy2MQTTAnimationOutput", "Animation Output (MQTT)", "outputs.images:AnimationOutput"),
    Row("Comfy2MQTTAudioOutput", "Audio Output (MQTT)", "outputs.audio:AudioOutput"),
    Row("Comfy2MQTTVideoOutput", "Video Output (MQTT)", "outputs.video:VideoOutput"),
    Row("Comfy2MQTTTextOutput", "Text Output (MQTT)", "outputs.texts:TextOutput"),
    Row("Comfy2MQTTLatentOutput", "Latent Output (MQTT)", "outputs.latents:LatentOutput"),
    Row("Comfy2MQTTPainter", "Painter (MQTT demo)", "painter:Painter"),
)


@dataclass(frozen=True, slots=True)
class Nodes:
    """Classes and titles by name, as ComfyUI wants them; `missing`: name and reason."""

    classes: dict[str, type] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def load(rows: Iterable[Row] = NODES) -> Nodes:
    """Import the classes of the table."""
    nodes = Nodes()
    for row in rows:
        module, class_name = row.place.split(":")
        try:
            found = import_module(f".{module}", __package__)
        except ImportError as error:
            # One of our own that cannot be imported is a mistake, not an older ComfyUI.
            if (error.name or "").startswith(__package__):
                raise
            nodes.missing[row.name] = str(error)
            logger.warning("comfy2mqtt: %s is left out (%s)", row.name, error)
            continue
        nodes.classes[row.name] = getattr(found, class_name)
        nodes.titles[row.name] = row.title
    return nodes
