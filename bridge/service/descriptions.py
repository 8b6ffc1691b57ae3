"""What workflows there are, and what ComfyUIs have to run them: told whenever it changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from bridge.adapters.mqtt.outgoing import Outgoing
from bridge.adapters.mqtt.retained import Retained
from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.comfyui.state import InstanceState
from bridge.contract.operator import ReloadReport
from bridge.contract.retained import BridgeEvent, Definition
from bridge.contract.topics import Topics
from bridge.requests.operator import comfyui_state
from bridge.workflows.library import Broken, Changes, Library
from bridge.workflows.objectinfo import ObjectInfoError

log = logging.getLogger(__name__)

# Telling what it has costs ComfyUI up to seconds: not for every request that names a typo.
REFRESH_INTERVAL_S = 5.0
# A ComfyUI is busy and ready again with each job: as retained messages, two for each.
BUSY_INTERVAL_S = 0.5


class Audience(Protocol):
    """Who is told of workflows."""

    def workflow(self, definition: Definition) -> None:
        """A workflow is there, or is another now."""

    def remove_workflow(self, name: str) -> None:
        """A workflow is gone."""


class Descriptions:
    """Use `follow_folder`, and `follow` for each ComfyUI, as tasks."""

    def __init__(
        self,
        library: Library,
        instances: Sequence[Instance],
        *,
        topics: Topics,
        outgoing: Outgoing,
        retained: Retained,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when a ComfyUI has other nodes or choices than before."""
        self._library = library
        self._instances = instances
        self._topics = topics
        self._outgoing = outgoing
        self._retained = retained
        self._changed = changed
        self._audience: list[Audience] = [retained]
        self._refreshed_at = -REFRESH_INTERVAL_S

    def add(self, audience: Audience) -> None:
        """Have somebody else told as well."""
        self._audience.append(audience)

    async def open(self) -> None:
        """Read the folder, and what ComfyUIs had the last time."""
        self._tell(await self._library.open())

    async def follow(self, instance: Instance) -> None:
        """Ask each new process what it has, and publish its state: ready means described too."""
        known: str | None = None
        while True:
            state = instance.state
            epoch = (state.epoch or "unnamed") if state.usable else None
            if epoch not in (None, known) and not await self._learn(instance):
                epoch = None
            known = epoch
            self._retained.comfyui(instance.name, comfyui_state(state))
            await _news(instance, state)

    async def follow_folder(self) -> None:
        """Tell what becomes different in the folder, until cancelled."""
        async for changes in self._library.changes():
            self._tell(changes)

    async def refresh(self) -> bool:
        """Ask ComfyUIs again, for a request that needs what was not there; not too often."""
        if time.monotonic() - self._refreshed_at < REFRESH_INTERVAL_S:
            return False
        self._refreshed_at = time.monotonic()
        usable = [each for each in self._instances if each.state.usable]
        return any(await asyncio.gather(*(self._learn(each) for each in usable)))

    async def reload(self) -> ReloadReport:
        """Read the folder anew, for the operator."""
        self._tell(await self._library.reload())
        return ReloadReport(
            workflows=sorted(self._library.workflows),
            broken=[each.message for each in self._library.broken],
            waiting=self._library.waiting,
        )

    def tell_faults(self) -> None:
        """Tell of every file that cannot be used: events are not kept for those who come later."""
        self._tell_faults(self._library.broken, self._library.waiting)

    async def _learn(self, instance: Instance) -> bool:
        """Ask a ComfyUI which nodes and choices it has; False if it did not say."""
        try:
            info = await instance.client.object_info()
            changes = await self._library.learn(instance.name, info)
        except (ComfyUIError, ObjectInfoError) as error:
            log.warning("%s did not tell what it has: %s", instance.name, error)
            return False
        if changes is not None:
            self._tell(changes)
            self._changed()
        return True

    def _tell(self, changes: Changes) -> None:
        self._retained.choices(self._library.choices())
        for workflow in changes.drawn:
            definition = workflow.definition()
            for audience in self._audience:
                audience.workflow(definition)
        for name in changes.gone:
            for audience in self._audience:
                audience.remove_workflow(name)
        for broken in changes.broken:
            log.warning("workflow %s", broken.message)
        self._tell_faults(changes.broken, changes.waiting)

    def _tell_faults(self, faults: Iterable[Broken], waiting: Iterable[str]) -> None:
        for broken in faults:
            event = BridgeEvent(type="workflow_broken", message=broken.message, data=broken.details)
            self._outgoing.publish(self._topics.event, event)
        for file in waiting:
            message = f"{file}: waits until a ComfyUI has told what its nodes are"
            event = BridgeEvent(type="workflow_waiting", message=message, data={"file": file})
            self._outgoing.publish(self._topics.event, event)


async def _news(instance: Instance, told: InstanceState) -> None:
    """Wait until there is more to tell of a ComfyUI than was just told.

    That it is busy, or ready, is told at once if nothing was for a while, and else a little later,
    if it still is.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(BUSY_INTERVAL_S):
            state = told
            while state.usable and told.usable and state.epoch == told.epoch:
                state = await instance.changed(state)
    await instance.changed(told)
