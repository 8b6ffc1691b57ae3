"""Types of slots, and which fit together.

A type is a word, or several with commas between them. `*` fits all. Inputs that share a type take
it from what is linked to them.
"""

from __future__ import annotations

from bridge.workflows.conversion.document import INPUT_NODE
from bridge.workflows.conversion.live import Graph, Node, Slot

ANY = frozenset({"", "*", "0"})
# Types are asked along chains of such inputs; a longer chain counts as any type.
_MAX_CHAIN = 20


def fits(one: str, *others: str) -> bool:
    """Tell whether a slot of one type may be linked to slots of the others."""
    return all(_pair_fits(one, other) for other in others)


def _pair_fits(one: str, other: str) -> bool:
    if one in ANY or other in ANY or one == other:
        return True
    words = {word or "*" for word in other.lower().split(",")}
    return any((word or "*") in words or word in ANY for word in one.lower().split(",")) or (
        not words.isdisjoint(ANY)
    )


def common(*types: str) -> str | None:
    """Return the words that all types share, None where there are none; `*` takes part in all."""
    lists = [each.split(",") for each in types if each != "*"]
    if not lists:
        return "*"
    shared = [word for word in dict.fromkeys(lists[0]) if all(word in each for each in lists)]
    return ",".join(shared) or None


def input_type(graph: Graph, node: Node, slot: Slot, depth: int = _MAX_CHAIN) -> str:
    """Return what an input takes."""
    if slot.group is None:
        return slot.type
    others = [
        _linked_type(graph, each, depth)
        for each in node.inputs
        if each.group == slot.group and each is not slot
    ]
    return common(*others, slot.type) or slot.type


def output_type(graph: Graph, node: Node, index: int, depth: int = _MAX_CHAIN) -> str:
    """Return what an output gives."""
    output = node.outputs[index]
    if output.group is None:
        return output.type
    members = [slot for slot in node.inputs if slot.group == output.group]
    return common(*(_linked_type(graph, slot, depth) for slot in members)) or output.type


def _linked_type(graph: Graph, slot: Slot, depth: int) -> str:
    link = graph.links.get(slot.link) if slot.link is not None else None
    if link is None or depth <= 0:
        return "*"
    if link.origin == INPUT_NODE:
        inside = 0 <= link.origin_slot < len(graph.inputs)
        return graph.inputs[link.origin_slot].type if inside else "*"
    origin = graph.nodes.get(link.origin)
    if origin is None or not 0 <= link.origin_slot < len(origin.outputs):
        return "*"
    return output_type(graph, origin, link.origin_slot, depth - 1)
