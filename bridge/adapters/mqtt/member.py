"""A bridge's own connection in a group of bridges.

What it has to say goes by this one, whether it takes the group's requests or not, and in the order
in which it was said. The connection that takes requests has the group's client id and goes from
bridge to bridge; this one stays, and its last will tells that this bridge is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bridge.adapters.mqtt.door import REPEAT_S, Settings
from bridge.adapters.mqtt.keeper import Keeper
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained import OFFLINE, ONLINE, Retained
from bridge.adapters.mqtt.side import Side, give
from bridge.contract.topics import Topics
from bridge.jobs.database import DatabaseError
from bridge.jobs.group import Group
from bridge.jobs.journal import Journal
from bridge.jobs.membership import Beat
from bridge.mqtt import Connection, ConnectionLost, Will


class Member:
    """Use `run` as a task; `close` ends it without the will."""

    def __init__(
        self,
        settings: Settings,
        group: Group,
        *,
        topics: Topics,
        journal: Journal,
        publisher: Publisher,
        retained: Retained,
        sides: Sequence[Side],
    ) -> None:
        """`sides` are what every bridge of the group hears: orders."""
        self._settings = settings
        self._group = group
        self._topic = topics.member(group.name)
        self._journal = journal
        self._publisher = publisher
        self._retained = retained
        self._sides = sides
        self._lost_at = time.time()
        self._orphans = asyncio.Event()
        self._unsaid = asyncio.Event()
        self._others: frozenset[str] = frozenset()
        self._keeper = Keeper(self._use, self._lost)
        group.on_beat(self._beaten)

    async def run(self) -> None:
        """Stay connected until `close`, and a member of the group. Raises Fenced."""
        async with asyncio.TaskGroup() as tasks:
            serving = [
                tasks.create_task(self._group.run()),
                tasks.create_task(self._repeat(self._orphans, orphans=True)),
                tasks.create_task(self._repeat(self._unsaid, orphans=False)),
            ]
            await self._keeper.run()
            for task in serving:
                task.cancel()

    async def hand_over(self) -> None:
        """Leave the group's requests to another bridge; if there is none, say so."""
        had_intake = self._group.has_intake
        if not await self._group.hand_over() and had_intake:
            self._retained.offline()

    def close(self) -> None:
        """Say goodbye after what was published, and end `run`."""
        self._publisher.publish(self._topic, OFFLINE, retain=True)
        self._keeper.close()

    async def _use(self) -> None:
        async with self._connection() as connection:
            self._keeper.connected()
            self._publisher.attach(connection)
            wanted = [each for side in self._sides for each in side.subscriptions]
            if wanted:
                await connection.subscribe(wanted)
            self._publisher.publish(self._topic, ONLINE, retain=True)
            self._retained.publish_all()
            for each in await self._journal.unpublished(self._lost_at - REPEAT_S):
                self._publisher.result(each.key, each.envelope, each.result)
            closing = asyncio.create_task(self._disconnect(connection))
            try:
                async for incoming in connection.messages:
                    for side in self._sides:
                        await give(side, incoming, None)
                    connection.ack(incoming)
            finally:
                closing.cancel()

    def _connection(self) -> Connection:
        return Connection(
            self._settings.address,
            client_id=f"{self._settings.client_id}-{self._group.name}",
            will=Will(topic=self._topic, payload=OFFLINE, qos=1, retain=True),
            packet_limit=self._settings.max_packet,
        )

    def _beaten(self, beat: Beat) -> None:
        self._retained.know(beat.others)
        gone, self._others = self._others - beat.others, beat.others
        if gone and beat.intake:
            self._orphans.set()
        if self._group.was_silent:
            self._retained.publish_all()
            self._unsaid.set()

    async def _repeat(self, wanted: asyncio.Event, *, orphans: bool) -> None:
        """Publish, whenever it is wanted, what was not: by us, or by bridges that died."""
        while True:
            await wanted.wait()
            wanted.clear()
            try:
                for each in await self._journal.unpublished(time.time(), orphans=orphans):
                    self._publisher.result(each.key, each.envelope, each.result)
            except DatabaseError:
                wanted.set()
                await asyncio.sleep(1)

    async def _disconnect(self, connection: Connection) -> None:
        await self._keeper.closing()
        await connection.disconnect()

    def _lost(self, loss: ConnectionLost | None) -> None:
        self._publisher.detach(loss)
        self._lost_at = time.time()
