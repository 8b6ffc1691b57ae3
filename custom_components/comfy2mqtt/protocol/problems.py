"""Problems that keep a bridge from making pictures, and that a person has to solve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .definitions import Workflow
from .messages import Info

# States of a ComfyUI that it does not leave by itself.
_STUCK = ("crash_loop",)
# What keeps a ComfyUI away that runs and answers.
_REFUSED = ("forbidden", "unexpected_answer")
_SHOWN = 10

States = Mapping[str, Mapping[str, Any]]


class Problem(NamedTuple):
    """Something that is wrong: which text says so, about what, and what fills the text."""

    key: str
    about: str
    placeholders: dict[str, str]


def of_bridge(title: str, info: Info | None, ours: int) -> Iterator[Problem]:
    """Yield what is wrong with the bridge itself; `ours`: the contract that is spoken here."""
    if info is not None and info.contract != ours:
        versions = {"theirs": str(info.contract), "ours": str(ours)}
        yield Problem("contract", "", {"title": title, **versions})


def of_comfyui(title: str, comfyui: States) -> Iterator[Problem]:
    """Yield what is wrong with a bridge's ComfyUIs, by their states."""
    away = [name for name, each in comfyui.items() if each.get("state") == "unreachable"]
    refused = [name for name in away if comfyui[name].get("reason") in _REFUSED]
    for name, state in comfyui.items():
        placeholders = {"comfyui": name, "error": _error(state)}
        if state.get("state") in _STUCK:
            yield Problem("comfyui_crashes", name, placeholders)
        if name in refused:
            yield Problem("comfyui_refuses", name, placeholders)
        if state.get("unguarded") is True:
            yield Problem("comfyui_unguarded", name, {"comfyui": name})
    # One of several that is switched off is no problem.
    if away and len(away) == len(comfyui) and not refused:
        yield Problem("no_comfyui", "", {"title": title, "error": _error(comfyui[away[0]])})


def _error(state: Mapping[str, Any]) -> str:
    return str(state.get("last_error") or state.get("reason") or state["state"])


def of_workflows(workflows: Iterable[Workflow]) -> Iterator[Problem]:
    """Yield the workflows that cannot run, and what they lack."""
    for each in workflows:
        if each.runnable is False:
            lacks = ", ".join(each.lacks[:_SHOWN]) or "?"
            yield Problem("not_runnable", each.name, {"workflow": each.title, "lacks": lacks})


def of_tasks(tasks: Iterable[tuple[str, str, str]], workflows: Iterable[str]) -> Iterator[Problem]:
    """Yield the AI tasks, as id, title and workflow, whose workflow is gone."""
    there = frozenset(workflows)
    for task_id, title, workflow in tasks:
        if workflow not in there:
            yield Problem("workflow_gone", task_id, {"task": title, "workflow": workflow})
