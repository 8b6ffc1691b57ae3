"""Applies a sidecar to a workflow that was built from its graph.

What the sidecar fixes, sets or leaves out is changed in the graph that is run: no later step has to
know of it. A hidden or fixed input can be given under no name and no place any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from bridge.contract.errors import InvalidInput
from bridge.contract.retained import OutputDefinition
from bridge.workflows import constraints
from bridge.workflows.graph import NodeInput
from bridge.workflows.inputs import KINDS, Input
from bridge.workflows.page_pictures import with_file
from bridge.workflows.sidecar import InputRules, OutputRules, PressRules, Sidecar, SidecarError
from bridge.workflows.workflow import Workflow

# What a sidecar may say of every input; the rest depends on its kind.
_ALWAYS = ("rename", "hide", "title", "description")
_BY_KIND = ("fix", "default", "minimum", "maximum", "step", "choices", "max_length", "dynamic")
_LIMITS = ("choices", "minimum", "maximum", "max_length")


def apply_overrides(workflow: Workflow, sidecar: Sidecar, *, lacks_nodes: bool) -> Workflow:
    """Return the workflow with its sidecar applied. Raises SidecarError.

    `lacks_nodes`: ComfyUI lacks some of its nodes, whose inputs and outputs are not known.
    """
    return _Overlay(workflow, sidecar, lacks_nodes=lacks_nodes).result()


class _Overlay:
    """The state of applying one sidecar to one workflow."""

    def __init__(self, workflow: Workflow, sidecar: Sidecar, *, lacks_nodes: bool) -> None:
        self._workflow = workflow
        self._sidecar = sidecar
        # By the names that they have without the sidecar; the values change.
        self._inputs = {spec.name: spec for spec in workflow.inputs}
        self._places = dict(workflow.places)
        self._hidden = {spec.target: spec for spec in workflow.hidden}
        self._literals: dict[NodeInput, Any] = {}
        self._lacks_nodes = lacks_nodes
        self._names: dict[NodeInput, str] = {}

    def result(self) -> Workflow:
        """Return the workflow with the sidecar applied."""
        sidecar, workflow = self._sidecar, self._workflow
        for name, rules in sidecar.inputs.items():
            self._apply(name, rules)
        outputs = self._outputs()
        shown = {output.node for output in outputs}
        unseen = {output.node for output in workflow.outputs} - shown
        graph = workflow.graph.changed(self._literals).without(unseen)
        gone = [place for place, spec in self._places.items() if spec.target.node in unseen]
        for place in gone:
            self._inputs.pop(self._places.pop(place).name, None)
        inputs = tuple(self._inputs.values())
        self._check_unique("inputs", sidecar.inputs, [spec.name for spec in inputs])
        overlaid = msgspec.structs.replace(
            workflow,
            title=sidecar.title or workflow.title,
            description=sidecar.description or workflow.description,
            graph=graph,
            inputs=inputs,
            places=self._places,
            hidden=tuple(spec for spec in self._hidden.values() if spec.target.node not in unseen),
            outputs=outputs,
        )
        return msgspec.structs.replace(
            overlaid, press=self._press(overlaid), sinks=self._sidecar.sinks
        )

    # Inputs.

    def _apply(self, name: str, rules: InputRules) -> None:
        path = ("inputs", name)
        before = self._find(path, name)
        if before is None:
            return
        self._check_rules(path, before, rules)
        spec = self._set(path, self._limited(path, before, rules), rules)
        self._hidden.pop(spec.target, None)
        if rules.hide or rules.fix is not UNSET:
            self._hide(path, before, spec, fixed=rules.fix is not UNSET)
            return
        spec = msgspec.structs.replace(
            spec,
            name=rules.rename or spec.name,
            title=rules.title or spec.title,
            description=rules.description or spec.description,
        )
        self._inputs[before.name] = spec
        self._places[str(spec.target)] = spec

    def _find(self, path: tuple[str, ...], name: str) -> Input | None:
        found = self._inputs.get(name) or self._workflow.find_input(name)
        if found is None and self._lacks_nodes:
            return None
        if found is None:
            raise self._error(path, "the workflow has no such input", *self._inputs)
        other = self._names.setdefault(found.target, name)
        if other != name:
            raise self._error(path, f"this is the input {other!r}, which has a table of its own")
        return found

    def _check_rules(self, path: tuple[str, ...], spec: Input, rules: InputRules) -> None:
        """Refuse what means nothing for an input of this kind, such as a text's minimum."""
        # A sidecar may name a file for what the page would have sent.
        fitting = ("fix", "default") if spec.of_page else KINDS[spec.kind].rules
        for key in _BY_KIND:
            if getattr(rules, key) not in (None, UNSET) and key not in fitting:
                problem = f"does not apply to an input of kind {spec.kind}"
                raise self._error((*path, key), problem, *fitting, *_ALWAYS)
        if rules.fix is not UNSET and (rules.rename or rules.default is not UNSET):
            key = "rename" if rules.rename else "default"
            raise self._error((*path, key), "means nothing beside `fix`")
        if rules.rename is not None and rules.rename.startswith("$"):
            raise self._error((*path, "rename"), "begins with $, which is kept for fields")

    def _limited(self, path: tuple[str, ...], spec: Input, rules: InputRules) -> Input:
        """Narrow what an input takes. A sidecar cannot allow what a node refuses."""
        low = constraints.tightest_minimum([spec.minimum, rules.minimum])
        high = constraints.tightest_maximum([spec.maximum, rules.maximum])
        if low is not None and high is not None and low > high:
            key = "maximum" if rules.minimum is None else "minimum"
            raise self._error((*path, key), f"nothing is left between {low} and {high}")
        spec = msgspec.structs.replace(
            spec,
            minimum=low,
            maximum=high,
            step=rules.step or spec.step,
            max_length=rules.max_length or spec.max_length,
        )
        if rules.dynamic is not None:
            spec = msgspec.structs.replace(spec, drawn="always" if rules.dynamic else "never")
        if rules.choices is None:
            return spec
        known = spec.choices if spec.kind == "choice" else None
        kept = tuple(each for each in rules.choices if known is None or each in known)
        if not kept:
            raise self._error((*path, "choices"), "none of them is there", *map(str, known or ()))
        return msgspec.structs.replace(spec, kind="choice", choices=kept, choices_name=None)

    def _set(self, path: tuple[str, ...], spec: Input, rules: InputRules) -> Input:
        """Put a fixed value or another default into the graph, and see that the default fits."""
        for key, value in (("fix", rules.fix), ("default", rules.default)):
            if value is not UNSET:
                taken = self._coerced((*path, key), spec, value, rules)
                places = (spec.target, *spec.also)
                there = self._workflow.graph.nodes
                self._literals |= {each: taken for each in places if each.node in there}
                return msgspec.structs.replace(spec, default=taken)
        narrowed = next((key for key in _LIMITS if getattr(rules, key) is not None), None)
        if narrowed is not None and spec.default is not UNSET and spec.kind != "seed":
            taken = self._coerced((*path, narrowed), spec, spec.default, rules)
            if taken != spec.default:
                raise self._error((*path, narrowed), "does not allow the graph's own value")
        return spec

    def _file(self, path: tuple[str, ...], spec: Input, value: Any) -> Any:
        """Return the literal for a file of ComfyUI's input folder, by its name there."""
        parts = value.split("/") if isinstance(value, str) else ()
        if not all(part and part != ".." for part in parts) or not parts:
            raise self._error(path, "expected the name of a file in ComfyUI's input folder")
        literal = self._workflow.graph.nodes[spec.target.node].inputs.get(spec.target.input)
        return with_file(literal, value)

    def _coerced(self, path: tuple[str, ...], spec: Input, value: Any, rules: InputRules) -> Any:
        if KINDS[spec.kind].media:
            return self._file(path, spec, value)
        if spec.kind == "choice" and rules.choices is None and isinstance(value, str):
            # A model that is not there now may come back; the definition names what is missing.
            return value
        try:
            return KINDS[spec.kind].coerce(spec, value)
        except InvalidInput as error:
            problem = error.message.removeprefix(f"input {spec.name!r}: ")
            if value is spec.default:
                problem = f"the graph's own value does not fit ({problem}): give a default"
            raise self._error(path, problem) from None

    def _hide(self, path: tuple[str, ...], before: Input, spec: Input, *, fixed: bool) -> None:
        if spec.required and not fixed:
            raise self._error((*path, "hide"), "it has no value of its own and must be given")
        self._inputs.pop(before.name, None)
        self._places.pop(str(spec.target), None)
        # A text that is fixed is one text, unless the sidecar says otherwise.
        drawn = spec.drawn == "always" if fixed else spec.drawn != "never"
        if drawn or (spec.kind == "seed" and not fixed):
            self._hidden[spec.target] = spec

    # Outputs, and presses.

    def _outputs(self) -> tuple[OutputDefinition, ...]:
        outputs = {output.name: output for output in self._workflow.outputs}
        for name, rules in self._sidecar.outputs.items():
            found = outputs.get(name)
            if found is None and self._lacks_nodes:
                continue  # it may be of a node that ComfyUI does not have
            if found is None:
                raise self._error(("outputs", name), "the workflow has no such output", *outputs)
            if rules.hide:
                self._check_unused(name, found.node)
                del outputs[name]
                continue
            outputs[name] = msgspec.structs.replace(
                found,
                name=rules.rename or found.name,
                title=rules.title or found.title,
                description=rules.description or found.description,
            )
        if not outputs and self._workflow.outputs:
            raise self._error(("outputs",), "all outputs are hidden")
        names = [output.name for output in outputs.values()]
        self._check_unique("outputs", self._sidecar.outputs, names)
        return tuple(outputs.values())

    def _check_unused(self, name: str, node: str) -> None:
        """A hidden output is not made at all; that cannot be if another node uses it."""
        used = self._workflow.graph.consumers().get(node)
        if used:
            problem = f"node {used[0][0].id} uses it"
            raise self._error(("outputs", name, "hide"), problem)

    def _press(self, overlaid: Workflow) -> PressRules:
        rules = self._sidecar.press
        declared = {spec.name: spec for spec in overlaid.inputs}
        for name, value in rules.inputs.items():
            path = ("press", "inputs", name)
            spec = declared.get(name) or overlaid.find_input(name)
            if spec is None and self._lacks_nodes:
                continue
            if spec is None:
                raise self._error(path, "the workflow has no such input", *declared)
            if not KINDS[spec.kind].media:
                self._coerced(path, spec, value, InputRules())
        return rules

    def _check_unique(
        self, what: str, rules: Mapping[str, InputRules | OutputRules], names: list[str]
    ) -> None:
        for old, each in rules.items():
            if each.rename and names.count(each.rename) > 1:
                raise self._error((what, old, "rename"), f"the name {each.rename!r} is taken")

    def _error(self, path: tuple[str, ...], problem: str, *allowed: str) -> SidecarError:
        return self._sidecar.error(path, problem, allowed)
