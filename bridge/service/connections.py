"""Makes a bridge's connections to the broker, and ends them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bridge.adapters.mqtt.cluster_connection import ClusterConnection
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.last_values import LastValues
from bridge.adapters.mqtt.retained import Retained
from bridge.adapters.mqtt.subscriber import BrokerSettings, Subscriber
from bridge.mqtt import Connection
from bridge.requests.handler import RequestHandler
from bridge.service.shared import SharedParts


class BrokerConnections:
    """One connection for requests and for everything that is published.

    In a group the bridges share that session, so that one of them takes the requests; each has a
    second connection of its own, by which it publishes and receives what is for every bridge.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        shared: SharedParts,
        *,
        handler: RequestHandler,
        retained: Retained,
        last_values: LastValues,
        connected: Callable[[Connection], None],
        leading: Sequence[Extension],
        everywhere: Sequence[Extension],
    ) -> None:
        """`connected` is called with each new connection for requests, before anything else.

        The extensions `leading` belong to the connection for requests, `everywhere` to the one
        that each bridge has.
        """
        topics, journal, publisher = shared.topics, shared.journal, shared.publisher
        group = shared.group.group
        self._subscriber = Subscriber(
            settings,
            topics=topics,
            handler=handler,
            journal=journal,
            publisher=publisher,
            retained=retained,
            last_values=last_values,
            connected=connected,
            extensions=[*leading, *everywhere] if group is None else leading,
            group=group,
        )
        self._own: ClusterConnection | None = None
        if group is not None:
            self._own = ClusterConnection(
                settings,
                group,
                topics=topics,
                handler=handler,
                journal=journal,
                publisher=publisher,
                retained=retained,
                extensions=everywhere,
                leading=leading,
            )
        self._subscribing: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None

    def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Connect, and stay connected, by tasks of this group; returns the tasks."""
        started = []
        if self._own is not None:
            self._publishing = tasks.create_task(self._own.run())
            started.append(self._publishing)
        self._subscribing = tasks.create_task(self._subscriber.run())
        return [*started, self._subscribing]

    async def drain(self) -> None:
        """Accept no more requests; what the running jobs publish is still sent."""
        if self._own is None:
            self._subscriber.drain()
        else:
            await self._end_requests()
            await self._own.hand_over()

    async def close(self) -> None:
        """Send what is left, and disconnect. Returns when the tasks have ended."""
        await self._end_requests()
        if self._own is not None and self._publishing is not None:
            self._own.close()
            await self._publishing

    async def _end_requests(self) -> None:
        self._subscriber.close()
        if self._subscribing is not None:
            await asyncio.wait((self._subscribing,))
