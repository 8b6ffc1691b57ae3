"""What the ComfyUIs at hand have, and which of them can run a prompt.

Workflows are drawn with the union of what all of them have: a class that one declares is there, and
a choice that one offers is a choice. Whether a prompt can run is asked of each by itself. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from bridge.contract.retained import Missing
from bridge.workflows.graph import Node
from bridge.workflows.lacking import choices_of, is_choice, missing
from bridge.workflows.objectinfo import ObjectInfo, ObjectInfoError

# What names a file of weights: with the same ones loaded a ComfyUI starts a job at once.
_WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


class Needs(Struct, frozen=True, array_like=True):
    """What a prompt needs: node classes, and choices `(class, input, value)`, both sorted."""

    classes: tuple[str, ...] = ()
    choices: tuple[tuple[str, str, str], ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The files of weights that it loads."""
        return tuple(value for _, _, value in self.choices if value.endswith(_WEIGHTS))


class Inventory:
    """What each ComfyUI said of its nodes, by its name. Never changed: `learned` gives another."""

    def __init__(self, infos: Mapping[str, ObjectInfo] | None = None) -> None:
        self._infos = dict(infos or {})
        self._merged = _merged(list(self._infos.values()))
        self._able: dict[tuple[str, Needs], bool] = {}

    @property
    def merged(self) -> ObjectInfo | None:
        """What all of them have together; None while none has told."""
        return self._merged

    def learned(self, news: Mapping[str, ObjectInfo]) -> Inventory:
        """Return what is known once some of them have told what they have."""
        return Inventory({**self._infos, **news})

    def lacking(self, nodes: Iterable[Node]) -> Missing | None:
        """Return what the one that lacks least has not; None while none has told."""
        nodes = list(nodes)
        found = [missing(nodes, info) for info in self._infos.values()]
        return min(found, key=lambda each: len(each.nodes) + len(each.choices), default=None)

    def needs(self, prompt: Mapping[str, Mapping[str, Any]]) -> Needs:
        """Return what a prompt needs, as far as is known what is a choice."""
        nodes = nodes_of(prompt)
        info = self._merged
        made = () if info is None else choices_of(nodes, info)
        return Needs(
            tuple(sorted({node.class_type for node in nodes.values()})),
            tuple(
                sorted({(each.node.class_type, each.spec.name, str(each.value)) for each in made})
            ),
        )

    def can_run(self, name: str, needs: Needs) -> bool:
        """Whether this ComfyUI has all that is needed; while it has not told, it has not."""
        known = self._able.get((name, needs))
        if known is None:
            info = self._infos.get(name)
            known = info is not None and _has(info, needs)
            self._able[name, needs] = known
        return known


def nodes_of(prompt: Mapping[str, Mapping[str, Any]]) -> dict[str, Node]:
    """Return a prompt's nodes by their ids."""
    return {node: Node(node, spec["class_type"], spec["inputs"]) for node, spec in prompt.items()}


def _has(info: ObjectInfo, needs: Needs) -> bool:
    if not all(each in info for each in needs.classes):
        return False
    for class_type, name, value in needs.choices:
        try:
            found = info.get(class_type)
        except ObjectInfoError:
            return False
        spec = None if found is None else found.input(name)
        if spec is not None and is_choice(spec) and value not in map(str, spec.choices or ()):
            return False
    return True


def _merged(infos: list[ObjectInfo]) -> ObjectInfo | None:
    if len(infos) < 2:  # noqa: PLR2004 - nothing to merge
        return infos[0] if infos else None
    raw: dict[str, Any] = {}
    for info in infos:
        for name, declared in info.raw.items():
            known = raw.get(name)
            raw[name] = declared if known is None else _union(known, declared)
    return ObjectInfo(raw)


def _union(known: Any, other: Any) -> Any:
    """Return one declaration that offers what both offer; where they differ in kind the first."""
    if known == other or not (isinstance(known, dict) and isinstance(other, dict)):
        return known
    inputs, others = known.get("input"), other.get("input")
    if not (isinstance(inputs, dict) and isinstance(others, dict)):
        return known
    merged = {
        section: {
            name: _with_choices(spec, _at(others, section, name)) for name, spec in specs.items()
        }
        if isinstance(specs, dict)
        else specs
        for section, specs in inputs.items()
    }
    return {**known, "input": merged}


def _at(inputs: dict[str, Any], section: str, name: str) -> Any:
    specs = inputs.get(section)
    return specs.get(name) if isinstance(specs, dict) else None


def _with_choices(spec: Any, other: Any) -> Any:
    """Return an input's declaration with the choices of both: `[[...], {}]` or `["COMBO", {}]`."""
    match spec, other:
        case [[*mine], *rest], [[*theirs], *_]:
            return [_both(mine, theirs), *rest]
        case ["COMBO", {"options": [*mine], **options}, *rest], [
            "COMBO",
            {"options": [*theirs]},
            *_,
        ]:
            return ["COMBO", {**options, "options": _both(mine, theirs)}, *rest]
    return spec


def _both(mine: list[Any], theirs: list[Any]) -> list[Any]:
    return [*mine, *(each for each in theirs if each not in mine)]
