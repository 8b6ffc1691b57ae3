"""Setting up: a bridge that was found or named, and AI tasks of its workflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import probatio as vol
from homeassistant.components import mqtt
from homeassistant.config_entries import (
    SOURCE_RECONFIGURE,
    SOURCE_USER,
    ConfigEntry,
    ConfigEntryState,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentryFlow,
    SubentryFlowResult,
)
from homeassistant.const import CONF_NAME, CONF_USERNAME
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import selector
from homeassistant.helpers.service_info.mqtt import MqttServiceInfo

from .const import (
    CONF_ATTACHMENT_INPUT,
    CONF_BASE,
    CONF_CLIENT,
    CONF_INPUTS,
    CONF_PROMPT_INPUT,
    CONF_TIMEOUT,
    CONF_WORKFLOW,
    CONTRACT,
    DEFAULT_TIMEOUT,
    DOMAIN,
    SUBENTRY_AI_TASK,
)
from .devices import change_base
from .hub import Hub
from .protocol import selectors
from .protocol.decode import MalformedError
from .protocol.definitions import IMAGE, MEDIA, TEXT, Workflow
from .protocol.messages import Info, RefusedError, read_info
from .protocol.topics import DEFAULT_BASE, DEFAULT_CLIENT, Topics, base_of_info, is_base, is_id
from .requests import mqtt_is_there

_LONGEST_S = 3600


class Failed(Exception):
    """A bridge cannot be set up: the key of what is wrong, and what fills its text."""

    def __init__(self, key: str, **placeholders: str) -> None:
        super().__init__(key)
        self.key = key
        self.placeholders = placeholders


async def attempt(hass: HomeAssistant, base: str, client: str) -> Info:
    """Try whether a bridge answers in this name, and return what it is. Raises Failed."""
    hub = Hub(hass, Topics(base, client), "attempt", hass.async_create_background_task)
    try:
        await hub.attempt()
    except RefusedError as error:
        raise Failed("refused", error=error.sentence, code=error.code) from error
    except HomeAssistantError as error:
        raise Failed("no_answer") from error
    except TimeoutError as error:
        raise Failed("cannot_connect") from error
    finally:
        hub.leave()
    if hub.info is None:
        raise Failed("cannot_connect")
    if hub.info.contract != CONTRACT:
        raise Failed("other_contract")
    return hub.info


class Comfy2MQTTConfigFlow(ConfigFlow, domain=DOMAIN):
    """Sets up a bridge."""

    VERSION = 1

    def __init__(self) -> None:
        self._base = DEFAULT_BASE
        self._info: Info | None = None
        # What fills the text of an error.
        self._placeholders: dict[str, str] = {}

    @classmethod
    @callback
    def async_get_supported_subentry_types(
        cls,
        config_entry: ConfigEntry,  # noqa: ARG003 - every bridge may have the same
    ) -> dict[str, type[ConfigSubentryFlow]]:
        """Return what a bridge may have below it."""
        return {SUBENTRY_AI_TASK: TaskFlow}

    async def async_step_mqtt(self, discovery_info: MqttServiceInfo) -> ConfigFlowResult:
        """Take a bridge that was found by what it has retained."""
        base = base_of_info(discovery_info.topic)
        try:
            info = read_info(discovery_info.payload) if discovery_info.payload else None
        except MalformedError:
            info = None
        if base is None or info is None:
            return self.async_abort(reason="invalid_discovery_info")
        await self.async_set_unique_id(base)
        self._abort_if_unique_id_configured()
        if info.contract != CONTRACT:
            return self.async_abort(reason="other_contract")
        self._base, self._info = base, info
        self.context["title_placeholders"] = {"name": _title(info, base)}
        return await self.async_step_confirm()

    async def async_step_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """One click, and it is set up; the name is asked for only where ours is not taken."""
        errors: dict[str, str] = {}
        client = (user_input or {}).get(CONF_CLIENT) or _client(self.hass, self._info)
        if user_input is not None:
            result = await self._attempted(self._base, client, errors)
            if result is not None:
                return result
        return self.async_show_form(
            step_id="confirm",
            data_schema=vol.Schema(
                {vol.Required(CONF_CLIENT, default=client): str} if errors else {}
            ),
            errors=errors,
            description_placeholders={
                **self._placeholders,
                "name": self._base if self._info is None else _title(self._info, self._base),
            },
        )

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take a bridge by its base topic."""
        if not await mqtt_is_there(self.hass):
            return self.async_abort(reason="mqtt_missing")
        errors: dict[str, str] = {}
        given = user_input or {CONF_BASE: DEFAULT_BASE, CONF_CLIENT: _client(self.hass, None)}
        if user_input is not None:
            base, client = user_input[CONF_BASE], user_input[CONF_CLIENT]
            # The card of one that was found goes once this one is set up.
            await self.async_set_unique_id(base, raise_on_progress=False)
            self._abort_if_unique_id_configured()
            result = await self._attempted(base, client, errors)
            if result is not None:
                return result
        return self.async_show_form(
            step_id="user",
            data_schema=_schema(given),
            errors=errors,
            description_placeholders=self._placeholders,
        )

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Change the base topic or the client's name."""
        entry = self._get_reconfigure_entry()
        errors: dict[str, str] = {}
        if user_input is not None:
            base = user_input[CONF_BASE]
            await self.async_set_unique_id(base, raise_on_progress=False)
            if base != entry.unique_id:
                self._abort_if_unique_id_configured()
            result = await self._attempted(base, user_input[CONF_CLIENT], errors)
            if result is not None:
                return result
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=_schema(user_input or entry.data),
            errors=errors,
            description_placeholders=self._placeholders,
        )

    async def _attempted(
        self, base: str, client: str, errors: dict[str, str]
    ) -> ConfigFlowResult | None:
        """Return the entry if the bridge answers; None with what is wrong in `errors`."""
        if not is_base(base):
            errors[CONF_BASE] = "bad_base"
        if not is_id(client):
            errors[CONF_CLIENT] = "bad_client"
        if errors:
            return None
        try:
            info = await attempt(self.hass, base, client)
        except Failed as failed:
            errors["base"], self._placeholders = failed.key, failed.placeholders
            return None
        data = {CONF_BASE: base, CONF_CLIENT: client}
        if self.source == SOURCE_RECONFIGURE:
            # The entry is loaded again by its listener, or at its next try.
            entry = self._get_reconfigure_entry()
            self._drop_cards(base)
            change_base(self.hass, entry, base)
            return self.async_update_and_abort(
                entry, unique_id=base, title=_title(info, base), data=data
            )
        return self.async_create_entry(title=_title(info, base), data=data)

    def _drop_cards(self, base: str) -> None:
        """Remove the card of a bridge that was found, and is this one now."""
        for flow in self._async_in_progress():
            if flow["context"].get("unique_id") == base:
                self.hass.config_entries.flow.async_abort(flow["flow_id"])


def _title(info: Info, base: str) -> str:
    return info.name if base == DEFAULT_BASE else f"{info.name} ({base})"


def _client(hass: HomeAssistant, info: Info | None) -> str:
    """Return the name to ask in: the MQTT user's, where the broker keeps users apart."""
    for entry in hass.config_entries.async_entries(mqtt.DOMAIN):
        user = entry.data.get(CONF_USERNAME)
        if info is not None and info.isolation == "enforced" and user and is_id(user):
            return str(user)
    return DEFAULT_CLIENT


def _schema(given: Mapping[str, Any]) -> vol.Schema:
    return vol.Schema(
        {
            vol.Required(CONF_BASE, default=given[CONF_BASE]): str,
            vol.Required(CONF_CLIENT, default=given[CONF_CLIENT]): str,
        }
    )


class TaskFlow(ConfigSubentryFlow):
    """Picks a workflow as an AI task, and what of it is fixed."""

    def __init__(self) -> None:
        self._options: dict[str, Any] = {}
        self._title = ""

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Pick a workflow that gives pictures or texts."""
        hub = self._hub()
        if hub is None:
            return self.async_abort(reason="entry_not_loaded")
        fitting = [each for each in hub.workflows.values() if each.gives(IMAGE) or each.gives(TEXT)]
        if not fitting:
            return self.async_abort(reason="no_workflows")
        if user_input is not None:
            self._options = {CONF_WORKFLOW: user_input[CONF_WORKFLOW]}
            workflow = hub.workflows.get(user_input[CONF_WORKFLOW])
            self._title = user_input[CONF_WORKFLOW] if workflow is None else workflow.title
            return await self.async_step_options()
        options = [
            selector.SelectOptionDict(value=each.name, label=each.title)
            for each in sorted(fitting, key=lambda each: each.title)
        ]
        chosen = selector.SelectSelector(selector.SelectSelectorConfig(options=options))
        return self.async_show_form(
            step_id="user", data_schema=vol.Schema({vol.Required(CONF_WORKFLOW): chosen})
        )

    async def async_step_reconfigure(
        self,
        user_input: dict[str, Any] | None = None,  # noqa: ARG002 - the first step, without any
    ) -> SubentryFlowResult:
        """Change what is fixed."""
        subentry = self._get_reconfigure_subentry()
        self._options, self._title = dict(subentry.data), subentry.title
        return await self.async_step_options()

    async def async_step_options(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Say which input takes the instructions and which the attachment; fix others."""
        hub = self._hub()
        if hub is None:
            return self.async_abort(reason="entry_not_loaded")
        workflow = hub.workflows.get(self._options[CONF_WORKFLOW])
        if workflow is None:
            return self.async_abort(reason="workflow_gone")
        if user_input is not None:
            return self._done(workflow, dict(user_input))
        return self.async_show_form(
            step_id="options",
            data_schema=self.add_suggested_values_to_schema(
                _task_schema(workflow, hub.choices), self._suggested()
            ),
            description_placeholders={"workflow": workflow.title},
        )

    def _suggested(self) -> dict[str, Any]:
        return {
            CONF_NAME: self._title,
            CONF_TIMEOUT: DEFAULT_TIMEOUT,
            **self._options,
            **self._options.get(CONF_INPUTS, {}),
        }

    def _done(self, workflow: Workflow, given: dict[str, Any]) -> SubentryFlowResult:
        title = given.pop(CONF_NAME, None) or workflow.title
        own = (CONF_PROMPT_INPUT, CONF_ATTACHMENT_INPUT, CONF_TIMEOUT)
        data: dict[str, Any] = {CONF_WORKFLOW: workflow.name}
        data |= {name: given.pop(name) for name in own if given.get(name) is not None}
        data[CONF_INPUTS] = selectors.as_integers(workflow, given)
        if self.source == SOURCE_USER:
            return self.async_create_entry(title=title, data=data)
        return self.async_update_and_abort(
            self._get_entry(), self._get_reconfigure_subentry(), title=title, data=data
        )

    def _hub(self) -> Hub | None:
        entry = self._get_entry()
        return entry.runtime_data if entry.state is ConfigEntryState.LOADED else None


def _task_schema(workflow: Workflow, choices: Mapping[str, list[str]]) -> vol.Schema:
    fields: dict[Any, Any] = {vol.Optional(CONF_NAME): str}
    for key, inputs in (
        (CONF_PROMPT_INPUT, workflow.of_kind(TEXT)),
        (CONF_ATTACHMENT_INPUT, workflow.of_kind(*MEDIA)),
    ):
        if inputs:
            options = [
                selector.SelectOptionDict(value=each.name, label=each.title) for each in inputs
            ]
            fields[vol.Optional(key, default=inputs[0].name)] = selector.SelectSelector(
                selector.SelectSelectorConfig(options=options)
            )
    seconds = selector.NumberSelectorConfig(
        min=1, max=_LONGEST_S, step=1, unit_of_measurement="s", mode=selector.NumberSelectorMode.BOX
    )
    fields[vol.Optional(CONF_TIMEOUT)] = selector.NumberSelector(seconds)
    reserved = {CONF_NAME, CONF_PROMPT_INPUT, CONF_ATTACHMENT_INPUT, CONF_TIMEOUT}
    for each in workflow.inputs:
        if not each.is_media and each.name not in reserved:
            drawn = selector.selector(selectors.selector(each, choices))
            fields[vol.Optional(each.name)] = drawn
    return vol.Schema(fields)
