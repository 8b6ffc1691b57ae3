"""Decides whether a run computed anything, and whether its outputs are old ones. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bridge.contract.errors import ExecutionError
from bridge.contract.messages import MissingOutput
from bridge.jobs.job import Plan
from bridge.workflows.graph import link
from bridge.workflows.outputs import only_writes


def nothing_new(plan: Plan, *, cached: Collection[str], ran: Collection[str]) -> bool:
    """Return whether ComfyUI had all results in its cache, and at most saved them again.

    `cached` are the nodes whose results it had, `ran` those that were seen to run. A node in
    neither may have run too, as frames may have been missed.
    """
    if not cached:
        return False
    put_out = {output.node for output in plan.outputs}
    return all(_wrote(plan.prompt, node, cached) for node in {*put_out, *ran} if node not in cached)


def _wrote(prompt: Mapping[str, Mapping[str, Any]], node: str, cached: Collection[str]) -> bool:
    """Return whether a node that ran only saved what ComfyUI had."""
    found = prompt.get(node, {})
    if not only_writes(str(found.get("class_type"))):
        return False
    sources = [taken.node for taken in map(link, found.get("inputs", {}).values()) if taken]
    return bool(sources) and all(source in cached for source in sources)


def not_given(plan: Plan) -> list[MissingOutput]:
    """Return the declared outputs of a run that succeeded without any, each with a reason."""
    return [_not_given(plan, output.node, output.name) for output in plan.outputs]


def _not_given(plan: Plan, node: str, name: str) -> MissingOutput:
    class_type = plan.prompt.get(node, {}).get("class_type")
    why = (
        "it was given nothing: a node before it blocked it (an ExecutionBlocker), or gave an empty "
        "list"
        if only_writes(str(class_type))
        else "it reported nothing: it was blocked, or it has nothing to show"
    )
    error = ExecutionError(
        f"node {node} ({class_type}) put out nothing: {why}",
        node=node,
        class_type=class_type,
        reason="blocked",
    )
    return MissingOutput(name=name, error=error.wire())
