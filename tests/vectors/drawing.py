"""Small workflows as ComfyUI's Save writes them, put together by hand."""

from __future__ import annotations

from typing import Any

INPUT_NODE, OUTPUT_NODE = -10, -20


class Drawing:
    """A graph that is being drawn: nodes with slots by name, and links between them."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def node(
        self,
        identity: int,
        kind: str,
        *,
        values: Any = None,
        inputs: dict[str, str] | None = None,
        widgets: dict[str, str] | None = None,
        outputs: dict[str, str] | None = None,
        mode: int = 0,
        **more: Any,
    ) -> None:
        """Draw a node; `widgets` are inputs that stand for a widget of the same name."""
        slots = [_slot(name, kind) for name, kind in (inputs or {}).items()]
        slots += [
            {**_slot(name, kind), "widget": {"name": name}}
            for name, kind in (widgets or {}).items()
        ]
        drawn: dict[str, Any] = {
            "id": identity,
            "type": kind,
            "mode": mode,
            "inputs": slots,
            "outputs": [
                {"name": name, "type": each, "links": []} for name, each in (outputs or {}).items()
            ],
            **more,
        }
        if values is not None:
            drawn["widgets_values"] = values
        self.nodes.append(drawn)

    def link(self, origin: int, output: int, target: int, name: str) -> int:
        """Draw a link from an output to the input of that name."""
        identity = len(self.links) + 1
        node = self._node(target)
        place = next(i for i, slot in enumerate(node["inputs"]) if slot["name"] == name)
        node["inputs"][place]["link"] = identity
        kind = node["inputs"][place]["type"]
        if origin != INPUT_NODE:
            self._node(origin)["outputs"][output]["links"].append(identity)
        self.links.append([identity, origin, output, target, place, kind])
        return identity

    def leave(self, origin: int, output: int, place: int) -> int:
        """Draw a link from an output to an output of the subgraph."""
        identity = len(self.links) + 1
        self.links.append([identity, origin, output, OUTPUT_NODE, place, "*"])
        return identity

    def _node(self, identity: int) -> dict[str, Any]:
        return next(node for node in self.nodes if node["id"] == identity)

    def document(self, *subgraphs: dict[str, Any]) -> dict[str, Any]:
        """Return the file."""
        return {
            "version": 0.4,
            "last_node_id": max((node["id"] for node in self.nodes), default=0),
            # Links of subgraphs count on from here, too.
            "last_link_id": 100,
            "nodes": self.nodes,
            "links": self.links,
            "definitions": {"subgraphs": list(subgraphs)},
        }

    def definition(
        self, identity: str, inputs: dict[str, str] | None = None, outputs: int = 0
    ) -> dict[str, Any]:
        """Return the graph as a subgraph's definition; its slots know the links that meet them."""
        slots = [
            {
                "id": f"in{place}",
                "name": name,
                "type": kind,
                "linkIds": [each[0] for each in self.links if each[1:3] == [INPUT_NODE, place]],
            }
            for place, (name, kind) in enumerate((inputs or {}).items())
        ]
        exits = [
            {
                "id": f"out{place}",
                "name": f"out{place}",
                "type": "*",
                "linkIds": [each[0] for each in self.links if each[3:5] == [OUTPUT_NODE, place]],
            }
            for place in range(outputs)
        ]
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return {
            "id": identity,
            "name": f"Subgraph {identity}",
            "inputNode": {"id": INPUT_NODE, "bounding": [0, 0, 100, 100]},
            "outputNode": {"id": OUTPUT_NODE, "bounding": [0, 0, 100, 100]},
            "inputs": slots,
            "outputs": exits,
            "nodes": self.nodes,
            "links": [dict(zip(names, each, strict=True)) for each in self.links],
        }


def _slot(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "link": None}
