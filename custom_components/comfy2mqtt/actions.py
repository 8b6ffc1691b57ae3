"""Actions: run a workflow, cancel a job, list jobs; and one action for each workflow.

`run` takes any workflow's inputs as an object. An action `run_<workflow>` is there for each
workflow of a bridge, with a field for each input, drawn from its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import probatio as vol
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import EVENT_CORE_CONFIG_UPDATE
from homeassistant.core import (
    Event,
    HomeAssistant,
    ServiceCall,
    ServiceResponse,
    SupportsResponse,
    callback,
)
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.service import async_set_service_schema
from homeassistant.helpers.translation import async_get_translations

from .action_names import ActionNames, action_names
from .const import DOMAIN
from .hub import CHOICES, WORKFLOWS, Comfy2MQTTConfigEntry, Hub, bridges
from .media import with_media
from .protocol import selectors
from .protocol.messages import OUTCOMES, RefusedError, Result
from .requests import error_text, failure

ATTR_ENTRY = "config_entry_id"
ATTR_WORKFLOW = "workflow"
ATTR_INPUTS = "inputs"
ATTR_TIMEOUT = "timeout"
ATTR_PRIORITY = "priority"
ATTR_JOB = "job_id"
ATTR_STATES = "states"
ATTR_LIMIT = "limit"

STATES = ("waiting", "queued", "running", *OUTCOMES)
_MOST = 100

_OF_ENTRY: dict[Any, Any] = {vol.Optional(ATTR_ENTRY): cv.string}
RUN_SCHEMA = vol.Schema(
    {
        **_OF_ENTRY,
        vol.Required(ATTR_WORKFLOW): cv.string,
        vol.Optional(ATTR_INPUTS, default=dict): dict,
        vol.Optional(ATTR_TIMEOUT): vol.All(vol.Coerce(float), vol.Range(min=1, max=86_400)),
        vol.Optional(ATTR_PRIORITY): vol.All(vol.Coerce(int), vol.Range(min=-100, max=100)),
    }
)
CANCEL_SCHEMA = vol.Schema({**_OF_ENTRY, vol.Required(ATTR_JOB): cv.string})
LIST_SCHEMA = vol.Schema(
    {
        **_OF_ENTRY,
        vol.Optional(ATTR_WORKFLOW): cv.string,
        vol.Optional(ATTR_STATES): vol.All(cv.ensure_list, [vol.In(STATES)]),
        vol.Optional(ATTR_LIMIT, default=20): vol.All(vol.Coerce(int), vol.Range(min=1, max=_MOST)),
    }
)


@callback
def set_up(hass: HomeAssistant) -> None:
    """Register the actions that are there whatever bridges are."""

    async def run(call: ServiceCall) -> ServiceResponse:
        entry = entry_of(hass, call.data.get(ATTR_ENTRY))
        return await _run(
            hass,
            entry,
            call,
            call.data[ATTR_WORKFLOW],
            call.data[ATTR_INPUTS],
            timeout_s=call.data.get(ATTR_TIMEOUT),
            priority=call.data.get(ATTR_PRIORITY),
        )

    async def cancel(call: ServiceCall) -> ServiceResponse:
        hub = entry_of(hass, call.data.get(ATTR_ENTRY)).runtime_data
        try:
            return dict(await hub.cancel(call.data[ATTR_JOB]))
        except RefusedError as error:
            raise refused(error) from error

    async def list_jobs(call: ServiceCall) -> ServiceResponse:
        entry = entry_of(hass, call.data.get(ATTR_ENTRY))
        fields = {
            name: call.data[name] for name in (ATTR_WORKFLOW, ATTR_STATES) if name in call.data
        }
        try:
            jobs = await entry.runtime_data.jobs(call.data[ATTR_LIMIT], **fields)
        except RefusedError as error:
            raise refused(error) from error
        return {"jobs": [_listed(each) for each in jobs]}

    either, only = SupportsResponse.OPTIONAL, SupportsResponse.ONLY
    hass.services.async_register(DOMAIN, "run", run, RUN_SCHEMA, supports_response=either)
    hass.services.async_register(DOMAIN, "cancel", cancel, CANCEL_SCHEMA, supports_response=either)
    hass.services.async_register(DOMAIN, "list", list_jobs, LIST_SCHEMA, supports_response=only)


@callback
def entry_of(hass: HomeAssistant, entry_id: str | None) -> Comfy2MQTTConfigEntry:
    """Return the bridge that is meant: the only one, where none is named."""
    if entry_id is None:
        entries = [each for each in bridges(hass) if each.disabled_by is None]
    else:
        entries = [each for each in bridges(hass) if each.entry_id == entry_id]
    if len(entries) != 1:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="no_entry" if not entries else "which_entry"
        )
    if entries[0].state is not ConfigEntryState.LOADED:
        raise ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="not_loaded",
            translation_placeholders={"title": entries[0].title},
        )
    return entries[0]


def refused(error: RefusedError) -> ServiceValidationError:
    """Return a refusal by the bridge as the error that Home Assistant shows to the caller."""
    return ServiceValidationError(**error_text(error))


async def _run(
    hass: HomeAssistant,
    entry: Comfy2MQTTConfigEntry,
    call: ServiceCall,
    name: str,
    values: Mapping[str, Any],
    *,
    timeout_s: float | None = None,
    priority: int | None = None,
) -> ServiceResponse:
    """Run a workflow; with a response to its end, else until it is accepted."""
    hub = entry.runtime_data
    workflow = hub.workflows.get(name)
    given = dict(values) if workflow is None else selectors.as_integers(workflow, values)
    inputs = await with_media(hass, workflow, given)
    try:
        if not call.return_response:
            await hub.submit(name, inputs, timeout_s=timeout_s, priority=priority, follow=False)
            return None
        result = await hub.run(name, inputs, timeout_s=timeout_s, priority=priority)
    except RefusedError as error:
        raise refused(error) from error
    if result.state in ("failed", "expired"):
        reason = result.state if result.error is None else result.error.message
        raise failure("not_succeeded", workflow=name, error=reason)
    return response_of(entry.entry_id, result)


def response_of(entry_id: str, result: Result) -> dict[str, Any]:
    """Return a result as actions and events show it; each output with its place in the media."""
    found: dict[str, Any] = {
        "job_id": result.job_id,
        "workflow": result.workflow,
        "state": result.state,
        "inputs": dict(result.inputs),
        "outputs": [
            {
                "name": each.name,
                "kind": each.kind,
                "content_type": each.content_type,
                "size": each.size,
                "width": each.width,
                "height": each.height,
                "media_content_id": (
                    f"media-source://{DOMAIN}/{entry_id}/{result.workflow}"
                    f"/{result.job_id}/{each.index}"
                ),
            }
            for each in result.outputs
        ],
        "outputs_known": not result.is_partial,
    }
    if result.error is not None:
        found |= {"code": result.error.code, "message": result.error.message}
    return found


def _listed(job: Mapping[str, Any]) -> dict[str, Any]:
    names = ("job_id", "workflow", "state", "accepted_at", "attempt", "position", "reason", "eta_s")
    return {name: job[name] for name in names if name in job}


# One action for each workflow.


async def follow(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> Callable[[], None]:
    """Keep an action for each workflow of a bridge; return what removes them."""
    return _WorkflowActions(hass, entry, await action_names(hass), await _words(hass)).stop


class _WorkflowActions:
    """The actions of a bridge's workflows, with what is drawn for each.

    Home Assistant translates actions that never change; these are in its own language.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: Comfy2MQTTConfigEntry,
        names: ActionNames,
        words: Mapping[str, str],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._hub = entry.runtime_data
        self._names = names
        self._words = words
        self._drawn: dict[str, tuple[str, Any]] = {}
        self._update()
        self._ends = [self._hub.listen(what, self._update) for what in (WORKFLOWS, CHOICES)]
        self._ends.append(hass.bus.async_listen(EVENT_CORE_CONFIG_UPDATE, self._translate))

    @callback
    def _update(self) -> None:
        hass, drawn, there = self._hass, self._drawn, self._hub.workflows
        for name in [name for name in drawn if name not in there]:
            hass.services.async_remove(DOMAIN, drawn.pop(name)[0])
        for name in sorted(there):
            drawing = _drawing(self._hub, name, self._words)
            action, before = drawn.get(name, ("", None))
            if before == drawing:
                continue
            if not action:
                action = self._names.of(self._entry.entry_id, name)
                _register(hass, self._entry, name, action)
            drawn[name] = (action, drawing)
            async_set_service_schema(hass, DOMAIN, action, drawing)

    async def _translate(self, event: Event[Any]) -> None:
        if "language" in event.data:
            self._words = await _words(self._hass)
            # It may have been stopped meanwhile.
            if self._ends:
                self._update()

    @callback
    def stop(self) -> None:
        """Remove the actions."""
        for end in self._ends:
            end()
        self._ends.clear()
        for action, _ in self._drawn.values():
            self._hass.services.async_remove(DOMAIN, action)


async def _words(hass: HomeAssistant) -> Mapping[str, str]:
    """Return the texts of these actions in Home Assistant's language, else in English."""
    prefix = f"component.{DOMAIN}.common."
    found = await async_get_translations(hass, hass.config.language, "common", [DOMAIN])
    return {key.removeprefix(prefix): text for key, text in found.items()}


def _drawing(hub: Hub, name: str, words: Mapping[str, str]) -> dict[str, Any]:
    workflow = hub.workflows[name]
    described = words["run_description"].format(workflow=workflow.title)
    return {
        "name": words["run_name"].format(workflow=workflow.title),
        "description": workflow.description or described,
        "fields": {each.name: selectors.field(each, hub.choices) for each in workflow.inputs},
    }


@callback
def _register(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry, name: str, action: str) -> None:
    async def run(call: ServiceCall) -> ServiceResponse:
        return await _run(hass, entry, call, name, call.data)

    hass.services.async_register(
        DOMAIN,
        action,
        run,
        vol.Schema({}, extra=vol.ALLOW_EXTRA),
        supports_response=SupportsResponse.OPTIONAL,
    )
