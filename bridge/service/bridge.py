"""The start, the run and the end of a bridge. `parts.py` makes its parts.

A task that fails stops the bridge: a bridge that works by half would be worse than one that is
started again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial

from bridge.adapters.mqtt import logtopic
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.config import Config
from bridge.contract.operator import BridgeLog
from bridge.mqtt import Address
from bridge.resources import where_workflows_are
from bridge.service.greeting import Readiness, greet
from bridge.service.parts import BridgeParts
from bridge.service.public_urls import page_address
from bridge.service.starting import waited_out

log = logging.getLogger(__name__)

# Each step that ends the bridge, such as sending the last messages, gets this long and is then
# given up.
_LAST_S = 5.0


class Bridge:
    """One bridge, from its start to its end. Call `run` once."""

    def __init__(
        self,
        config: Config,
        address: Address,
        comfyuis: Mapping[str, AttachConfig | SuperviseConfig],
    ) -> None:
        """`address` is the broker's; `comfyuis` by name. Raises ConfigError."""
        self._config = config
        self._address = address
        self._parts = BridgeParts(config, address, comfyuis)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then end in good order.

        Raises LeaseLost if other bridges of the group took over, and what a step of the start
        raises that will not pass by itself. Cancelling this closes what was opened.
        """
        with logtopic.publishing(self._publish_log, self._config.secrets):
            try:
                for step in self._start_steps():
                    if not await waited_out(step, stopping):
                        return
                await self._serve(stopping)
            finally:
                await self._close()

    def _start_steps(self) -> Iterator[Callable[[], Awaitable[object]]]:
        """Yield what is done before anything is served, in this order."""
        parts = self._parts
        yield parts.shared.journal.open
        # This may have to wait, and for longer than a lease lasts: so it comes before the group.
        yield partial(asyncio.to_thread, parts.shared.files.open)
        if parts.shared.group.group is not None:
            yield parts.shared.group.group.join
        yield from (each.start for each in parts.extensions)
        yield parts.descriptions.open
        if parts.shared.group.offers is not None:
            yield parts.shared.group.offers.open
        yield parts.dispatcher.recover
        yield self._know_clients

    async def _know_clients(self) -> None:
        self._parts.handler.know(await self._parts.shared.journal.clients())

    async def _serve(self, stopping: asyncio.Event) -> None:
        """Run everything until `stopping` is set, and then until it has ended in good order."""
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(service()) for service in self._parts.services()]
            serving.append(tasks.create_task(greet(self._readiness)))
            serving += self._parts.connections.start(tasks)
            await stopping.wait()
            await _bounded(self._stop(), self._config.stop_s + _LAST_S)
            for task in serving:
                task.cancel()

    async def _stop(self) -> None:
        """Accept no more requests, wait for running jobs, disconnect; the journal has the rest."""
        parts = self._parts
        await parts.connections.drain()
        if parts.dispatcher.book.is_busy:
            log.info(
                "running jobs have %g s to end (stop_s); the next start continues with the rest",
                self._config.stop_s,
            )
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.stop_s):
                await parts.dispatcher.drain()
        await parts.hooks.stop()
        await parts.connections.close()

    async def _close(self) -> None:
        """Close what was opened. Raises DatabaseError if the database does not answer."""
        parts = self._parts
        await parts.media.transcoder.close()
        if parts.shared.group.group is not None:
            await _bounded(parts.shared.group.group.leave(), _LAST_S)
        await _bounded(asyncio.to_thread(parts.shared.files.close), _LAST_S)
        await parts.shared.journal.close()

    def _publish_log(self, line: BridgeLog) -> None:
        shared = self._parts.shared
        shared.publisher.publish(shared.topics.log, line)

    def _readiness(self) -> Readiness:
        """Return the state that the greeting reports: broker, ComfyUIs, workflows."""
        parts, config = self._parts, self._config
        return Readiness(
            broker=str(self._address),
            connected=parts.shared.publisher.connected,
            comfyuis={each.name: each.state for each in parts.instances},
            workflows=list(parts.library.workflows.values()),
            broken=len(parts.library.broken),
            folder=where_workflows_are(config.workflows),
            page=page_address(config),
            addresses={
                config.instance_name(each): each.url
                for each in config.comfyuis
                if each.url is not None
            },
        )


async def _bounded(ending: Awaitable[object], most_s: float) -> None:
    """Wait for a step of the end, at most this long: what it waits for may be gone."""
    try:
        async with asyncio.timeout(most_s):
            await ending
    except TimeoutError:
        log.error(  # noqa: TRY400 - the trace would not say what it waited for
            "not all has ended in %g s: the next start continues with what is left", most_s
        )
