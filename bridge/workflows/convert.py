"""ComfyUI's own workflow files as prompts: from what Save writes to what the server runs.

The result equals what the official front end sends for the same file and the same server. How, is
told in `conversion`; this is its door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.workflows.conversion import frontend
from bridge.workflows.conversion.document import is_ui_format, read
from bridge.workflows.conversion.effort import Effort
from bridge.workflows.conversion.emission import ApiNode, emit
from bridge.workflows.conversion.errors import ConversionError
from bridge.workflows.conversion.identity import with_unique_ids
from bridge.workflows.conversion.loading import Loader
from bridge.workflows.objectinfo import ObjectInfo

__all__ = ["ApiNode", "ConversionError", "convert", "is_ui_format"]


def convert(ui: Mapping[str, Any], object_info: ObjectInfo) -> dict[str, ApiNode]:
    """Return the prompt for a file that ComfyUI's Save wrote, node ids as the front end makes them.

    The same file and object_info always give the same prompt; neither is changed. Raises
    ConversionError, with the node at fault and a stable code, rather than give a prompt that does
    something else than the drawing says. Raises ObjectInfoError where a class that the file uses
    is declared in a way that cannot be read.
    """
    document = read(ui)
    front_end = frontend.of(object_info)
    if front_end.unique_ids:
        document = with_unique_ids(document)
    effort = Effort()
    return emit(Loader(document, object_info, front_end, effort).load(), front_end, effort)
