"""A ComfyUI's node classes: a typed, read-only view over `/object_info`.

The answer is large (541 KB on a plain 0.3.75, 1.6 MB on 0.33.0) and most of it is never looked at,
so it stays JSON, a fifth of the size of what JSON decodes to, and a class is read when it is first
asked for. Three dialects are understood: combos as a plain
list of choices, combos as `COMBO` with options, and the dynamic inputs of newer servers (a combo
whose choice brings further inputs, lists of inputs that grow, inputs that share a type).

Nothing here judges a graph. A declaration that cannot be read is an ObjectInfoError that names the
class; the others stay usable.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, TypeAlias

import msgspec

from bridge.contract.reading import UNREADABLE, LenientDecoder
from bridge.workflows.replacements import Replacements

Section: TypeAlias = Literal["required", "optional", "hidden"]
Choice: TypeAlias = str | int | float | bool

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"

# A growing list has no more members than this, whatever is declared.
MAX_MEMBERS = 1_000

_NUMBERS = {"INT", "FLOAT"}
_NUMERIC = (int, float)
# Larger whole numbers cannot be brought together with floats.
_LARGEST = sys.float_info.max

# Where ComfyUI's own classes come from; others come from packs of nodes.
_CORE = ("nodes", "comfy_extras.", "comfy_api_nodes.")
# Hidden inputs by which a node is given an account at Comfy.org.
_CREDENTIALS = frozenset({"API_KEY_COMFY_ORG", "AUTH_TOKEN_COMFY_ORG"})

_NO_OPTIONS: Mapping[str, Any] = {}

_CLASSES = LenientDecoder(dict[str, msgspec.Raw])


class ObjectInfoError(ValueError):
    """An `/object_info` that cannot be read; `class_type` names the class at fault, if one is."""

    code = "bad_object_info"

    def __init__(self, reason: str, *, class_type: str | None = None) -> None:
        super().__init__(reason if class_type is None else f"{class_type}: {reason}")
        self.reason = reason
        self.class_type = class_type


class GrowingInputs(msgspec.Struct, frozen=True):
    """A list of inputs that grows with use: `images.image0`, `images.image1`, ...

    `template` is what each member is made of, nearly always a single input. The members are named
    by `names`, or by `prefix` (the template's own name where it has several inputs) and a number.
    """

    template: tuple[InputSpec, ...]
    minimum: int
    maximum: int
    prefix: str = ""
    names: tuple[str, ...] | None = None

    def member_names(self, ordinal: int) -> tuple[str, ...]:
        """Return the names below the list's own name of its member `ordinal`, from 0."""
        if self.names is not None:
            return (self.names[ordinal],) if ordinal < len(self.names) else ()
        if len(self.template) == 1:
            return (f"{self.prefix}{ordinal}",)
        return tuple(f"{spec.name}{ordinal}" for spec in self.template)


class Branch(msgspec.Struct, frozen=True):
    """The further inputs of one choice of a dynamic combo, without the combo's prefix."""

    key: str
    inputs: tuple[InputSpec, ...]


class InputSpec(msgspec.Struct, frozen=True, dict=True):
    """One declared input. What follows from its options is found once: many workflows ask for it.

    `type` is what a link must carry; both kinds of combo say `COMBO`. `options` is the declaration
    as it came, for what has no name here. `branches` are the inputs of each choice of a dynamic
    combo.
    """

    name: str
    type: str
    section: Section
    options: Mapping[str, Any]
    choices: tuple[Any, ...] | None = None
    branches: tuple[Branch, ...] = ()

    @property
    def required(self) -> bool:
        """True if a prompt without it is refused."""
        return self.section == "required"

    @cached_property
    def widget_type(self) -> str:
        """The type that decides how a value is typed in, where it differs from the link's type."""
        found = self.options.get("widgetType")
        return found if isinstance(found, str) else self.type

    @cached_property
    def value_type(self) -> str:
        """The type of a value that is typed in: of whole and other numbers the other ones."""
        return "FLOAT" if set(self.widget_type.split(",")) == _NUMBERS else self.widget_type

    @property
    def force_input(self) -> bool:
        """True if it takes a link only, although its type could be typed in."""
        return bool(self.options.get("forceInput"))

    @property
    def default(self) -> Any:
        """The declared default, or None."""
        return self.options.get("default")

    @cached_property
    def minimum(self) -> int | float | None:
        """The smallest number allowed."""
        return number(self.options.get("min"))

    @cached_property
    def maximum(self) -> int | float | None:
        """The largest number allowed."""
        return number(self.options.get("max"))

    @cached_property
    def step(self) -> int | float | None:
        """The distance between two settings of the number's widget; no rule for the value."""
        return number(self.options.get("step"))

    @property
    def rounding(self) -> int | float | None:
        """The multiple to which the front end rounds a float that is typed in."""
        return number(self.options.get("round"))

    @cached_property
    def multiline(self) -> bool:
        """True if a text has several lines."""
        return bool(self.options.get("multiline"))

    @property
    def dynamic_prompts(self) -> bool:
        """True if the front end strips comments and picks one of `{a|b}` before it sends."""
        return self.options.get("dynamicPrompts") is True

    @cached_property
    def multi_select(self) -> bool:
        """True if several choices can be taken at once."""
        return bool(self.options.get("multi_select"))

    @property
    def control_after_generate(self) -> bool | str | None:
        """The way the value changes from run to run, as a seed does; None: not declared."""
        found = self.options.get("control_after_generate")
        return found if isinstance(found, bool | str) else None

    @property
    def remote(self) -> Mapping[str, Any] | None:
        """The source of choices that are not part of the declaration, for the front end."""
        found = self.options.get("remote")
        return found if isinstance(found, dict) else None

    @cached_property
    def upload(self) -> Literal["image", "video", "audio", "file"] | None:
        """The kind of file that the choice names, where the front end offers an upload."""
        if self.options.get("image_upload") or self.options.get("animated_image_upload"):
            return "image"
        if self.options.get("video_upload"):
            return "video"
        if self.options.get("audio_upload"):
            return "audio"
        return "file" if self.options.get("file_upload") else None

    @cached_property
    def tooltip(self) -> str | None:
        """One or two sentences for people."""
        found = self.options.get("tooltip")
        return found if isinstance(found, str) else None

    @property
    def display_name(self) -> str:
        """The name that people see."""
        found = self.options.get("display_name")
        return found if isinstance(found, str) and found else self.name

    def renamed(self, name: str) -> InputSpec:
        """Return the same input under another name."""
        return msgspec.structs.replace(self, name=name)

    def with_options(self, options: Mapping[str, Any]) -> InputSpec:
        """Return the same input with other options."""
        return msgspec.structs.replace(self, options=options)

    def branch(self, key: Any) -> Branch | None:
        """Return the inputs of the choice `key` of a dynamic combo."""
        return next((each for each in self.branches if each.key == key), None)

    def growing(self) -> GrowingInputs | None:
        """Return the template of a growing list; None for every other input."""
        if self.type != AUTOGROW:
            return None
        template = _mapping(self.options.get("template"))
        names = template.get("names")
        limit = template.get("max", 100)  # ComfyUI's own bound where none is declared
        return GrowingInputs(
            template=_sections(_mapping(template.get("input"))),
            minimum=min(_count(template.get("min", 1)), MAX_MEMBERS),
            maximum=len(names) if isinstance(names, list) else min(_count(limit), MAX_MEMBERS),
            prefix=str(template.get("prefix", "")),
            names=tuple(map(str, names)) if isinstance(names, list) else None,
        )

    def matched(self) -> tuple[str, str] | None:
        """Return group and allowed types of an input that shares its type with others."""
        if self.type != MATCH_TYPE:
            return None
        template = _mapping(self.options.get("template"))
        return str(template.get("template_id", "")), str(template.get("allowed_types", "*"))


class OutputSpec(msgspec.Struct, frozen=True):
    """One output; `match_group` names the inputs whose type it takes, if it has none itself."""

    name: str
    type: str
    match_group: str | None = None


class NodeClass(msgspec.Struct, frozen=True, dict=True):
    """One node class: inputs in the order in which the front end lays them out, and outputs."""

    name: str
    display_name: str
    inputs: tuple[InputSpec, ...]
    hidden: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    output_node: bool = False
    description: str = ""
    api_node: bool = False
    # Where its code is: `nodes`, `comfy_extras.nodes_x`, `custom_nodes.pack`.
    module: str = ""

    @property
    def is_core(self) -> bool:
        """True if it is of ComfyUI itself, whose classes take no inputs but what they declare."""
        return self.module.startswith(_CORE)

    @cached_property
    def is_partner(self) -> bool:
        """True if it is run by a partner of Comfy.org, for money, or is given the key for that."""
        return self.api_node or any(spec.type in _CREDENTIALS for spec in self.hidden)

    def input(self, name: str) -> InputSpec | None:
        """Return the declared input of that name (not those that a choice brings)."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, InputSpec]:
        # Of two with one name the first counts.
        return {spec.name: spec for spec in reversed(self.inputs)}

    def declares(self, name: str) -> bool:
        """True if the server knows the input; `format.codec` belongs to `format`."""
        return self.input(name) is not None or self.input(name.partition(".")[0]) is not None


class UndecodedClasses(Mapping[str, Any]):
    """Declarations by class, as JSON: each is decoded when it is asked for, and not kept.

    Asking raises msgspec's DecodeError, UnicodeDecodeError or RecursionError where one cannot be.
    """

    def __init__(self, found: Mapping[str, msgspec.Raw]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> Any:
        return msgspec.json.decode(self._found[name])

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class ObjectInfo:
    """A read-only view over `/object_info`, reading each class when it is first asked for."""

    def __init__(self, raw: Mapping[str, Any], replacements: Replacements | None = None) -> None:
        self.replacements = replacements or Replacements()
        self._raw = raw
        self._classes: dict[str, NodeClass] = {}
        self._keys: dict[str, bool] = {}

    @classmethod
    def decode(
        cls, data: bytes | str, replacements: bytes = b"", no_outputs: Iterable[str] = ()
    ) -> ObjectInfo:
        """Read the body of `/object_info`, or a file that holds it, and of `/node_replacements`.

        The classes of `no_outputs` are no output nodes, whatever `data` says. Raises
        ObjectInfoError if it is no JSON object.
        """
        raw = _classes(data)
        known = UndecodedClasses(raw)
        for name in no_outputs:
            found = _decoded(known, name)
            if isinstance(found, dict):
                changed = msgspec.json.encode({**found, "output_node": False})
                raw[name] = msgspec.Raw(changed)
        return cls(known, Replacements.decode(replacements))

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def raw(self) -> Mapping[str, Any]:
        """The declarations as they came."""
        return self._raw

    def get(self, name: str) -> NodeClass | None:
        """Return the class of that name, None where the server has none.

        Raises ObjectInfoError where its declaration cannot be read.
        """
        found = self._classes.get(name)
        if found is None and name in self._raw:
            found = self._classes[name] = _node_class(name, self._raw)
        return found

    def order_known(self) -> bool:
        """True if the declarations' keys come in the order in which the server wrote them.

        A saved `/object_info` often had its keys sorted. The inputs of a class have their order in
        `input_order`; the order of what a dynamic combo's choice brings is then lost.
        """
        for declared in self._declarations():
            inputs = _mapping(_mapping(declared).get("input"))
            order = _mapping(_mapping(declared).get("input_order"))
            for section, specs in inputs.items():
                named = order.get(section)
                if not (isinstance(named, list) and all(isinstance(each, str) for each in named)):
                    continue
                if named != sorted(named) and isinstance(specs, dict):
                    # One section that is not in alphabetical order by nature speaks for all.
                    return list(specs) != sorted(specs)
        return True

    def declares_key(self, key: str) -> bool:
        """True if any class carries `key`: it shows a server's age."""
        known = self._keys.get(key)
        if known is None:
            known = any(isinstance(each, dict) and key in each for each in self._declarations())
            self._keys[key] = known
        return known

    def _declarations(self) -> Iterator[Any]:
        """Yield the declarations, None for one that cannot be decoded."""
        for name in self._raw:
            yield _decoded(self._raw, name)


def _classes(data: bytes | str) -> dict[str, msgspec.Raw]:
    try:
        return _CLASSES.decode(data)
    except msgspec.ValidationError as error:
        raise ObjectInfoError("expected an object of node classes by name") from error
    except UNREADABLE as error:
        raise ObjectInfoError(f"no JSON: {error}") from error


def _decoded(raw: Mapping[str, Any], name: str) -> Any:
    try:
        return raw.get(name)
    except UNREADABLE:
        return None


def _node_class(name: str, raw: Mapping[str, Any]) -> NodeClass:
    try:
        return _read_class(name, raw[name])
    except (TypeError, ValueError, AttributeError, *UNREADABLE) as error:
        raise ObjectInfoError(str(error) or "cannot be read", class_type=name) from error


def _read_class(name: str, raw: Any) -> NodeClass:
    if not isinstance(raw, dict):
        raise TypeError("not an object")
    declared = _mapping(raw.get("input"))
    inputs = _sections(declared)
    return NodeClass(
        name=name,
        display_name=str(raw.get("display_name") or name),
        inputs=_ordered(inputs, _mapping(raw.get("input_order"))),
        hidden=tuple(_specs(_mapping(declared.get("hidden")), "hidden")),
        outputs=_outputs(raw),
        # Of a node that says 1 ComfyUI runs nothing: it looks for True itself.
        output_node=raw.get("output_node") is True,
        description=str(raw.get("description") or ""),
        api_node=bool(raw.get("api_node")),
        module=str(raw.get("python_module", "")),
    )


def _sections(declared: Mapping[str, Any]) -> tuple[InputSpec, ...]:
    return (
        *_specs(_mapping(declared.get("required")), "required"),
        *_specs(_mapping(declared.get("optional")), "optional"),
    )


def _specs(declared: Mapping[str, Any], section: Section) -> Iterator[InputSpec]:
    for name, raw in declared.items():
        yield input_spec(name, raw, section)


def number(value: Any) -> int | float | None:
    """Return a value that is a number, of a size that a float can have; None for any other."""
    # A tuple: to make `int | float` each time takes longer than to ask.
    if isinstance(value, _NUMERIC) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return value
    return None


def input_spec(name: str, raw: Any, section: Section = "required") -> InputSpec:
    """Read one declared input: `["INT", {...}]`, `[["a", "b"], {...}]`, or a bare word (hidden).

    Raises TypeError if it is neither.
    """
    kind, options = raw, _NO_OPTIONS
    if isinstance(raw, list | tuple):
        kind = raw[0] if raw else None
        options = _mapping(raw[1]) if len(raw) > 1 else _NO_OPTIONS
    if isinstance(kind, list | tuple):
        return InputSpec(name, "COMBO", section, options, tuple(kind))
    if not isinstance(kind, str):
        raise TypeError(f"input {name!r} has no type")
    if kind == "COMBO":
        return InputSpec(name, kind, section, options, tuple(_list(options.get("options"))))
    if kind == DYNAMIC_COMBO:
        choices = _list(options.get("options"))
        keys = tuple(_mapping(each).get("key") for each in choices)
        return InputSpec(name, kind, section, options, keys, tuple(map(_branch, choices)))
    spec = InputSpec(name, kind, section, options)
    spec.growing()  # a template that cannot be read is the class's fault, whoever asks for it later
    return spec


def _ordered(inputs: tuple[InputSpec, ...], order: Mapping[str, Any]) -> tuple[InputSpec, ...]:
    """Return the inputs in the server's `input_order`, those that it does not name last."""
    if not order:
        return inputs
    by_name = {spec.name: spec for spec in inputs}
    placed: dict[str, InputSpec] = {}
    for section in ("required", "optional"):
        for name in _list(order.get(section)):
            spec = by_name.get(name)
            if spec is not None and spec.section == section:
                placed[name] = spec
    return tuple({**placed, **by_name}.values())


def _outputs(raw: Mapping[str, Any]) -> tuple[OutputSpec, ...]:
    names = _list(raw.get("output_name"))
    groups = _list(raw.get("output_matchtypes"))
    found = []
    for index, kind in enumerate(_list(raw.get("output"))):
        # An output that offers one of some words is declared by the list of them.
        text = kind if isinstance(kind, str) else "COMBO"
        found.append(
            OutputSpec(
                name=str(names[index]) if index < len(names) and names[index] else text,
                type=text,
                match_group=_text(groups[index]) if index < len(groups) else None,
            )
        )
    return tuple(found)


def _branch(raw: Any) -> Branch:
    found = _mapping(raw)
    return Branch(str(found.get("key")), _sections(_mapping(found.get("inputs"))))


def _mapping(value: Any) -> Mapping[str, Any]:
    # What JSON has is a dict; to ask for any mapping takes five times as long.
    return value if isinstance(value, dict) else _NO_OPTIONS


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
