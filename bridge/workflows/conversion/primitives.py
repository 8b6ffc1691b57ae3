"""Values that one node hands to others' widgets: the page's primitive nodes.

A primitive node has no class. It stands for the widget that it is linked to first, and puts its
value into all that it is linked to before a prompt is made. A number is first brought within what
these allow, and rounded as if it were typed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from bridge.workflows.conversion.model import MISSING, LiveGraph, LiveNode, Widget, WidgetKind
from bridge.workflows.conversion.promotion import PRIMITIVE
from bridge.workflows.conversion.texts import TextPlaceholders
from bridge.workflows.objectinfo import InputSpec, number

_REPLACES = "Run widget replace on values"
# Beyond the largest seed numbers are left as they are.
_LARGEST = 2**64
# What a float's widget allows where nothing is declared.
_HIGHEST_FLOAT = 2048
# What may differ between two inputs that one number is for.
_MAY_DIFFER = frozenset(
    {
        "control_after_generate",
        "default",
        "defaultInput",
        "dynamicPrompts",
        "forceInput",
        "max",
        "min",
        "multiline",
        "step",
        "tooltip",
    }
)


def hand_out(graph: LiveGraph, replacements: TextPlaceholders) -> None:
    """Set the widgets that the primitive nodes of one graph are linked to."""
    for node in graph.nodes.values():
        if node.type != PRIMITIVE or not node.outputs:
            continue
        targets = list(_targets(graph, node.outputs[0].links))
        value = _value(node, graph, targets)
        if value is MISSING:
            continue
        if isinstance(value, str) and node.properties.get(_REPLACES):
            value = replacements.apply(value)
        for widget in targets:
            widget.value = _typed(value, widget.kind, widget.spec)


def _value(primitive: LiveNode, graph: LiveGraph, targets: list[Widget]) -> Any:
    """Return the value that the node holds, MISSING where it stands for no widget."""
    # It stands for the first alone, even if that link is gone.
    first = next(_targets(graph, primitive.outputs[0].links[:1]), None)
    if first is None:
        return MISSING
    saved = primitive.source.values
    value = saved[0] if isinstance(saved, tuple) and saved else first.value
    if first.kind not in (WidgetKind.INTEGER, WidgetKind.FLOAT) or first.spec is None:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    low, high, step = _shared_limits(first.spec, targets)
    limited = min(max(value, low), high)
    options = {**first.spec.options, "min": low, "max": high, "step": step}
    return _typed(limited, first.kind, first.spec.with_options(options))


def _shared_limits(first: InputSpec, targets: list[Widget]) -> tuple[float, float, float]:
    """Return least, most and step of a number for all targets that agree otherwise."""
    low, high, step = _limits(first)
    for widget in targets:
        spec = widget.spec
        if spec is None or spec.widget_type != first.widget_type or not _agree(first, spec):
            continue
        other_low, other_high, other_step = _limits(spec)
        if low <= other_high and other_low <= high:
            low, high = max(low, other_low), min(high, other_high)
            whole = isinstance(step, int) and isinstance(other_step, int)
            step = math.lcm(int(step), int(other_step)) if whole else max(step, other_step)
    return low, high, step


def _limits(spec: InputSpec) -> tuple[float, float, float]:
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    return low, high, spec.step or 1


def _agree(one: InputSpec, two: InputSpec) -> bool:
    keys = (one.options.keys() | two.options.keys()) - _MAY_DIFFER
    return all(one.options.get(key) == two.options.get(key) for key in keys)


def _targets(graph: LiveGraph, links: Iterable[int]) -> Iterator[Widget]:
    """Yield the widgets at the ends of links."""
    for identity in links:
        link = graph.links.get(identity)
        node = graph.nodes.get(link.target) if link is not None else None
        if link is None or node is None or not 0 <= link.target_slot < len(node.inputs):
            continue
        widget = node.widget_of(node.inputs[link.target_slot])
        if widget is not None:
            yield widget


def _typed(value: Any, kind: WidgetKind, spec: InputSpec | None) -> Any:
    """Return a value as a widget changes it when it is typed in: numbers are rounded."""
    if spec is None or number(value) is None or abs(value) > _LARGEST:
        return value
    if kind is WidgetKind.INTEGER:
        return _to_step(value, spec)
    return _to_precision(value, spec) if kind is WidgetKind.FLOAT else value


def _to_step(value: float, spec: InputSpec) -> float:
    """Return the nearest step; the least number decides where the steps start."""
    step = spec.step or 1
    low = spec.minimum or 0
    offset = math.fmod(low, step) if math.isfinite(low) else 0.0
    if isinstance(value, int) and isinstance(step, int) and offset.is_integer():
        # Whole seeds of 64 bits would not survive a division.
        start = int(offset)
        return (2 * (value - start) + step) // (2 * step) * step + start
    return math.floor((value - offset) / step + 0.5) * step + offset


def _to_precision(value: float, spec: InputSpec) -> float:
    """Return the nearest multiple of the declared rounding, or of what the step's digits allow."""
    step = spec.step or 0.5
    precision = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    unit = spec.rounding or (math.pow(10, -precision) if precision else None)
    if not unit:
        return value
    rounded = round(math.floor(value / unit + 0.5) * unit, precision)
    low = 0 if spec.minimum is None else spec.minimum
    high = _HIGHEST_FLOAT if spec.maximum is None else spec.maximum
    return min(max(rounded, low), high)
