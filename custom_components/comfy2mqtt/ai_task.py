"""AI tasks: a workflow that makes pictures, or says something about one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import probatio as vol
from homeassistant.components import ai_task, conversation
from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util.json import json_loads

from .const import (
    CONF_ATTACHMENT_INPUT,
    CONF_INPUTS,
    CONF_PROMPT_INPUT,
    CONF_TIMEOUT,
    CONF_WORKFLOW,
    DEFAULT_TIMEOUT,
    SUBENTRY_AI_TASK,
)
from .devices import TASK, HubEntity
from .hub import TASKS, WORKFLOWS, Comfy2MQTTConfigEntry
from .media import read_file
from .protocol.definitions import IMAGE, MEDIA, TEXT, Workflow
from .protocol.messages import Output, RefusedError, Result
from .protocol.selectors import as_integers
from .requests import Media, failure

# The bridge has a queue of its own.
PARALLEL_UPDATES = 0


async def async_setup_entry(
    _hass: HomeAssistant,
    entry: Comfy2MQTTConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an entity for each workflow that was picked, now or later."""
    known: set[str] = set()

    @callback
    def add() -> None:
        for subentry_id, subentry in entry.subentries.items():
            if subentry.subentry_type == SUBENTRY_AI_TASK and subentry_id not in known:
                known.add(subentry_id)
                async_add_entities([WorkflowTask(entry, subentry)], config_subentry_id=subentry_id)

    add()
    entry.async_on_unload(entry.runtime_data.listen(TASKS, add))


class WorkflowTask(HubEntity, ai_task.AITaskEntity):
    """A workflow that carries out tasks."""

    _attr_translation_key = "task"

    def __init__(self, entry: Comfy2MQTTConfigEntry, subentry: ConfigSubentry) -> None:
        self._subentry = subentry
        super().__init__(entry, f"{TASK}{subentry.subentry_id}", subentry.data[CONF_WORKFLOW])
        self._attr_name = subentry.title
        self._attr_supported_features = self._features()

    def _features(self) -> ai_task.AITaskEntityFeature:
        found = ai_task.AITaskEntityFeature(0)
        workflow = self._definition()
        if workflow is None:
            return found
        if workflow.gives(IMAGE):
            found |= ai_task.AITaskEntityFeature.GENERATE_IMAGE
        if workflow.gives(TEXT):
            found |= ai_task.AITaskEntityFeature.GENERATE_DATA
        if workflow.of_kind(*MEDIA):
            found |= ai_task.AITaskEntityFeature.SUPPORT_ATTACHMENTS
        return found

    def _definition(self) -> Workflow | None:
        return self.hub.workflows.get(self._options[CONF_WORKFLOW])

    async def async_added_to_hass(self) -> None:
        """Follow what the workflow can do, and what of it is fixed: both may change at any time."""
        await super().async_added_to_hass()
        self.async_on_remove(self.hub.listen(WORKFLOWS, self._changed))
        self.async_on_remove(self.hub.listen(TASKS, self._reconfigured))

    @property
    def _options(self) -> Mapping[str, Any]:
        # Home Assistant changes the subentry itself.
        return self._subentry.data

    @callback
    def _reconfigured(self) -> None:
        """Take another name and other options; Home Assistant itself removes what is gone."""
        title = self._subentry.title
        if self._subentry.subentry_id not in self._entry.subentries or title == self._attr_name:
            return
        self._attr_name = title
        registry = entity_registry.async_get(self.hass)
        registry.async_update_entity(self.entity_id, original_name=title)
        self.async_write_ha_state()

    @callback
    def _changed(self) -> None:
        if self._definition() is not None:
            self._attr_supported_features = self._features()
        self.async_write_ha_state()

    async def _async_generate_image(
        self, task: ai_task.GenImageTask, chat_log: conversation.ChatLog
    ) -> ai_task.GenImageTaskResult:
        """Make a picture; an attachment is the picture that it is made of."""
        result = await self._run(task)
        output = next(
            (each for each in result.outputs if each.content_type.startswith("image/")), None
        )
        media = await self._output(result, output, "no_picture")
        self._add_to_chat(chat_log, f"{result.workflow} {result.job_id}")
        return ai_task.GenImageTaskResult(
            image_data=media.data,
            conversation_id=chat_log.conversation_id,
            mime_type=media.content_type,
            width=None if output is None else output.width,
            height=None if output is None else output.height,
            model=result.workflow,
        )

    async def _async_generate_data(
        self, task: ai_task.GenDataTask, chat_log: conversation.ChatLog
    ) -> ai_task.GenDataTaskResult:
        """Return the text that a workflow gives, or what it holds as JSON."""
        result = await self._run(task)
        media = await self._output(result, result.first(TEXT), "no_text")
        text = media.data.decode(errors="replace").strip()
        self._add_to_chat(chat_log, text)
        return ai_task.GenDataTaskResult(
            conversation_id=chat_log.conversation_id,
            data=text if task.structure is None else structured(text, task.structure),
        )

    async def _run(self, task: ai_task.GenImageTask | ai_task.GenDataTask) -> Result:
        workflow = self._definition()
        if workflow is None:
            raise failure("no_workflow", workflow=self._options[CONF_WORKFLOW])
        inputs = as_integers(workflow, self._options.get(CONF_INPUTS, {}))
        prompt = self._options.get(CONF_PROMPT_INPUT) or _first(workflow, TEXT)
        if prompt is not None:
            inputs[prompt] = task.instructions
        await self._attach(workflow, inputs, task.attachments or [])
        try:
            result = await self.hub.run(
                workflow.name,
                inputs,
                timeout_s=self._options.get(CONF_TIMEOUT, DEFAULT_TIMEOUT),
            )
        except RefusedError as error:
            raise failure("refused", workflow=workflow.title, error=error.sentence) from error
        if result.state != "succeeded":
            reason = result.state if result.error is None else result.error.message
            raise failure("not_succeeded", workflow=workflow.title, error=reason)
        return result

    async def _attach(
        self,
        workflow: Workflow,
        inputs: dict[str, Any],
        attachments: list[conversation.Attachment],
    ) -> None:
        """Set media inputs to attachments: the chosen one first, then the others in their order."""
        chosen = self._options.get(CONF_ATTACHMENT_INPUT)
        inputs_of_media = sorted(workflow.of_kind(*MEDIA), key=lambda each: each.name != chosen)
        names = [each.name for each in inputs_of_media if each.name not in inputs]
        if len(attachments) > len(names):
            raise failure("too_many_attachments", workflow=workflow.title, count=len(names))
        for name, attachment in zip(names, attachments, strict=False):
            inputs[name] = await read_file(self.hass, attachment.path, attachment.mime_type)

    async def _output(self, result: Result, output: Output | None, missing: str) -> Media:
        if output is None:
            raise failure(missing, workflow=result.workflow)
        try:
            return await self.hub.output(result.job_id, output)
        except RefusedError as error:
            raise failure("refused", workflow=result.workflow, error=error.sentence) from error

    def _add_to_chat(self, chat_log: conversation.ChatLog, text: str) -> None:
        chat_log.async_add_assistant_content_without_tools(
            conversation.AssistantContent(agent_id=self.entity_id, content=text)
        )


def _first(workflow: Workflow, kind: str) -> str | None:
    return next((each.name for each in workflow.of_kind(kind)), None)


def structured(text: str, structure: vol.Schema) -> Any:
    """Return a text as the structure that was asked for.

    The text is JSON, or all of it is the one field that there is. Raises HomeAssistantError.
    """
    fields = [str(key) for key in structure.schema]
    try:
        found = json_loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) and len(fields) == 1:
        found = {fields[0]: text}
    if not isinstance(found, dict):
        raise failure("not_structured", fields=", ".join(fields))
    try:
        return structure(found)
    except vol.Invalid as error:
        raise failure("not_of_structure", error=error) from error
