"""comfy2mqtt inside ComfyUI: inputs that a request may set, and outputs that are sent back.

ComfyUI imports this package from its custom_nodes path, in its own interpreter: nothing of the
bridge is imported here, and nothing that ComfyUI does not bring along.

`table` lists the nodes; `inputs` and `outputs` hold them, `formats` turns bytes into tensors and
back. `media` stores inputs and `held` outputs; by `routes` the bridge reaches both, and
`guard` refuses everybody else at a ComfyUI that the bridge runs.
"""

import nodes as _comfyui_nodes
from folder_paths import get_input_directory
from server import PromptServer

from .guard import Guard
from .routes import Routes
from .settings import held_media, held_outputs, process_name, settings
from .table import load
from .uploads import Uploads
from .worker import Worker, queued

# ComfyUI has no hook for routes and middlewares: a node package adds them while it is imported. The
# guard comes first: it stands also where our nodes cannot be loaded.
_server = PromptServer.instance
_guarded = settings().guard and Guard(settings().secret or "", process_name()).install(
    _server.app, _server.routes
)

_nodes = load()

NODE_CLASS_MAPPINGS = _nodes.classes
NODE_DISPLAY_NAME_MAPPINGS = _nodes.titles

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

Routes(
    outputs=held_outputs(),
    media=held_media(),
    uploads=Uploads(get_input_directory, lambda: queued(PromptServer.instance.prompt_queue)),
    secret=settings().secret,
    worker=Worker(),
    process=process_name(),
    nodes=tuple(NODE_CLASS_MAPPINGS),
    missing=_nodes.missing,
    guarded=_guarded,
    classes=_comfyui_nodes.NODE_CLASS_MAPPINGS,
).register(_server.routes)
