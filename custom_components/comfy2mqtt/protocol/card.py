"""The dashboard card's messages: a workflow as it shows it, and the steps of a job."""

from __future__ import annotations

from typing import Any

from .decode import MalformedError, Payload, read_object
from .definitions import TEXT, Workflow
from .problems import SHOWN

# The fields that the card shows, by the last level of the topics that they come on.
_FIELDS = {"status": ("state", "reason"), "progress": ("percent",)}


def shown(workflow: Workflow | None, picture: str | None, *, is_online: bool) -> dict[str, Any]:
    """Return a workflow as the card shows it; `picture` is the link to its last picture."""
    found: dict[str, Any] = {"available": is_online and workflow is not None, "picture": picture}
    if workflow is None:
        return found
    prompt = next(iter(workflow.of_kind(TEXT)), None)
    if prompt is not None:
        default = "" if prompt.default is None else str(prompt.default)
        found["prompt"] = {"name": prompt.name, "title": prompt.title, "default": default}
    found |= {"title": workflow.title, "runnable": workflow.runnable is not False}
    return {**found, "lacks": list(workflow.lacks[:SHOWN])}


def step(what: str, payload: Payload) -> dict[str, Any]:
    """Return what the card shows of a job's message; nothing of one that it does not show."""
    try:
        message = read_object(payload) if what in _FIELDS else {}
    except MalformedError:
        return {}
    return {name: message[name] for name in _FIELDS.get(what, ()) if name in message}
