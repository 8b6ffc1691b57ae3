"""The node classes that graphs may be made of: the operator's lists. Pure.

A class is judged by its name alone. What a node does when it runs, also which nodes it puts in its
own place, is ComfyUI's.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from bridge.workflows.graph import Graph


class NodeRules(Struct, frozen=True):
    """Names of classes, with `*` and `?`. `deny` weighs more; an empty `allow` allows all."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def forbidden(self, graph: Graph) -> tuple[str, ...]:
        """Return the classes in a graph that are not allowed."""
        classes = sorted({node.class_type for node in graph.nodes.values()})
        return tuple(each for each in classes if self.setting(each) is not None)

    def setting(self, class_type: str) -> str | None:
        """Return which setting forbids a class; None if it is allowed."""
        if _named(self.deny, class_type):
            return "deny_nodes"
        if self.allow and not _named(self.allow, class_type):
            return "allow_nodes"
        return None


def _named(globs: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, each) for each in globs)
