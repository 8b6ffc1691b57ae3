"""Errors of a conversion: a stable code, and the node at fault; and the bound on its work.

Subgraphs multiply: a small file can ask for more nodes and inputs than there is memory. What is
made and what is looked at is counted, and a file that asks for too much is refused. The dearest
of 694 templates, with 11 nodes and 9 subgraphs of 24, costs 4,400 units; the limit is a second's
work.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from bridge.workflows.graph import WorkflowError

Code: TypeAlias = Literal[
    "not_ui_format",  # no file of ComfyUI's Save
    "malformed",  # a part of it is not what Save writes
    "too_large",  # more nodes than are taken, also after subgraphs are spread out
    "unknown_node",  # a class that `/object_info` does not have
    "broken_link",  # a link to a node, slot or link that is not there
    "cyclic_link",  # a link that only comes back to itself
    "cyclic_subgraph",  # a subgraph that contains itself
    "needs_browser",  # a value that only a browser can make
    "unknown_pattern",  # a regular expression that is not understood here
]


MAX_UNITS = 250_000


class ConversionError(WorkflowError):
    """A workflow that cannot be converted.

    `node` is the id as the prompt would have it (`58:43` is node 43 in subgraph node 58), `title`
    what stands on the node, `class_type` its class or, in a file, its type.
    """

    def __init__(
        self,
        code: Code,
        reason: str,
        *,
        node: str | None = None,
        title: str | None = None,
        class_type: str | None = None,
    ) -> None:
        super().__init__(reason, node=node)
        self.code: Code = code
        self.title = title
        self.class_type = class_type

    @property
    def details(self) -> dict[str, Any]:
        """The details that are known, for a message on the wire."""
        found = {
            "reason": self.code,
            "node": self.node,
            "title": self.title,
            "class_type": self.class_type,
        }
        return {key: value for key, value in found.items() if value is not None}


class Budget:
    """Counts the units of one conversion: slots made, links looked at, orders tried."""

    def __init__(self) -> None:
        self._left = MAX_UNITS

    def spend(self, units: int = 1) -> None:
        """Take units away. Raises ConversionError `too_large` if there are none left."""
        self._left -= units
        if self._left < 0:
            raise ConversionError(
                "too_large", "the workflow spreads out to more nodes and inputs than are taken"
            )
