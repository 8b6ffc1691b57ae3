"""The node classes and choices of the connected ComfyUIs, and which of them can run a prompt.

Workflows are built with the union of all of them: a class that one declares is there, and a choice
that one offers is a choice. Whether a prompt can run is asked of each by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bridge.contract.missing import WEIGHTS
from bridge.contract.retained import Missing, MissingChoice, MissingInput
from bridge.text import matches_any
from bridge.workflows.constraints import Declarations, brings_choices
from bridge.workflows.graph import Graph, Node, NodeInput, link
from bridge.workflows.inputs import BY_NODE, CHOICES_SHOWN
from bridge.workflows.objectinfo import InputSpec, NodeClass, ObjectInfo, ObjectInfoError
from bridge.workflows.replacements import Replacements

# Of so many prompts with needs of their own it is remembered whether they can run.
MAX_KNOWN = 10_000


class Needs(Struct, frozen=True, array_like=True, gc=False):
    """A prompt's needs: node classes, and choices `(class, input, value)`, both sorted."""

    classes: tuple[str, ...] = ()
    choices: tuple[tuple[str, str, str], ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The files of weights that it loads: with the same ones loaded it starts at once."""
        return tuple(value for _, _, value in self.choices if value.endswith(WEIGHTS))


class NodeRules(Struct, frozen=True):
    """The classes that the operator allows: names, with `*` and `?`.

    `deny` weighs more; an empty `allow` allows all. A class is judged by its name alone. What a
    node does when it runs, also which nodes it puts in its own place, is ComfyUI's.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def forbidden(self, graph: Graph) -> tuple[str, ...]:
        """Return the classes in a graph that are not allowed."""
        classes = sorted({node.class_type for node in graph.nodes.values()})
        return tuple(each for each in classes if self.setting(each) is not None)

    def setting(self, class_type: str) -> str | None:
        """Return which setting forbids a class; None if it is allowed."""
        if matches_any(self.deny, class_type):
            return "deny_nodes"
        if self.allow and not matches_any(self.allow, class_type):
            return "allow_nodes"
        return None


class NodeCatalogue:
    """The nodes of each ComfyUI, by its name. Immutable: `with_infos` returns another.

    `keyed` are the names of those for which an API key of Comfy.org is set.
    """

    def __init__(
        self, infos: Mapping[str, ObjectInfo] | None = None, keyed: Collection[str] = ()
    ) -> None:
        self._infos = dict(infos or {})
        self._keyed = frozenset(keyed)
        self._merged = _merged(list(self._infos.values()))
        self._able: dict[tuple[str, Needs], bool] = {}
        self._met: set[tuple[str, Needs]] = set()

    @property
    def merged(self) -> ObjectInfo | None:
        """The nodes of all of them together; None while nothing is known of any."""
        return self._merged

    def with_infos(self, infos: Mapping[str, ObjectInfo]) -> NodeCatalogue:
        """Return another catalogue, with new reports of some of them."""
        return NodeCatalogue({**self._infos, **infos}, self._keyed)

    def knows(self, infos: Mapping[str, ObjectInfo]) -> bool:
        """True if these are the last reports that it has of those ComfyUIs."""
        return all(self._infos.get(name) is info for name, info in infos.items())

    def with_others(
        self,
        others: Mapping[str, ObjectInfo],
        gone: Collection[str],
        keyed: Collection[str],
    ) -> NodeCatalogue:
        """Return another catalogue, with reports of other bridges' ComfyUIs.

        Those of `gone` are left out; `keyed` are those of `others` that have a key. They are in the
        order of their names, so that each bridge of a group describes the same.
        """
        ours = {name: info for name, info in self._infos.items() if name not in gone}
        keys = (self._keyed - set(gone) - set(others)) | set(keyed)
        return NodeCatalogue(dict(sorted({**ours, **others}.items())), keys)

    def lacking(self, nodes: Iterable[Node]) -> Missing | None:
        """Return the lacks of the one that lacks least; None while nothing is known of any."""
        nodes = list(nodes)
        # Of several that are equal one says it all.
        each = {(id(info), name in self._keyed): info for name, info in self._infos.items()}
        found = [missing(nodes, info, keyed=keyed) for (_, keyed), info in each.items()]
        return min(
            found,
            key=lambda each: sum(map(len, msgspec.structs.astuple(each))),
            default=None,
        )

    def is_met(self, version: str, needs: Needs) -> bool:
        """True if a prompt of a workflow's version, with these needs, was `note_met` before.

        Needs alone do not say it: they have choices as texts, and 1 is another choice than "1".
        """
        return (version, needs) in self._met

    def note_met(self, version: str, needs: Needs) -> None:
        """Note that nothing is `lacking` that keeps such a prompt from running."""
        if len(self._met) >= MAX_KNOWN:
            self._met.clear()
        self._met.add((version, needs))

    def partner_nodes(self, classes: Iterable[str]) -> list[str]:
        """Return those of the classes that some ComfyUI declares as a partner's, sorted."""
        infos = self._infos.values()
        return sorted({each for each in classes if any(_is_partner(info, each) for info in infos)})

    def needs(self, prompt: Mapping[str, Mapping[str, Any]]) -> Needs:
        """Return a prompt's needs, as far as is known what is a choice."""
        nodes = nodes_of(prompt)
        info = self._merged
        made = () if info is None else made_choices(nodes, info)
        return Needs(
            tuple(sorted({node.class_type for node in nodes.values()})),
            tuple(
                sorted({(each.node.class_type, each.spec.name, str(each.value)) for each in made})
            ),
        )

    def capable(self, needs: Needs) -> list[str]:
        """Return the names of all ComfyUIs that have what is needed, sorted."""
        return sorted(name for name in self._infos if self.can_run(name, needs))

    def can_run(self, name: str, needs: Needs) -> bool:
        """True if this ComfyUI has all that is needed; False while its classes are not known."""
        known = self._able.get((name, needs))
        if known is None:
            info = self._infos.get(name)
            known = info is not None and _has(info, needs, keyed=name in self._keyed)
            if len(self._able) >= MAX_KNOWN:
                self._able.clear()  # it is found again where it is asked for again
            self._able[name, needs] = known
        return known


def nodes_of(prompt: Mapping[str, Mapping[str, Any]]) -> dict[str, Node]:
    """Return a prompt's nodes by their ids."""
    return {node: Node(node, spec["class_type"], spec["inputs"]) for node, spec in prompt.items()}


def _has(info: ObjectInfo, needs: Needs, *, keyed: bool) -> bool:
    if not all(each in info for each in needs.classes):
        return False
    if not keyed and any(_is_partner(info, each) for each in needs.classes):
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
    # Bridges with equal ComfyUIs share one report.
    infos = list({id(info): info for info in infos}.values())
    if len(infos) < 2:  # noqa: PLR2004 - nothing to merge
        return infos[0] if infos else None
    replacements = Replacements()
    for info in infos:
        replacements |= info.replacements
    return ObjectInfo(_Merged([info.raw for info in infos]), replacements)


class _Merged(Mapping[str, Any]):
    """The declarations of several ComfyUIs, those of each class made one when it is asked for."""

    def __init__(self, each: list[Mapping[str, Any]]) -> None:
        self._each = each
        self._names = dict.fromkeys(name for declared in each for name in declared)

    def __getitem__(self, name: str) -> Any:
        found = [declared[name] for declared in self._each if name in declared]
        if not found:
            raise KeyError(name)
        return reduce(_union, found)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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


class MadeChoice(NamedTuple):
    """A choice that a prompt makes; `place` is where it stands, perhaps at a node of ours."""

    node: Node
    spec: InputSpec
    place: NodeInput
    value: object


def _is_partner(info: ObjectInfo, class_type: str) -> bool:
    try:
        found = info.get(class_type)
    except ObjectInfoError:
        return False
    return found is not None and found.is_partner


def missing(nodes: Iterable[Node], info: ObjectInfo, *, keyed: bool = True) -> Missing:
    """Return a ComfyUI's lacks: node types, values that are no choice there, links, and a key.

    `keyed`: it has an API key of Comfy.org.
    """
    by_id = {node.id: node for node in nodes}
    absent = {node.class_type: None for node in by_id.values() if class_of(info, node) is None}
    choices = [
        MissingChoice(
            node=made.place.node,
            input=made.place.input,
            value=str(made.value),
            allowed=[str(choice) for choice in (made.spec.choices or ())[:CHOICES_SHOWN]],
        )
        for made in made_choices(by_id, info)
        if made.value not in (made.spec.choices or ())
    ]
    classes = {} if keyed else dict.fromkeys(node.class_type for node in by_id.values())
    return Missing(
        nodes=list(absent),
        choices=choices,
        inputs=list(_missing_inputs(by_id, info)),
        api_key=[each for each in classes if _is_partner(info, each)],
        unknown_inputs=[
            MissingInput(node=node.id, input=name, type=kind)
            for node in by_id.values()
            for name, kind in node.unknown.items()
        ],
    )


def _missing_inputs(nodes: Mapping[str, Node], info: ObjectInfo) -> Iterator[MissingInput]:
    """Yield the inputs, of nodes that an output needs, for which there is no link and no value.

    ComfyUI refuses a prompt without them. Inputs of newer servers that grow or depend on others
    are passed over: what they need is not known here.
    """
    ends = (node.id for node in nodes.values() if _is_output(class_of(info, node)))
    needed = Graph(nodes).needed(ends)
    for node in nodes.values():
        found = class_of(info, node) if node.id in needed else None
        for spec in () if found is None else found.inputs:
            known = spec.name in node.inputs or spec.type.startswith("COMFY_")
            if spec.required and not known:
                yield MissingInput(node=node.id, input=spec.name, type=spec.type)


def _is_output(found: NodeClass | None) -> bool:
    return found is not None and found.output_node


def made_choices(nodes: Mapping[str, Node], info: ObjectInfo) -> Iterator[MadeChoice]:
    """Yield the choices that a prompt makes among those that a ComfyUI declares.

    Also those among what another choice brings, such as `model.resolution`.
    """
    declared = Declarations(Graph(nodes), info)
    for node in nodes.values():
        found = class_of(info, node)
        if found is None:
            continue
        # Asked for each job: most inputs have no choices, and only a name with a dot is brought.
        listed = {spec.name for spec in found.inputs if spec.choices is not None}
        for name in node.inputs:
            spec = declared.input(node, name) if name in listed or "." in name else None
            if spec is None or not is_choice(spec) or brings_choices(node, name):
                continue
            place = _set_at(NodeInput(node.id, name), nodes)
            if place is not None:
                value = nodes[place.node].inputs[place.input]
                yield MadeChoice(node, spec.renamed(name), place, value)


def is_choice(spec: InputSpec) -> bool:
    """True if an input takes one of the words that its declaration lists, and nothing else."""
    return spec.choices is not None and not (spec.upload or spec.remote or spec.multi_select)


def class_of(info: ObjectInfo, node: Node) -> NodeClass | None:
    """Return a node's class; None if there is none, or none that can be read."""
    try:
        return info.get(node.class_type)
    except ObjectInfoError:
        return None


def _set_at(target: NodeInput, nodes: Mapping[str, Node]) -> NodeInput | None:
    """Return the place of a choice: the input itself, or our node that it is wired to."""
    taken = link(nodes[target.node].inputs[target.input])
    if taken is None:
        return target
    source = nodes.get(taken.node)
    kind = None if source is None else BY_NODE.get(source.class_type)
    if source is None or kind is None or kind.name != "choice":
        return None
    place = NodeInput(source.id, kind.place)
    return place if isinstance(source.inputs.get(place.input), str) else None
