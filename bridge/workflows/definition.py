"""Builds a workflow from its graph, what ComfyUI says of its nodes, and its sidecar.

Where a graph has input nodes of ours, they alone are its inputs, under the names that they give.
In any other graph every literal is an input by its place, and what most requests set has a plain
name besides. Outputs are the output nodes. A file may declare, for the App Mode of ComfyUI's page,
which inputs and outputs are meant, and in which order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec

from bridge.contract.retained import OutputDefinition
from bridge.workflows import app_mode, constraints, graph_inputs, models, naming, outputs
from bridge.workflows.app_mode import AppMode
from bridge.workflows.catalogue import class_of, missing
from bridge.workflows.constraints import Declarations
from bridge.workflows.drawing import draw, reads_workflow
from bridge.workflows.graph import Graph, NodeInput, WorkflowError
from bridge.workflows.inputs import Input, names_file
from bridge.workflows.objectinfo import ObjectInfo
from bridge.workflows.overrides import apply_overrides
from bridge.workflows.sidecar import Sidecar
from bridge.workflows.workflow import Workflow

_DIGITS = 12
MAX_DRAWING = 1024 * 1024


class NoOutput(WorkflowError):
    """A graph that leaves nothing, as far as is known."""


def version_of(data: bytes, sidecar: bytes | None = None) -> str:
    """Return a workflow's version: the first 12 digits of a SHA-256 of its file and sidecar."""
    if sidecar is None:
        return hashlib.sha256(data).hexdigest()[:_DIGITS]
    both = hashlib.sha256(data).digest() + hashlib.sha256(sidecar).digest()
    return hashlib.sha256(both).hexdigest()[:_DIGITS]


def build(
    name: str,
    version: str,
    graph: Graph,
    info: ObjectInfo | None,
    sidecar: Sidecar | None = None,
    *,
    title: str | None = None,
    drawing: Mapping[str, Any] | None = None,
    dynamic: Container[NodeInput] = (),
) -> Workflow:
    """Build a workflow from its graph, `info` (None: not known yet) and sidecar.

    `drawing` is the graph as ComfyUI's page saves it, where the file has it; at the places
    `dynamic` are prompts with choices, which are drawn for each job.

    Raises WorkflowError for two inputs of one name, and for links that ComfyUI cannot follow;
    NoOutput for a graph without an output, and SidecarError for a sidecar that does not fit.
    """
    chosen = AppMode() if drawing is None else app_mode.read(drawing, graph)
    declared = Declarations(graph, info)
    graph = constraints.with_typed_numbers(graph, declared)
    graph = constraints.without_unknown_links(graph, declared)
    graph = _with_outputs(graph, outputs.outputs(graph, declared), chosen)
    if graph is not declared.graph:
        declared = Declarations(graph, info)
    workflow = Workflow(
        name=name,
        version=version,
        graph=graph,
        inputs=(),
        outputs=_ordered(outputs.outputs(graph, declared), chosen),
        missing=None,
        title=title or name,
    )
    lacks_nodes = info is not None and any(
        class_of(info, node) is None for node in graph.nodes.values()
    )
    if not workflow.outputs and not lacks_nodes:
        raise NoOutput("the workflow has no output node, such as SaveImage")
    ends = [output.node for output in workflow.outputs]
    graph.check_chains(ends)
    declared.check_links(ends)
    named = graph_inputs.declared_inputs(graph, declared)
    names = {} if named else naming.plain_names(graph, declared, chosen.inputs)
    found = graph_inputs.addressable_inputs(graph, declared, names, dynamic)
    workflow = msgspec.structs.replace(
        workflow,
        inputs=named or tuple(found[str(target)] for target in names if str(target) in found),
        places={**found, **{str(spec.target): spec for spec in named}},
        aliases=graph_inputs.aliases(graph, found),
        hidden=tuple(
            spec for spec in found.values() if spec.drawn != "never" and spec.target not in names
        ),
    )
    if chosen.also and not named:
        inputs = tuple(
            msgspec.structs.replace(spec, also=chosen.also.get(spec.target, ()))
            for spec in workflow.inputs
        )
        workflow = msgspec.structs.replace(
            workflow,
            inputs=inputs,
            places={**workflow.places, **{str(each.target): each for each in inputs}},
        )
    if chosen.inputs and not named:
        # Names that the author has not chosen are still understood.
        others = {each: str(target) for target, each in naming.plain_names(graph, declared).items()}
        workflow = msgspec.structs.replace(workflow, aliases={**others, **workflow.aliases})
    if sidecar is not None:
        workflow = apply_overrides(workflow, sidecar, lacks_nodes=lacks_nodes)
    drawn = drawing is None and not lacks_nodes  # what lacks nodes is not run
    if drawn and info is not None and reads_workflow(workflow.graph, info):
        drawing = draw(workflow.graph, info)
    graph = workflow.graph.changed(outputs.names_to_set(workflow.graph, workflow.outputs))
    return msgspec.structs.replace(
        workflow,
        graph=graph,
        inputs=tuple(_with_list_name(name, spec) for spec in workflow.inputs),
        places={} if named else workflow.places,
        aliases={} if named else workflow.aliases,
        file_names=tuple(
            NodeInput(node.id, name)
            for node in graph.nodes.values()
            for name in node.inputs
            if names_file(name)
        ),
        missing=None if info is None else missing(graph.nodes.values(), info),
        drawing=None if drawing is None else _encoded(drawing),
        models=models.declared(drawing),
    )


def _with_outputs(graph: Graph, found: Iterable[OutputDefinition], chosen: AppMode) -> Graph:
    """Return the graph without output nodes that the author has not chosen, and nothing needs.

    Output nodes of ours are chosen by being there.
    """
    nodes = {output.node for output in found}
    if nodes.isdisjoint(chosen.outputs):
        return graph
    ours = {node for node in nodes if graph.nodes[node].class_type in outputs.OURS}
    return graph.without(nodes.difference(chosen.outputs, ours, graph.consumers()))


def _ordered(found: tuple[OutputDefinition, ...], chosen: AppMode) -> tuple[OutputDefinition, ...]:
    """Return the outputs with those that the author has chosen first, in the author's order."""
    order = {node: place for place, node in enumerate(chosen.outputs)}
    return tuple(sorted(found, key=lambda output: order.get(output.node, len(order))))


def _encoded(drawing: Mapping[str, Any]) -> bytes | None:
    """Return a drawing as it is sent, None for one that is too large to be kept with each job."""
    encoded = msgspec.json.encode(drawing)
    return encoded if len(encoded) <= MAX_DRAWING else None


def _with_list_name(workflow: str, spec: Input) -> Input:
    """Name the choices of an input that no node class declares: its own, or a sidecar's."""
    if spec.choices is None or spec.choices_name is not None:
        return spec
    own = constraints.list_name(workflow, spec.name)
    return msgspec.structs.replace(spec, choices_name=own)
