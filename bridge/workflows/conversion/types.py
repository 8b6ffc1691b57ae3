"""Types of slots, and which fit together.

A type is a word, or several with commas between them. `*` fits all. Inputs that share a type take
it from what is linked to them.
"""

from __future__ import annotations

from bridge.workflows.conversion.document import INPUT_NODE
from bridge.workflows.conversion.model import InputSlot, LiveGraph, LiveNode

ANY = frozenset({"", "*", "0"})
# A chain of nodes that share their types is followed so far; what lies behind counts as any type.
_MAX_CHAIN = 100


def fits(one: str, *others: str) -> bool:
    """Return whether a slot of one type may be linked to slots of all the others."""
    return all(_pair_fits(one, other) for other in others)


def _pair_fits(one: str, other: str) -> bool:
    if one in ANY or other in ANY or one == other:
        return True
    words, more = set(one.lower().split(",")), set(other.lower().split(","))
    return not (words.isdisjoint(more) and words.isdisjoint(ANY) and more.isdisjoint(ANY))


def common(*types: str) -> str | None:
    """Return the words that all types share, None if there are none; `*` takes part in all."""
    lists = [each.split(",") for each in types if each != "*"]
    if not lists:
        return "*"
    shared = [word for word in dict.fromkeys(lists[0]) if all(word in each for each in lists)]
    return ",".join(shared) or None


class Types:
    """Finds the types of slots in live graphs; each shared type is worked out once."""

    def __init__(self) -> None:
        self._shared: dict[tuple[int, str, str], str] = {}
        self._depth = 0

    def input(self, graph: LiveGraph, node: LiveNode, slot: InputSlot) -> str:
        """Return an input's type."""
        if slot.group is None:
            return slot.type
        return common(self._of_group(graph, node, slot.group), slot.type) or slot.type

    def output(self, graph: LiveGraph, node: LiveNode, index: int) -> str:
        """Return an output's type."""
        output = node.outputs[index]
        if output.group is None:
            return output.type
        return self._of_group(graph, node, output.group)

    def _of_group(self, graph: LiveGraph, node: LiveNode, group: str) -> str:
        """Return the type that a node's inputs of one group share, by what is linked to them."""
        key = (id(graph), node.id, group)
        if key not in self._shared:
            if self._depth >= _MAX_CHAIN:
                return "*"
            # What leads back here adds nothing.
            self._shared[key] = "*"
            self._depth += 1
            types = [
                self._linked(graph, slot)
                for slot in node.inputs
                if slot.group == group and slot.link is not None
            ]
            self._depth -= 1
            self._shared[key] = common(*types) or "*"
        return self._shared[key]

    def _linked(self, graph: LiveGraph, slot: InputSlot) -> str:
        link = graph.links.get(slot.link) if slot.link is not None else None
        if link is None:
            return "*"
        if link.origin == INPUT_NODE:
            inside = 0 <= link.origin_slot < len(graph.inputs)
            return graph.inputs[link.origin_slot].type if inside else "*"
        origin = graph.nodes.get(link.origin)
        if origin is None or not 0 <= link.origin_slot < len(origin.outputs):
            return "*"
        return self.output(graph, origin, link.origin_slot)
