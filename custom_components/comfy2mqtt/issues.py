"""Repairs: what keeps a bridge from making pictures, and is a person's to put right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import CONF_WORKFLOW, CONTRACT, DOMAIN, SUBENTRY_AI_TASK
from .hub import AVAILABILITY, COMFYUI, WORKFLOWS, Comfy2MQTTConfigEntry

# States of a ComfyUI that it does not leave by itself.
_STUCK = ("crash_loop",)
_SHOWN = 10


class Issue(NamedTuple):
    """Something that is wrong: which text says so, about what, and what fills the text."""

    key: str
    about: str
    placeholders: dict[str, str]


def found(entry: Comfy2MQTTConfigEntry) -> Iterator[Issue]:
    """Yield what is wrong with a bridge now."""
    hub = entry.runtime_data
    if hub.info is not None and hub.info.contract != CONTRACT:
        versions = {"theirs": str(hub.info.contract), "ours": str(CONTRACT)}
        yield Issue("contract", "", {"title": entry.title, **versions})
    for name, state in hub.comfyui.items():
        if state.get("state") in _STUCK:
            error = str(state.get("last_error") or state.get("reason") or state["state"])
            yield Issue("comfyui_crashes", name, {"comfyui": name, "error": error})
    for name, workflow in hub.workflows.items():
        if workflow.runnable is False:
            shown = ", ".join(workflow.lacks[:_SHOWN]) or "?"
            yield Issue("not_runnable", name, {"workflow": workflow.title, "lacks": shown})
    if hub.is_settled:
        for subentry in entry.subentries.values():
            name = subentry.data.get(CONF_WORKFLOW, "")
            if subentry.subentry_type == SUBENTRY_AI_TASK and name not in hub.workflows:
                yield Issue(
                    "workflow_gone",
                    subentry.subentry_id,
                    {"task": subentry.title, "workflow": name},
                )


@callback
def follow(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> Callable[[], None]:
    """Keep the repairs as things are; return what ends that, and removes them."""
    hub = entry.runtime_data
    raised: dict[str, Issue] = {}

    @callback
    def update() -> None:
        now = {_id(entry, each): each for each in found(entry)}
        for issue_id in [each for each in raised if each not in now]:
            del raised[issue_id]
            ir.async_delete_issue(hass, DOMAIN, issue_id)
        for issue_id, issue in now.items():
            if raised.get(issue_id) != issue:
                raised[issue_id] = issue
                ir.async_create_issue(
                    hass,
                    DOMAIN,
                    issue_id,
                    is_fixable=False,
                    severity=ir.IssueSeverity.ERROR
                    if issue.key == "contract"
                    else ir.IssueSeverity.WARNING,
                    translation_key=issue.key,
                    translation_placeholders=issue.placeholders,
                )

    @callback
    def stop() -> None:
        for end in ends:
            end()
        for issue_id in raised:
            ir.async_delete_issue(hass, DOMAIN, issue_id)

    update()
    ends = [hub.listen(what, update) for what in (AVAILABILITY, COMFYUI, WORKFLOWS)]
    return stop


@callback
def remove_all(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> None:
    """Remove every repair of a bridge."""
    registry = ir.async_get(hass)
    for domain, issue_id in list(registry.issues):
        if domain == DOMAIN and issue_id.startswith(f"{entry.entry_id}-"):
            ir.async_delete_issue(hass, DOMAIN, issue_id)


def _id(entry: Comfy2MQTTConfigEntry, issue: Issue) -> str:
    return f"{entry.entry_id}-{issue.key}-{issue.about}"
