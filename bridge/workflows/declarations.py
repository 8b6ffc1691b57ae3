"""What the nodes of a graph are declared to take and give, as far as a ComfyUI has told.

Before one has, and for classes that it does not have or declares in a way that cannot be read,
every answer is None: a definition is drawn from what is known.
"""

from __future__ import annotations

from bridge.workflows.graph import Graph, Link, Node
from bridge.workflows.objectinfo import InputSpec, NodeClass, ObjectInfo, ObjectInfoError

# How deep the inputs of a choice's inputs are followed: `model.mode.seed` is two.
_MAX_DEPTH = 8


class Declarations:
    """The declarations for one graph."""

    def __init__(self, graph: Graph, info: ObjectInfo | None) -> None:
        self._graph = graph
        self._info = info

    @property
    def known(self) -> bool:
        """Whether any ComfyUI has told what it has."""
        return self._info is not None

    def node_class(self, class_type: str) -> NodeClass | None:
        """Return a node class."""
        try:
            return None if self._info is None else self._info.get(class_type)
        except ObjectInfoError:
            return None

    def input(self, node: Node, name: str) -> InputSpec | None:
        """Return the declaration of a node's input, also of one that a choice brings.

        `mode.seed` is the `seed` of the branch that the node's `mode` has chosen.
        """
        found = self.node_class(node.class_type)
        if found is None:
            return None
        direct = found.input(name)
        if direct is not None:
            return direct
        head, *rest = name.split(".", _MAX_DEPTH)
        spec, path = found.input(head), head
        for part in rest:
            branch = None if spec is None else spec.branch(node.inputs.get(path))
            inputs = () if branch is None else branch.inputs
            spec = next((each for each in inputs if each.name == part), None)
            path = f"{path}.{part}"
        return spec

    def gives(self, link: Link) -> str | None:
        """Return the type of the output that a link takes."""
        source = self._graph.nodes[link.node]
        outputs = self.outputs(source)
        if outputs is None or not 0 <= link.output < len(outputs):
            return None
        return outputs[link.output][1]

    def outputs(self, node: Node) -> list[tuple[str, str]] | None:
        """Return name and type of each output of a node."""
        found = self.node_class(node.class_type)
        return None if found is None else [(each.name, each.type) for each in found.outputs]
