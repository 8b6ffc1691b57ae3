"""Repairs: what keeps a bridge from making pictures, and is a person's to put right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from homeassistant.config_entries import (
    SIGNAL_CONFIG_ENTRY_CHANGED,
    ConfigEntry,
    ConfigEntryChange,
    ConfigEntryState,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.dispatcher import async_dispatcher_connect

from .const import CONF_WORKFLOW, CONTRACT, DOMAIN, SUBENTRY_AI_TASK
from .hub import AVAILABILITY, COMFYUI, HEALTH, TASKS, WORKFLOWS, Comfy2MQTTConfigEntry, Hub
from .protocol import problems
from .protocol.problems import Problem

# With these no job of ours gets on.
_ERRORS = ("contract", "hook_holds_jobs", "no_answer", "queue_held", "store_fails")


@callback
def set_up(hass: HomeAssistant) -> None:
    """Remove the repairs of a bridge that is not loaded any more, nor tried again."""

    @callback
    def changed(_change: ConfigEntryChange, entry: ConfigEntry) -> None:
        if entry.domain == DOMAIN and entry.state is ConfigEntryState.NOT_LOADED:
            withdraw_all(hass, entry)

    async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, changed)


def found(entry: Comfy2MQTTConfigEntry, hub: Hub) -> Iterator[Problem]:
    """Yield what is wrong with a bridge now."""
    title = entry.title
    yield from problems.of_bridge(title, hub.info, CONTRACT)
    # What was said before it went offline is no longer so.
    if hub.is_available:
        yield from problems.of_answers(title, hub.topics, is_silent=hub.is_silent)
        yield from problems.of_health(title, hub.health)
        yield from problems.of_comfyui(title, hub.comfyui)
    yield from problems.of_workflows(title, hub.workflows.values())
    if hub.is_settled:
        tasks = [
            (each.subentry_id, each.title, each.data.get(CONF_WORKFLOW, ""))
            for each in entry.subentries.values()
            if each.subentry_type == SUBENTRY_AI_TASK
        ]
        yield from problems.of_tasks(title, tasks, hub.workflows)


@callback
def update(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, hub: Hub) -> None:
    """Have the repairs of a bridge say what is wrong with it now."""
    now = {_id(entry, each): each for each in found(entry, hub)}
    for issue_id in _raised(hass, entry):
        if issue_id not in now:
            _withdraw(hass, issue_id)
    for issue_id, issue in now.items():
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            is_fixable=False,
            severity=ir.IssueSeverity.ERROR if issue.key in _ERRORS else ir.IssueSeverity.WARNING,
            translation_key=issue.key,
            translation_placeholders=issue.placeholders,
        )


@callback
def follow(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> Callable[[], None]:
    """Keep the repairs as things are; return what ends that."""
    hub = entry.runtime_data

    @callback
    def changed() -> None:
        update(hass, entry, hub)

    @callback
    def stop() -> None:
        for end in ends:
            end()

    changed()
    ends = [hub.listen(what, changed) for what in (AVAILABILITY, COMFYUI, HEALTH, TASKS, WORKFLOWS)]
    return stop


@callback
def withdraw_all(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> None:
    """Remove every repair of a bridge, until it is raised again."""
    for issue_id in _raised(hass, entry):
        _withdraw(hass, issue_id)


@callback
def remove_all(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> None:
    """Remove every repair of a bridge, also what a person ignores."""
    for issue_id in _raised(hass, entry):
        ir.async_delete_issue(hass, DOMAIN, issue_id)


def _raised(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> list[str]:
    return [
        issue_id
        for domain, issue_id in ir.async_get(hass).issues
        if domain == DOMAIN and issue_id.startswith(f"{entry.entry_id}-")
    ]


@callback
def _withdraw(hass: HomeAssistant, issue_id: str) -> None:
    """Remove a repair; one that a person ignores is not shown, and stays ignored next time."""
    issue = ir.async_get(hass).async_get_issue(DOMAIN, issue_id)
    if issue is not None and issue.dismissed_version is None:
        ir.async_delete_issue(hass, DOMAIN, issue_id)


def _id(entry: Comfy2MQTTConfigEntry, issue: Problem) -> str:
    return f"{entry.entry_id}-{issue.key}-{issue.about}"
