"""Keeps the published descriptions of workflows and ComfyUIs up to date.

A workflow's description depends on its file and on what nodes of the connected ComfyUIs take and
give, which each ComfyUI reports as `/object_info`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained import Retained
from bridge.aio import first
from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.comfyui.state import InstanceState
from bridge.contract.operator import ReloadReport
from bridge.contract.retained import BridgeEvent, Definition
from bridge.contract.topics import Topics
from bridge.requests.operator import comfyui_state
from bridge.retry import Backoff
from bridge.workflows.library import NO_CHANGES, BrokenFile, Changes, Library
from bridge.workflows.objectinfo import ObjectInfo, ObjectInfoError

log = logging.getLogger(__name__)

# `/object_info` costs ComfyUI up to seconds: it is not asked for every request with a typo in it.
REFRESH_INTERVAL_S = 5.0
# A request waits at most this long for a refresh. Those that come meanwhile wait for the same one,
# until the same moment: PUBACKs leave in order, so whoever waits delays all that came later.
REFRESH_WITHIN_S = 5.0
# After a refresh of t seconds none is begun for this many times t: a ComfyUI that takes
# seconds each time delays requests for a tenth of the time at most.
REFRESH_REST = 9.0
# Pauses after a fetch that failed.
RETRY_FIRST_S = 1.0
RETRY_CAP_S = 30.0
# The state of a new process is published after it was asked for its nodes, or after this long.
DESCRIBED_WITHIN_S = 30.0
# A ComfyUI is busy and ready again with each job: as retained messages, two for each.
BUSY_INTERVAL_S = 0.5


class Audience(Protocol):
    """A publisher of workflow descriptions."""

    def workflow(self, definition: Definition) -> None:
        """Publish a workflow that is new or has changed."""

    def remove_workflow(self, name: str) -> None:
        """Withdraw a workflow that is gone."""


class NodeInfo:
    """Fetches the nodes and choices of one ComfyUI, one fetch at a time.

    `fetch` is one attempt and returns whether it succeeded; `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Coroutine[Any, Any, bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._fetching: asyncio.Task[bool] | None = None
        self._began_at = self._rested_at = clock()
        self._waited_for = False
        # Set once the present process was asked, also if that failed.
        self.asked = asyncio.Event()

    def reset(self) -> None:
        """Forget the process that was asked, since it is gone; cancels a fetch from it."""
        self.asked.clear()
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None

    async def keep_trying(self) -> None:
        """Fetch, and again after each failure until it succeeds. Cancelling it leaves the fetch."""
        backoff = Backoff(RETRY_FIRST_S, RETRY_CAP_S)
        while True:
            succeeded = await asyncio.shield(self._present_fetch())
            self.asked.set()
            if succeeded:
                return
            await asyncio.sleep(backoff.next())

    async def refresh(self) -> bool:
        """Fetch again, or share a fetch that is under way; returns whether it succeeded in time.

        Returns False at once until `REFRESH_INTERVAL_S` after the last one began, and until
        `REFRESH_REST` times its duration after it ended. Waits until `REFRESH_WITHIN_S` after the
        fetch began; the fetch itself continues. Cancelling this leaves the fetch to other callers.
        """
        now = self._clock()
        if self._fetching is None:
            if now < self._rested_at:
                return False
            self._rested_at = now + REFRESH_INTERVAL_S
        fetching = self._present_fetch()
        self._waited_for = True
        await asyncio.wait((fetching,), timeout=self._began_at + REFRESH_WITHIN_S - now)
        return fetching.done() and not fetching.cancelled() and fetching.result()

    def _present_fetch(self) -> asyncio.Task[bool]:
        if self._fetching is None:
            self._began_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, fetch: asyncio.Task[bool]) -> None:
        if self._fetching is fetch:
            self._fetching = None
            if self._waited_for:
                self._waited_for = False
                now = self._clock()
                held_up_s = min(now - self._began_at, REFRESH_WITHIN_S)
                self._rested_at = max(self._rested_at, now + REFRESH_REST * held_up_s)


class Descriptions:
    """Publishes the workflows, and the states of the ComfyUIs, as they change.

    Use `follow_folder`, and `follow` for each ComfyUI, as tasks.
    """

    def __init__(
        self,
        library: Library,
        instances: Sequence[Instance],
        *,
        topics: Topics,
        publisher: Publisher,
        retained: Retained,
        changed: Callable[[], None],
        audience: Sequence[Audience] = (),
    ) -> None:
        """`changed` is called when the nodes or choices of a ComfyUI have changed.

        Each workflow is published by `retained` and `audience`.
        """
        self._library = library
        self._node_infos = {each.name: NodeInfo(partial(self._learn, each)) for each in instances}
        self._instances = instances
        self._topics = topics
        self._publisher = publisher
        self._retained = retained
        self._changed = changed
        self._audience = (retained, *audience)

    async def open(self) -> None:
        """Read the folder, and the last reports of the ComfyUIs from the disk."""
        self._publish(await self._library.open())

    async def follow(self, instance: Instance) -> None:
        """Learn the nodes of each new process of a ComfyUI, and publish its state, until cancelled.

        A state in which it takes jobs is published once the process was asked for its nodes, or did
        not answer within `DESCRIBED_WITHIN_S`; it is asked again until it answers.
        """
        node_info = self._node_infos[instance.name]
        known: str | None = None
        async with asyncio.TaskGroup() as tasks:
            learning: asyncio.Task[None] | None = None
            while True:
                state = instance.state
                process = _process(state)
                if process != known:
                    known = process
                    node_info.reset()
                    if learning is not None:
                        learning.cancel()
                        learning = None
                    if process is not None:
                        learning = tasks.create_task(node_info.keep_trying())
                        await _asked(node_info, instance, process)
                        continue
                self._retained.comfyui(instance.name, comfyui_state(state))
                await _state_changed(instance, state)

    async def follow_folder(self) -> None:
        """Publish changes of the workflow folder, until cancelled."""
        async for changes in self._library.changes():
            # It is read again and again, and collecting all lists of choices takes a while.
            if changes != NO_CHANGES:
                self._publish(changes)

    async def refresh(self) -> bool:
        """Fetch the ComfyUIs' nodes again, for a request that needs something unknown.

        True if one of them answered: in `REFRESH_WITHIN_S`, and not more often than once in
        `REFRESH_INTERVAL_S`.
        """
        usable = [self._node_infos[each.name] for each in self._instances if each.state.usable]
        return any(await asyncio.gather(*(each.refresh() for each in usable)))

    async def reload(self) -> ReloadReport:
        """Read the folder again, for the operator."""
        self._publish(await self._library.reload())
        return ReloadReport(
            workflows=sorted(self._library.workflows),
            broken=[each.message for each in self._library.broken],
            waiting=self._library.waiting,
        )

    async def set_others(self, infos: Mapping[str, ObjectInfo], keyed: Collection[str]) -> None:
        """Describe the workflows with the ComfyUIs of other bridges, as `Library.set_others`."""
        self._publish(await self._library.set_others(infos, keyed))

    def publish_faults(self) -> None:
        """Publish an event for every file that cannot be used, for clients that came later."""
        self._publish_faults(self._library.broken, self._library.waiting)

    async def _learn(self, instance: Instance) -> bool:
        """Ask a ComfyUI once which nodes and choices it has; False without a usable answer."""
        try:
            info = await instance.client.object_info()
            replacements = await instance.client.node_replacements()
            hello = await instance.client.hello()
            no_outputs = () if hello is None else hello.no_outputs
            changes = await self._library.update(instance.name, info, replacements, no_outputs)
        except (ComfyUIError, ObjectInfoError) as error:
            log.warning("ComfyUI %s did not report its nodes: %s", instance.name, error)
            return False
        if changes is not None:
            self._publish(changes)
            self._changed()
        return True

    def _publish(self, changes: Changes) -> None:
        self._retained.choices(self._library.choices())
        for workflow in changes.updated:
            definition = workflow.definition()
            for audience in self._audience:
                audience.workflow(definition)
        for name in changes.gone:
            for audience in self._audience:
                audience.remove_workflow(name)
        for broken in changes.broken:
            log.warning("cannot use workflow %s", broken.message)
        self._publish_faults(changes.broken, changes.waiting)

    def _publish_faults(self, faults: Iterable[BrokenFile], waiting: Iterable[str]) -> None:
        for broken in faults:
            event = BridgeEvent(type="workflow_broken", message=broken.message, data=broken.details)
            self._publisher.publish(self._topics.event, event)
        for file in waiting:
            message = f"{file}: waits until a ComfyUI has reported its nodes"
            event = BridgeEvent(type="workflow_waiting", message=message, data={"file": file})
            self._publisher.publish(self._topics.event, event)


def _process(state: InstanceState) -> str | None:
    """Return the id of the process that takes jobs; None if there is none."""
    return (state.epoch or "unnamed") if state.usable else None


async def _asked(node_info: NodeInfo, instance: Instance, process: str) -> None:
    """Wait until a process was asked for its nodes, is gone, or takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DESCRIBED_WITHIN_S):
            gone = instance.until(lambda state: _process(state) != process)
            await first(node_info.asked.wait(), gone)


async def _state_changed(instance: Instance, published: InstanceState) -> None:
    """Wait until a ComfyUI has a state to be published after `published`.

    That it is busy, or ready, is published at once if nothing was for a while, and else a little
    later, if it still is.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(BUSY_INTERVAL_S):
            await instance.until(lambda state: _process(state) != _process(published))
    await instance.changed(published)
