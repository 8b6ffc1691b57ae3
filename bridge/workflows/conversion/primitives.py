"""Values that one node hands to others' widgets: the page's primitive nodes.

A primitive node has no class. It stands for the widget that it is linked to first, and puts its
value into all that it is linked to before a prompt is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.live import MISSING, Graph, Kind, Link, Node, Slot, Widget
from bridge.workflows.conversion.promotion import PRIMITIVE
from bridge.workflows.conversion.texts import Replacements

_REPLACES = "Run widget replace on values"


def hand_out(graph: Graph, root: Graph, replacements: Replacements, front_end: FrontEnd) -> None:
    """Let the primitive nodes of one graph set the widgets that they are linked to."""
    for node in graph.nodes.values():
        if node.type != PRIMITIVE or not node.outputs:
            continue
        # The earlier front end looks the links up in the root, also for a subgraph's nodes.
        links = graph.links if front_end.host_values else root.links
        value = _value(node, graph)
        if value is MISSING:
            continue
        if value and node.properties.get(_REPLACES) and isinstance(value, str):
            value = replacements.apply(value)
        for identity in node.outputs[0].links:
            link = links.get(identity)
            found = _target(link, graph) if link is not None else None
            if found is not None:
                found.value = _entered(found, value)


def _value(primitive: Node, graph: Graph) -> Any:
    """Return the value that the node holds, MISSING where it stands for no widget."""
    first = next(iter(primitive.outputs[0].links), None)
    link = graph.links.get(first) if first is not None else None
    target = graph.nodes.get(link.target) if link is not None else None
    if link is None or target is None or not 0 <= link.target_slot < len(target.inputs):
        return MISSING
    slot = target.inputs[link.target_slot]
    widget = target.widget_of(slot)
    if widget is None and slot.widget is None:
        return MISSING
    saved = primitive.source.values
    if isinstance(saved, tuple) and saved:
        value = saved[0]
    else:
        value = widget.value if widget is not None else MISSING
    return _limited(value, primitive, graph)


def _limited(value: Any, primitive: Node, graph: Graph) -> Any:
    """Return a number within what all the inputs allow, where there are several."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    widgets = list(_numbers(primitive, graph))
    if len(primitive.outputs[0].links) < 2 or not widgets:  # noqa: PLR2004 (one has nothing to agree with)
        return value
    lows = [low for each in widgets if each.spec and (low := each.spec.minimum) is not None]
    highs = [high for each in widgets if each.spec and (high := each.spec.maximum) is not None]
    low, high = max(lows, default=-math.inf), min(highs, default=math.inf)
    if low > high:
        return value
    return max(low, min(high, value))


def _numbers(primitive: Node, graph: Graph) -> Iterator[Widget]:
    for identity in primitive.outputs[0].links:
        link = graph.links.get(identity)
        found = _target(link, graph) if link is not None else None
        if found is not None and found.kind in (Kind.INTEGER, Kind.FLOAT):
            yield found


def _target(link: Link, graph: Graph) -> Widget | None:
    node = graph.nodes.get(link.target)
    if node is None or not 0 <= link.target_slot < len(node.inputs):
        return None
    slot: Slot = node.inputs[link.target_slot]
    return node.widget_of(slot)


def _entered(widget: Widget, value: Any) -> Any:
    """Return what the widget makes of a value that is typed into it: numbers are rounded."""
    if isinstance(value, bool) or not isinstance(value, int | float) or widget.spec is None:
        return value
    if widget.kind is Kind.INTEGER:
        step = widget.spec.step or 1
        if step == 1:
            return value if isinstance(value, int) else math.floor(value + 0.5)
        offset = math.fmod(widget.spec.minimum or 0, step)
        return math.floor((value - offset) / step + 0.5) * step + offset
    if widget.kind is Kind.FLOAT:
        return _rounded(widget, value)
    return value


def _rounded(widget: Widget, value: float) -> float:
    spec = widget.spec
    step = (spec.step if spec is not None else None) or 0.5
    precision = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    unit = spec.rounding if spec is not None and spec.rounding else None
    if unit is None and precision:
        unit = math.pow(10, -precision)
    if not unit:
        return value
    rounded = round(math.floor(value / unit + 0.5) * unit, precision)
    low = spec.minimum if spec is not None and spec.minimum is not None else 0
    high = spec.maximum if spec is not None and spec.maximum is not None else 2048
    return min(max(rounded, low), high)
