"""A bridge's own connection in a cluster of bridges.

The bridge publishes by this connection, whether it takes the cluster's requests or not, in the
order of the calls. The connection that takes requests has the cluster's client id and moves from
bridge to bridge; this one stays, and its last will says that this bridge is offline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bridge.adapters.mqtt.extension import Extension, RefusedFilters, dispatch
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.reconnect import Reconnect
from bridge.adapters.mqtt.retained import OFFLINE, ONLINE, Retained
from bridge.adapters.mqtt.subscriber import GROUP, REPEAT_S, BrokerSettings
from bridge.contract.topics import Topics
from bridge.jobs.database import DatabaseError
from bridge.jobs.group import Group
from bridge.jobs.journal import Journal
from bridge.jobs.journal.membership import HeartbeatResult
from bridge.mqtt import Connection, ConnectionLost, Pacer, Will
from bridge.requests.handler import RequestHandler


class ClusterConnection:
    """Use `run` as a task; `close` ends it without the will."""

    def __init__(
        self,
        settings: BrokerSettings,
        group: Group,
        *,
        topics: Topics,
        handler: RequestHandler,
        journal: Journal,
        publisher: Publisher,
        retained: Retained,
        extensions: Sequence[Extension],
        leading: Sequence[Extension] = (),
    ) -> None:
        """`extensions`: what every bridge of the cluster subscribes to, such as admin commands.

        `leading`: those of the bridge that takes requests, which publishes for them here.
        """
        self._settings = settings
        self._group = group
        self._topic = topics.member(group.name)
        self._handler = handler
        self._journal = journal
        self._publisher = publisher
        self._retained = retained
        self._extensions = extensions
        self._leading = leading
        self._lost_at = journal.clock.now()
        # Set when results are to be published: of bridges that died, and our own.
        self._orphans = asyncio.Event()
        self._unpublished = asyncio.Event()
        # Set when all is to be published again, as what was published meanwhile was not.
        self._was_silent = asyncio.Event()
        self._others: frozenset[str] = frozenset()
        self._connected: Connection | None = None
        self._pacer = Pacer(settings.max_publishes_per_s)
        self._refused_filters = RefusedFilters(topics, publisher)
        self._reconnect = Reconnect(self._use, self._lost)

    async def run(self) -> None:
        """Stay connected until `close`, and a member of the cluster.

        Raises LeaseLost, in an exception group, once another bridge may have taken over.
        """
        async with asyncio.TaskGroup() as tasks:
            serving = [
                tasks.create_task(self._group.run(self._beat)),
                tasks.create_task(self._publish_results(self._orphans, orphans=True)),
                tasks.create_task(self._publish_results(self._unpublished, orphans=False)),
                tasks.create_task(self._speak_again()),
            ]
            await self._reconnect.run()
            for task in serving:
                task.cancel()

    async def hand_over(self) -> None:
        """Leave the cluster's requests to another bridge; if there is none, publish `offline`."""
        had_intake = self._group.has_intake
        if not await self._group.hand_over() and had_intake:
            self._retained.offline()

    def close(self) -> None:
        """Disconnect after what was published, and end `run`."""
        self._publisher.publish(self._topic, OFFLINE, retain=True)
        self._reconnect.close()

    async def _use(self) -> None:
        async with self._connection() as connection:
            self._reconnect.connected()
            self._publisher.attach(connection)
            self._connected = connection
            async with self._reconnect.closable(connection):
                await self._begin(connection)
                async for incoming in connection.messages:
                    await dispatch(self._extensions, incoming, None, self._handler)
                    connection.ack(incoming)

    async def _begin(self, connection: Connection) -> None:
        """Subscribe, then publish what is retained and the results that may be lost."""
        wanted = [each for extension in self._extensions for each in extension.subscriptions]
        await self._refused_filters.subscribe(connection, [], wanted)
        self._publisher.publish(self._topic, ONLINE, retain=True)
        self._retained.publish_all()
        await self._introduce(connection)
        self._publisher.catch_up(await self._journal.unpublished(self._lost_at - REPEAT_S))
        if self._group.has_intake:
            self._orphans.set()  # those that were due without a connection

    async def _introduce(self, connection: Connection) -> None:
        """Publish the retained messages of the cluster, if this bridge has the intake."""
        for extension in self._leading if self._group.has_intake else ():
            await extension.connected(connection)

    async def _speak_again(self) -> None:
        while True:
            await self._was_silent.wait()
            self._was_silent.clear()
            if self._connected is not None:
                try:
                    await self._introduce(self._connected)
                except DatabaseError:
                    self._was_silent.set()
                    await asyncio.sleep(1)

    def _connection(self) -> Connection:
        return Connection(
            self._settings.address,
            client_id=f"{self._settings.client_id}-{self._group.name}",
            will=Will(topic=self._topic, payload=OFFLINE, qos=1, retain=True),
            packet_limit=self._settings.max_packet,
            pacer=self._pacer,
            needs_5=GROUP,
        )

    def _beat(self, beat: HeartbeatResult) -> None:
        """Handle the result of a heartbeat."""
        self._retained.set_members(beat.others)
        gone, self._others = self._others - beat.others, beat.others
        if gone and beat.intake:
            self._orphans.set()
        if self._group.was_silent:
            self._retained.publish_all()
            self._was_silent.set()
        if self._group.was_silent or (self._publisher.connected and self._publisher.behind):
            self._unpublished.set()

    async def _publish_results(self, wanted: asyncio.Event, *, orphans: bool) -> None:
        """Publish unpublished results, ours or of dead bridges, each time `wanted` is set."""
        while True:
            await wanted.wait()
            wanted.clear()
            try:
                found = await self._journal.unpublished(self._journal.clock.now(), orphans=orphans)
            except DatabaseError:
                wanted.set()
                await asyncio.sleep(1)
                continue
            if orphans:
                for each in found:
                    self._publisher.orphaned_result(*each)
            else:
                self._publisher.catch_up(found)

    def _lost(self, loss: ConnectionLost | None) -> None:
        self._connected = None
        self._publisher.detach(loss)
        self._lost_at = self._journal.clock.now()
