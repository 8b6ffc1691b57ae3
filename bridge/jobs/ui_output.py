"""Reads what an output node reports to ComfyUI's page: files and texts, under whatever keys. Pure.

A node's `ui` output is a dict of lists, and each author uses keys and shapes of his own. A file is
a dict with a `filename`; some nodes give a 3D file as a bare path. What is text is a string under
any key, and under the keys that nodes use for values also numbers, lists and dicts, as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

# Our nodes' own entry: their bytes come over the socket.
OUR_ENTRY = "comfy2mqtt"
# Keys under which nodes of ComfyUI and of common packs give a value, not a detail of their display.
_VALUES = frozenset({"text", "string", "value", "result", "number", "int", "float", "json"})
_MODELS_3D = (".glb", ".gltf", ".obj", ".fbx", ".stl", ".ply", ".splat", ".spz", ".ksplat", ".usdz")


class FileItem(Struct, frozen=True):
    """A file in one of ComfyUI's folders; `type` is output, temp or input."""

    filename: str
    subfolder: str
    type: str


class TextItem(Struct, frozen=True):
    """A text, or JSON if `is_json`."""

    text: str
    is_json: bool = False


Item: TypeAlias = FileItem | TextItem


def items(output: Mapping[str, Any]) -> Iterator[Item]:
    """Yield the items of a node's `ui` output in its order, a file that stands twice only once."""
    seen: set[FileItem] = set()
    for key, values in output.items():
        if key == OUR_ENTRY:
            continue
        for value in values if isinstance(values, list | tuple) else [values]:
            item = _item(key, value)
            if item is None or item in seen:
                continue
            if isinstance(item, FileItem):
                seen.add(item)
            yield item


def _item(key: str, value: Any) -> Item | None:
    match value:
        case {"filename": str(filename), **rest}:
            subfolder, kind = rest.get("subfolder") or "", rest.get("type") or "output"
            return FileItem(filename, str(subfolder), str(kind))
        case str() if key == "result" and value.lower().endswith(_MODELS_3D):
            subfolder, _, filename = value.replace("\\", "/").rpartition("/")
            return FileItem(filename, subfolder, "output")
        case str():
            return TextItem(value)
        case None:
            return None
        case _ if key in _VALUES:
            return _value(value)
        case _:
            return None


def _value(value: Any) -> TextItem:
    if isinstance(value, float) and not math.isfinite(value):
        return TextItem(str(value))
    return TextItem(json.dumps(value, ensure_ascii=False), is_json=True)
