"""Repairs: what keeps a bridge from making pictures, and is a person's to put right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import CONF_WORKFLOW, CONTRACT, DOMAIN, SUBENTRY_AI_TASK
from .hub import AVAILABILITY, COMFYUI, WORKFLOWS, Comfy2MQTTConfigEntry
from .protocol import problems
from .protocol.problems import Problem


def found(entry: Comfy2MQTTConfigEntry) -> Iterator[Problem]:
    """Yield what is wrong with a bridge now."""
    hub = entry.runtime_data
    yield from problems.of_bridge(entry.title, hub.info, CONTRACT)
    # What was said before it went offline is no longer so.
    if hub.is_available:
        yield from problems.of_comfyui(entry.title, hub.comfyui)
    yield from problems.of_workflows(hub.workflows.values())
    if hub.is_settled:
        tasks = [
            (each.subentry_id, each.title, each.data.get(CONF_WORKFLOW, ""))
            for each in entry.subentries.values()
            if each.subentry_type == SUBENTRY_AI_TASK
        ]
        yield from problems.of_tasks(tasks, hub.workflows)


@callback
def follow(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> Callable[[], None]:
    """Keep the repairs as things are; return what ends that, and removes them."""
    hub = entry.runtime_data
    raised: dict[str, Problem] = {}

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


def _id(entry: Comfy2MQTTConfigEntry, issue: Problem) -> str:
    return f"{entry.entry_id}-{issue.key}-{issue.about}"
