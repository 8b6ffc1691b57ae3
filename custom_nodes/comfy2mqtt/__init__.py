"""comfy2mqtt inside ComfyUI: inputs that a request may set, and an output that is sent back.

ComfyUI imports this package from its custom_nodes path, in its own interpreter: nothing of the
bridge is imported here, and nothing that ComfyUI does not bring along.
"""

from server import PromptServer

from .inputs import BooleanInput, FloatInput, ImageInput, IntegerInput, SeedInput, TextInput
from .outputs import ImageOutput
from .painter import Painter
from .routes import Routes
from .settings import held_media, held_outputs, settings

NODE_CLASS_MAPPINGS = {
    "Comfy2MQTTTextInput": TextInput,
    "Comfy2MQTTIntegerInput": IntegerInput,
    "Comfy2MQTTFloatInput": FloatInput,
    "Comfy2MQTTBooleanInput": BooleanInput,
    "Comfy2MQTTSeedInput": SeedInput,
    "Comfy2MQTTImageInput": ImageInput,
    "Comfy2MQTTImageOutput": ImageOutput,
    "Comfy2MQTTPainter": Painter,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "Comfy2MQTTTextInput": "Text Input (MQTT)",
    "Comfy2MQTTIntegerInput": "Integer Input (MQTT)",
    "Comfy2MQTTFloatInput": "Float Input (MQTT)",
    "Comfy2MQTTBooleanInput": "Boolean Input (MQTT)",
    "Comfy2MQTTSeedInput": "Seed Input (MQTT)",
    "Comfy2MQTTImageInput": "Image Input (MQTT)",
    "Comfy2MQTTImageOutput": "Image Output (MQTT)",
    "Comfy2MQTTPainter": "Painter (MQTT demo)",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

# ComfyUI has no hook for routes: a node package adds them while it is imported.
Routes(held_outputs(), held_media(), settings().secret, tuple(NODE_CLASS_MAPPINGS)).register(
    PromptServer.instance.routes
)
