"""Reads what an output node reports to ComfyUI's page: files and texts, under whatever keys. Pure.

A node's `ui` output is a dict of lists, and each author uses keys and shapes of his own. A file is
a dict with a `filename`; some nodes give a 3D file as a bare path. What is text is a string under
any key, and under the keys that nodes use for values also numbers, lists and dicts, as JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from msgspec import Struct

from bridge.media.sniff import MODELS_3D

# Our nodes' own entry: their bytes come over the socket.
OUR_ENTRY = "comfy2mqtt"
# Keys under which nodes of ComfyUI and of common packs give a value, not a detail of their display.
_VALUES = frozenset({"text", "string", "value", "result", "number", "int", "float", "json"})


# Under these keys a path is a text that somebody wrote.
_TEXTS = frozenset({"text", "string"})
# ComfyUI's folders, by their type; a bare path does not say in which one it lies.
FOLDERS = ("output", "temp", "input")
_ANNOTATED = re.compile(r"(?P<path>.*\S) \[(?P<type>output|temp|input)\]")
# A path of the machine that leads into one of ComfyUI's folders.
_ABSOLUTE = re.compile(r"(?:/|[A-Za-z]:/).*/(?P<type>output|temp|input)/(?P<path>.+)", re.DOTALL)


class FileItem(Struct, frozen=True):
    """A file in one of ComfyUI's folders; `type` is output, temp or input, empty if it is open."""

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
    found = [
        item
        for key, values in output.items()
        if key != OUR_ENTRY
        for value in _values(values)
        if (item := _item(key, value)) is not None
    ]
    # A bare path may stand beside the file's own entry, which says more.
    certain = {(each.filename, each.subfolder) for each in found if _is_certain(each)}
    seen: set[FileItem] = set()
    for item in found:
        if isinstance(item, FileItem):
            doubled = not item.type and (item.filename, item.subfolder) in certain
            if doubled or item in seen:
                continue
            seen.add(item)
        yield item


def _values(values: Any) -> Sequence[Any]:
    """Return the values of a key. ComfyUI turns a bare text into a list of its letters."""
    if not isinstance(values, list | tuple):
        return [values]
    if len(values) > 1 and all(isinstance(each, str) and len(each) == 1 for each in values):
        return ["".join(values)]
    return values


def _is_certain(item: Item) -> TypeGuard[FileItem]:
    return isinstance(item, FileItem) and item.type != ""


def _item(key: str, value: Any) -> Item | None:
    match value:
        case {"filename": str(filename), **rest}:
            subfolder, kind = rest.get("subfolder") or "", rest.get("type") or "output"
            return FileItem(filename, str(subfolder), str(kind))
        case str():
            return _model_3d(key, value) or TextItem(value)
        case _ if value is None or (key == "result" and value in ([], {})):
            return None  # such as a viewer's camera that nobody has set
        case {} if (model := _model_in(value)) is not None:
            return model
        case _:
            return _value(value) if key in _VALUES else None


def _model_in(described: Mapping[str, Any]) -> FileItem | None:
    """Return the 3D file that a dict without a `filename` names under a key of its own."""
    texts = (each for each in described.values() if isinstance(each, str))
    return next((found for each in texts if (found := _model_3d("", each)) is not None), None)


def _model_3d(key: str, text: str) -> FileItem | None:
    """Return the file that a node names by a bare path, as viewers of 3D files do."""
    path, folder = text.replace("\\", "/"), ""
    if (annotated := _ANNOTATED.fullmatch(path)) is not None:
        path, folder = annotated["path"], annotated["type"]
    # A picture that stands behind the model: `temp/bg_1.png`.
    behind = key == "result" and path.startswith("temp/bg_") and path.endswith(".png")
    if key in _TEXTS or "\n" in path or not (behind or path.lower().endswith(MODELS_3D)):
        return None
    if (absolute := _ABSOLUTE.fullmatch(path)) is not None:
        path, folder = absolute["path"], absolute["type"]
    elif behind:
        path, folder = path.removeprefix("temp/"), "temp"
    subfolder, _, filename = path.rpartition("/")
    return FileItem(filename, subfolder, folder)


def _value(value: Any) -> TextItem:
    if isinstance(value, float) and not math.isfinite(value):
        return TextItem(str(value))
    return TextItem(json.dumps(value, ensure_ascii=False), is_json=True)
