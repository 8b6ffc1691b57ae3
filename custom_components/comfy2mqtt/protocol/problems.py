"""Problems that keep a bridge from making pictures, and that a person has to solve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .definitions import Workflow
from .messages import Health, Info
from .releases import read_release
from .topics import Topics

# States of a ComfyUI that it does not leave by itself.
_STUCK = ("crash_loop",)
# What keeps a ComfyUI away that runs and answers.
_REFUSED = ("forbidden", "unexpected_answer")
# Of what a workflow lacks so much is named.
SHOWN = 10
# What a broker lacks so that messages get lost, or come to nobody who comes later.
_LOSING = ("qos", "retain", "session")

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
    losses = [] if info is None else [info.restrictions.get(word) for word in _LOSING]
    sentences = "; ".join(each for each in losses if each)
    if sentences:
        yield Problem("broker_loses", "", {"title": title, "error": sentences})


def of_answers(title: str, topics: Topics, *, is_silent: bool) -> Iterator[Problem]:
    """Yield that a bridge is online and does not answer in our name, where it is so."""
    if is_silent:
        names = {"base": topics.base, "client": topics.client}
        yield Problem("no_answer", "", {"title": title, **names})


def of_health(title: str, health: Health) -> Iterator[Problem]:
    """Yield what a bridge says of its own health that a person has to put right."""
    if health.store is not None:
        yield Problem("store_fails", "", {"title": title, "error": health.store})
    if health.held is not None:
        yield Problem("queue_held", "", {"title": title, "error": health.held})
    for hook, error in health.failed_hooks.items():
        placeholders = {"title": title, "hook": hook, "error": error}
        if hook in health.holding:
            yield Problem("hook_holds_jobs", hook, placeholders)
        else:
            yield Problem("hook_fails", hook, placeholders)


def of_comfyui(title: str, comfyui: States) -> Iterator[Problem]:
    """Yield what is wrong with a bridge's ComfyUIs, by their states."""
    away = [name for name, each in comfyui.items() if each.get("state") == "unreachable"]
    refused = [name for name in away if comfyui[name].get("reason") in _REFUSED]
    for name, state in comfyui.items():
        placeholders = {"title": title, "comfyui": name, "error": _error(state)}
        if state.get("state") in _STUCK:
            yield Problem("comfyui_crashes", name, placeholders)
        if name in refused:
            yield Problem("comfyui_refuses", name, placeholders)
        if state.get("unguarded") is True:
            yield Problem("comfyui_unguarded", name, {"title": title, "comfyui": name})
        release = read_release(state)
        if release is not None and release.error is not None and not release.is_installing:
            yield Problem("update_fails", name, {**placeholders, "error": release.error})
    # One of several that is switched off is no problem.
    if away and len(away) == len(comfyui) and not refused:
        yield Problem("no_comfyui", "", {"title": title, "error": _error(comfyui[away[0]])})


def _error(state: Mapping[str, Any]) -> str:
    return str(state.get("last_error") or state.get("reason") or state.get("state"))


def of_workflows(title: str, workflows: Iterable[Workflow]) -> Iterator[Problem]:
    """Yield the workflows that cannot run, and what they lack; not those that need not."""
    for each in workflows:
        if each.runnable is False and not each.is_optional:
            lacks = ", ".join(each.lacks[:SHOWN]) or "?"
            names = {"title": title, "name": each.name, "workflow": each.title, "lacks": lacks}
            yield Problem("not_runnable", each.name, names)


def of_tasks(
    title: str, tasks: Iterable[tuple[str, str, str]], workflows: Iterable[str]
) -> Iterator[Problem]:
    """Yield the AI tasks, as id, title and workflow, whose workflow is gone."""
    there = frozenset(workflows)
    for task_id, task, workflow in tasks:
        if workflow not in there:
            names = {"title": title, "task": task, "workflow": workflow}
            yield Problem("workflow_gone", task_id, names)
