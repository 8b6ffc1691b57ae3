"""The file's values, given to a live node's widgets.

Values are saved by position, and by newer front ends by name as well. Names are right even if
the server's class has other inputs than the one that the file was made with: there a page that goes
by position puts values into the wrong inputs, and one with the setting NamedValuesRestore does not.
A few custom nodes save names alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.workflows.conversion.document import FileNode
from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.model import MISSING, LiveNode, Widget, WidgetKind
from bridge.workflows.conversion.ordering import Ordering
from bridge.workflows.conversion.widgets import Layout, enter

_OPTION = "option"


class Restorer:
    """Assigns values to widgets, as one generation of the front end does when it loads a file."""

    def __init__(self, front_end: FrontEnd, layout: Layout, ordering: Ordering) -> None:
        self._front_end = front_end
        self._layout = layout
        self._ordering = ordering

    def restore(self, node: LiveNode) -> None:
        """Assign the file's values to the node's widgets."""
        values = node.source.values
        if isinstance(values, Mapping):
            self._by_name(node, values)
        elif values:
            self._by_position(node, _without_forced(node, values))

    def assign(
        self, node: LiveNode, widget: Widget, value: Any, following: Sequence[Any] = ()
    ) -> None:
        """Set a widget; `following` are the values that come after it in the file."""
        if widget.kind is WidgetKind.DYNAMIC:
            self._layout.choose(
                node,
                widget,
                value,
                lambda specs: self._ordering.arrange(
                    node.source, f"{widget.name}.", specs, following
                ),
            )
        else:
            enter(widget, value, self._front_end)
        _grow_options(node, widget)

    def _by_position(self, node: LiveNode, values: Sequence[Any]) -> None:
        saved = SavedValues(node.source, values)
        used = place = 0
        # Setting a widget can bring further ones right after it: the list is walked while it grows.
        while place < len(node.widgets):
            widget = node.widgets[place]
            place += 1
            if widget.saved:
                value = saved.value(used, widget.name)
                used += 1
                if value is not MISSING:
                    self.assign(node, widget, value, values[used:])

    def _by_name(self, node: LiveNode, values: Mapping[str, Any]) -> None:
        place = 0
        while place < len(node.widgets):
            widget = node.widgets[place]
            place += 1
            if widget.saved and widget.name in values:
                self.assign(node, widget, values[widget.name])


class SavedValues:
    """The values that a file has for a node.

    Names count where all their values stand in the list as well. Where one does not, somebody has
    changed the list alone, as tools do that know it only.
    """

    def __init__(self, source: FileNode, values: Sequence[Any]) -> None:
        self._values = values
        listed, named = Counter(map(repr, values)), Counter(map(repr, source.named.values()))
        self._named = source.named if named <= listed else {}

    def value(self, place: int, name: str) -> Any:
        """Return the value for a widget, MISSING where the file has none."""
        if self._named:
            return self._named.get(name, MISSING)
        return self._values[place] if place < len(self._values) else MISSING


def fill_empty_combo(widget: Widget, layout: Layout, node: LiveNode) -> None:
    """Set a combo without a value to its first choice."""
    if widget.kind not in (WidgetKind.COMBO, WidgetKind.DYNAMIC) or widget.spec is None:
        return
    choices = widget.spec.choices
    if widget.value not in (None, MISSING) or not choices:
        return
    if widget.kind is WidgetKind.DYNAMIC:
        layout.choose(node, widget, choices[0])
    else:
        widget.value = choices[0]


def _without_forced(node: LiveNode, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values without those of inputs that take links only.

    Front ends before 1.16 kept a dummy value for each of them. Whether a file is such a one shows
    in the number of its values.
    """
    if node.declared is None:
        return values
    dummy: list[bool] = []
    for spec in node.declared.inputs:
        if spec.force_input or node.widget(spec.name) is not None:
            dummy.append(spec.force_input)
            if spec.control_after_generate:
                dummy.append(False)
    if len(dummy) != len(values):
        return values
    return [value for value, forced in zip(values, dummy, strict=True) if not forced]


def _grow_options(node: LiveNode, widget: Widget) -> None:
    """Add another field to a list of options once its last one is filled."""
    if node.type != "CustomCombo" or not widget.name.startswith(_OPTION):
        return
    if widget is node.widgets[-1] and widget.value:
        # The first two are the combo itself and its index.
        name = f"{_OPTION}{len(node.widgets) - 1}"
        node.widgets.append(Widget(name, WidgetKind.OTHER, ""))
