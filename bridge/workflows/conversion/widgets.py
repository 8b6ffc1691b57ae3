"""Lays out declared inputs on a live node: its slots, its widgets and their order.

A file lists a node's values by position, so the order of widgets and every widget that the front
end adds by itself (seed controls, upload buttons, previews) decide which value is which. Facts
read in and tried with the front ends 1.32.9 and 1.49.6.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.model import MISSING, InputSlot, LiveNode, Widget, WidgetKind
from bridge.workflows.objectinfo import (
    AUTOGROW,
    DYNAMIC_COMBO,
    MATCH_TYPE,
    GrowingInputs,
    InputSpec,
    NodeClass,
    input_spec,
)

# Integers of these names get a seed control although nothing in the declaration asks for one.
_SEEDS = frozenset({"seed", "noise_seed"})
# Output and input nodes on which the front end puts an audio player, by class: no declaration
# distinguishes them.
_AUDIO_PLAYERS = frozenset(
    {
        "LoadAudio",
        "SaveAudio",
        "PreviewAudio",
        "SaveAudioMP3",
        "SaveAudioOpus",
        "SaveAudioAdvanced",
    }
)
_MODEL_VIEWERS = frozenset({"SaveGLB", "Preview3D"})
_TEXT_VIEWERS = frozenset({"PreviewAny", "SaveText"})
_EMPTY_CURVE = {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"}
_EMPTY_BOX = {"x": 0, "y": 0, "width": 512, "height": 512}

# What stands in for a type's default where the declaration has none.
_DEFAULTS: dict[str, Any] = {
    "BOOLEAN": False,
    "BOUNDING_BOX": _EMPTY_BOX,
    "BOUNDING_BOXES": [],
    "COLOR": "#000000",
    "COLORS": [],
    "COMPOSITOR": {},
    "CURVE": _EMPTY_CURVE,
    "FLOAT": 0,
    "INT": 0,
    "MARKDOWN": "",
    "PAINTER": "",
    "RANGE": {"min": 0.0, "max": 1.0},
    "STRING": "",
    "TEXTAREA": "",
}


def declared_inputs(declared: NodeClass, front_end: FrontEnd) -> tuple[InputSpec, ...]:
    """Return the class's inputs and those that the front end adds, in the order of the widgets."""
    added: list[InputSpec] = []
    if declared.name in _AUDIO_PLAYERS:
        added.append(input_spec("audioUI", ["AUDIO_UI", {}]))
    if declared.name in _MODEL_VIEWERS:
        added.append(input_spec("image", ["PREVIEW_3D", {}]))
    if declared.name == "Load3DAdvanced" and front_end.dynamic_inputs:
        added.append(input_spec("viewport_state", ["LOAD_3D_ADVANCED", {}]))
    required = [spec for spec in declared.inputs if spec.required]
    if any(spec.name == "audio" and spec.upload == "audio" for spec in required):
        added.append(input_spec("upload", ["AUDIOUPLOAD", {}]))
    if any(spec.type == "COMBO" and spec.upload in ("image", "video") for spec in required):
        added.append(input_spec("upload", ["IMAGEUPLOAD", {}]))
    known = {spec.name for spec in declared.inputs}
    return (*declared.inputs, *(spec for spec in added if spec.name not in known))


def enter(widget: Widget, value: Any, front_end: FrontEnd) -> None:
    """Set a widget to a value of the file.

    A text field makes text of everything and has plain line ends; the later front end keeps the
    value beside the field, and the field counts only if there is none.
    """
    if widget.kind is WidgetKind.LINES:
        if value is None:
            value = ""
        elif front_end.plain_texts:
            text = value if isinstance(value, str) else str(value)
            value = text.replace("\r\n", "\n").replace("\r", "\n")
    widget.value = value


class Layout:
    """Puts slots and widgets on nodes, as one generation of the front end does."""

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end

    def lay_out(self, node: LiveNode, declared: NodeClass) -> None:
        """Add the slots and widgets of its class to a new node, with default values."""
        specs = declared_inputs(declared, self._front_end)
        self.add_inputs(node, specs)
        _add_own_widgets(node, declared.name, self._front_end)
        for widget in node.widgets:
            spec = widget.spec
            # Widgets that come later, with a choice, are sent as they are.
            widget.dynamic_prompt = spec is not None and spec.dynamic_prompts

    def add_inputs(self, node: LiveNode, specs: Iterable[InputSpec]) -> None:
        """Add slots for all that takes links only, then the widgets with theirs."""
        specs = tuple(specs)
        for spec in specs:
            self._add_socket(node, spec)
        for spec in specs:
            self._add_widget(node, spec)

    def has_widget(self, spec: InputSpec) -> bool:
        """True if the front end has a widget for the input."""
        return spec.widget_type in self._front_end.widget_types and not spec.force_input

    def choose(
        self,
        node: LiveNode,
        widget: Widget,
        value: Any,
        arrange: Callable[[tuple[InputSpec, ...]], Iterable[InputSpec]] | None = None,
    ) -> None:
        """Set a dynamic combo: what its old choice brought goes, what the new one brings comes.

        `arrange` puts what comes in the right order. Slots of the same name keep their link.
        """
        widget.value = value
        prefix = f"{widget.name}."
        gone = [slot for slot in node.inputs if slot.name.startswith(prefix)]
        node.inputs = [slot for slot in node.inputs if not slot.name.startswith(prefix)]
        node.widgets = [each for each in node.widgets if not each.name.startswith(prefix)]
        branch = widget.spec.branch(value) if widget.spec is not None else None
        if branch is None:
            return
        specs: Iterable[InputSpec] = branch.inputs
        if arrange is not None:
            specs = arrange(branch.inputs)
        after = node.widgets.index(widget) + 1
        widgets, slots = len(node.widgets), len(node.inputs)
        for spec in specs:
            # One by one: here a slot and its widget are added before the next input's.
            self.add_inputs(node, [spec.renamed(prefix + spec.name)])
        came, node.widgets = node.widgets[widgets:], node.widgets[:widgets]
        node.widgets[after:after] = came
        new_slots, node.inputs = node.inputs[slots:], node.inputs[:slots]
        at = next((i + 1 for i, slot in enumerate(node.inputs) if slot.name == widget.name), slots)
        node.inputs[at:at] = new_slots
        self._take_over(node, gone, {prefix + each.name: each for each in branch.inputs})

    def _take_over(
        self, node: LiveNode, gone: Iterable[InputSlot], specs: Mapping[str, InputSpec]
    ) -> None:
        """Move the links of removed slots to added ones of the same name.

        A growing list gets its next member with each member that is linked.
        """
        for old in gone:
            slot = node.slot_named(old.name)
            if slot is None:
                continue
            slot.link = old.link
            group = old.name.rpartition(".")[0]
            growing = specs[group].growing() if group in specs else None
            if growing is None or old.link is None:
                continue
            following = _following(growing, old.name.rpartition(".")[2])
            added = [name for name in following if node.slot_named(f"{group}.{name}") is None]
            at = node.inputs.index(slot) + 1
            node.inputs[at:at] = [
                InputSlot(f"{group}.{name}", member.type, spec=member)
                for member, name in zip(growing.template, following, strict=False)
                if name in added
            ]

    def _add_socket(self, node: LiveNode, spec: InputSpec) -> None:
        if self.has_widget(spec):
            return
        if self._front_end.dynamic_inputs:
            if spec.type == AUTOGROW:
                self._add_growing(node, spec)
                return
            if spec.type == MATCH_TYPE and (matched := spec.matched()) is not None:
                group, allowed = matched
                node.inputs.append(InputSlot(spec.name, allowed, spec=spec, group=group))
                return
        node.inputs.append(InputSlot(spec.name, spec.type, spec=spec))

    def _add_growing(self, node: LiveNode, spec: InputSpec) -> None:
        """Add the members that are there from the start: the least number, and one to grow."""
        growing = spec.growing()
        if growing is None:
            return
        for ordinal in range(min(growing.minimum + 1, growing.maximum)):
            names = growing.member_names(ordinal)
            members = growing.template
            self.add_inputs(
                node,
                (
                    member.renamed(f"{spec.name}.{name}")
                    for member, name in zip(members, names, strict=False)
                ),
            )

    def _add_widget(self, node: LiveNode, spec: InputSpec) -> None:
        if not self.has_widget(spec):
            return
        widgets = self.widgets(spec, names_model=node.widget("model_file") is not None)
        node.widgets.extend(widgets)
        if widgets and widgets[0].kind is WidgetKind.DYNAMIC:
            self.choose(node, widgets[0], widgets[0].value)
        node.inputs.append(InputSlot(spec.name, spec.type, widget=spec.name, spec=spec))

    def widgets(self, spec: InputSpec, *, names_model: bool = False) -> list[Widget]:
        """Return new widgets for an input: its own first, then those that come with it.

        `names_model`: the node has a widget that names a 3D model.
        """
        return list(self._widgets(spec, names_model=names_model))

    def _widgets(self, spec: InputSpec, *, names_model: bool) -> Iterator[Widget]:
        match spec.widget_type:
            case "INT":
                yield Widget(spec.name, WidgetKind.INTEGER, _default(spec), spec)
                yield from _controls(spec, asked=_wants_control(spec))
            case "FLOAT":
                yield Widget(spec.name, WidgetKind.FLOAT, _default(spec), spec)
                asked = self._front_end.controls_floats and bool(spec.control_after_generate)
                yield from _controls(spec, asked=asked)
            case "COMBO":
                yield from _combo(spec)
            case "STRING" if spec.multiline:
                yield Widget(spec.name, WidgetKind.LINES, _default(spec), spec)
            case "BOUNDING_BOX":
                yield Widget(spec.name, WidgetKind.OTHER, _default(spec), spec)
                yield from (_unsent(each) for each in _EMPTY_BOX)
            case "CURVE":
                yield Widget(spec.name, WidgetKind.CURVE, _default(spec), spec)
            case kind if kind == DYNAMIC_COMBO:
                first = spec.choices[0] if spec.choices else MISSING
                yield Widget(spec.name, WidgetKind.DYNAMIC, first, spec)
            case "VIDEO_EDIT":
                yield Widget(spec.name, WidgetKind.OTHER, _video_edit(spec), spec)
            case _:
                yield from self._media(spec, names_model=names_model)

    def _media(self, spec: InputSpec, *, names_model: bool) -> Iterator[Widget]:
        match spec.widget_type:
            case "IMAGECOMPARE":
                yield Widget(spec.name, WidgetKind.OTHER, ["", ""], spec, saved=False)
            case "AUDIO_UI":
                yield Widget(spec.name, WidgetKind.OTHER, "", spec, saved=False, sent=False)
            case "IMAGEUPLOAD" | "AUDIOUPLOAD":
                yield _unsent(spec.name)
            case "AUDIO_RECORD":
                # A recording is made in the page and lost with it: an empty text is sent. Player
                # and button have places in the file.
                yield Widget(spec.name, WidgetKind.OTHER, "", spec, saved=False)
                yield _unsent(spec.name)
                yield _unsent(spec.name)
            case "LOAD_3D":
                if names_model or not self._front_end.upload_when_named:
                    yield from map(_unsent, ("upload 3d model", "upload resources", "clear"))
                yield Widget(spec.name, WidgetKind.SCENE, MISSING, spec)
            case "LOAD_3D_ADVANCED" | "WEBCAM":
                yield Widget(spec.name, WidgetKind.SCENE, MISSING, spec)
            case "PREVIEW_3D":
                yield Widget(spec.name, WidgetKind.OTHER, "", spec, sent=False)
            case _:
                yield Widget(spec.name, WidgetKind.OTHER, _default(spec), spec)


def _following(growing: GrowingInputs, name: str) -> tuple[str, ...]:
    """Return the names of the member after the one that `name` belongs to, below the list's own."""
    for ordinal in range(growing.maximum - 1):
        if name in growing.member_names(ordinal):
            return growing.member_names(ordinal + 1)
    return ()


def _combo(spec: InputSpec) -> Iterator[Widget]:
    control = bool(spec.control_after_generate)
    if spec.multi_select:
        yield Widget(spec.name, WidgetKind.OTHER, [], spec)
        yield from _controls(spec, asked=control)
        return
    choices = spec.choices or ()
    first = choices[0] if choices else "Loading..." if spec.remote is not None else MISSING
    yield Widget(spec.name, WidgetKind.COMBO, spec.default or first, spec)
    if spec.remote is not None:
        yield _unsent("Auto-refresh after generation")
        if spec.remote.get("refresh_button"):
            yield _unsent("refresh")
    yield from _controls(spec, asked=control)
    if control:
        yield _unsent("control_filter_list")


def _wants_control(spec: InputSpec) -> bool:
    asked = spec.control_after_generate
    return spec.name in _SEEDS if asked is None else bool(asked)


def _controls(spec: InputSpec, *, asked: bool) -> Iterator[Widget]:
    """Yield the widget that says how a value changes from run to run; it is never sent."""
    if asked:
        name = spec.control_after_generate
        yield _unsent(name if isinstance(name, str) else "control_after_generate")


def _unsent(name: str) -> Widget:
    """Return a widget that has a place in the file and is no input."""
    return Widget(name, WidgetKind.OTHER, MISSING, sent=False)


def _default(spec: InputSpec) -> Any:
    found = spec.default
    if found is None:
        found = _DEFAULTS.get(spec.widget_type, MISSING)
    return copy.deepcopy(found)


def _video_edit(spec: InputSpec) -> Any:
    if spec.default is not None:
        return copy.deepcopy(spec.default)
    features = spec.options.get("features") or ["trim", "crop"]
    found: dict[str, Any] = {}
    if "trim" in features:
        found["trim"] = {"start_time": 0, "duration": 0}
    if "crop" in features:
        found["crop"] = {"x": 0, "y": 0, "width": 0, "height": 0}
    return found


def _add_own_widgets(node: LiveNode, name: str, front_end: FrontEnd) -> None:
    """Add what the front end puts on single classes after all declared inputs."""
    if name in _TEXT_VIEWERS and (front_end.dynamic_inputs or name == "PreviewAny"):
        node.widgets.append(Widget("preview", WidgetKind.OTHER, "", saved=False, sent=False))
    if name == "CustomCombo" and front_end.dynamic_inputs:
        # Its server side takes the position of the choice as `index`, which is not declared.
        node.widgets.append(Widget("index", WidgetKind.OTHER, -1))
        node.widgets.append(Widget("option1", WidgetKind.OTHER, ""))
    if name == "WebcamCapture":
        node.widgets.append(_unsent("capture"))
