"""Convert ComfyUI's own workflow files, as its page saves them, to prompts as its server runs them.

The file holds a drawing: nodes with lists of widget values, links between slots, subgraphs defined
once and used often, nodes that only the page knows. The server takes a flat graph of classes and
named inputs. Between the two the official front end loads the file into live nodes, lets the
node classes of `/object_info` decide what each value means, and walks the links. The modules here
follow it step by step, so that the result equals what the front end sends for the same file and
the same server:

    document    the file, checked and typed
    frontend    differences between the generations of the front end
    groups      legacy group nodes
    rewriting   node ids that are unique in the whole file, and new classes for old ones
    model       live nodes and graphs, and which types of slots fit together
    widgets     the widgets and slots of a declared input on a live node
    ordering    the order of a choice's inputs where a saved `/object_info` has lost it
    values      assigns the file's values to widgets
    promotion   widgets that a subgraph shows on its outside
    broadcasts  values that are sent to inputs without a link
    patterns    regular expressions of files, in bounded time
    loading     all of these put together: from the file to live graphs
    primitives  values that one node hands to others' widgets
    links       resolves links: through subgraphs, reroutes, bypassed nodes
    texts       names of values in texts
    serialize   the flat graph
    errors      what is refused and why, and a bound on the work that one file may cause
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.workflows.conversion import frontend
from bridge.workflows.conversion.document import is_ui_format, read
from bridge.workflows.conversion.errors import Budget, ConversionError
from bridge.workflows.conversion.loading import Loader
from bridge.workflows.conversion.rewriting import with_new_classes, with_unique_ids
from bridge.workflows.conversion.serialize import ApiNode, Converted, serialize
from bridge.workflows.dynamic_prompts import draw_first
from bridge.workflows.objectinfo import ObjectInfo

__all__ = [
    "ApiNode",
    "ConversionError",
    "Converted",
    "convert",
    "convert_undrawn",
    "is_ui_format",
]


def convert(
    ui: Mapping[str, Any], object_info: ObjectInfo, *, keep_unknown: bool = False
) -> dict[str, ApiNode]:
    """Return the prompt for a file that ComfyUI's Save wrote, node ids as the front end makes them.

    The same file and object_info always give the same prompt; neither is changed. Raises
    ConversionError, with the node at fault and a stable code, rather than return a prompt that does
    something else than the drawing says. Raises ObjectInfoError where a class that the file uses
    is declared in a way that cannot be read. Of each choice in a dynamic prompt it has the first.

    A node of a class that the server does not have is left out if nothing is linked to it. Else
    it is refused, or with `keep_unknown` part of the prompt, with those inputs whose names the file
    has: such a prompt says what is missing, and cannot be run. So is a node with a picture that
    only the page can take: with `keep_unknown` its value is without one.
    """
    converted = convert_undrawn(ui, object_info, keep_unknown=keep_unknown)
    for place in converted.dynamic:
        inputs = converted.prompt[place.node]["inputs"]
        inputs[place.input] = draw_first(inputs[place.input])
    return converted.prompt


def convert_undrawn(
    ui: Mapping[str, Any], object_info: ObjectInfo, *, keep_unknown: bool = False
) -> Converted:
    """Return the prompt as `convert` does, but with dynamic prompts as the file has them."""
    document = with_new_classes(read(ui), object_info)
    front_end = frontend.of(object_info)
    if front_end.unique_ids:
        document = with_unique_ids(document)
    budget = Budget()
    root = Loader(document, object_info, front_end, budget).load()
    return serialize(root, front_end, budget, keep_unknown=keep_unknown)
