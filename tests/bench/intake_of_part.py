"""A bridge of a group that takes the requests of some clients: `python -m` this `P OF serve`.

Each such bridge has a session of its own, which receives every request, and acknowledges without
another look those of clients that are not in its part. There is no handing over, and no more:
such a bridge keeps no promise, and is for the bench alone, to see what several intakes would give.
"""

from __future__ import annotations

import runpy
import sys
import zlib
from collections.abc import AsyncIterator

from msgspec.structs import replace

from bridge.adapters.mqtt.subscriber import Subscriber
from bridge.jobs.group import Group
from bridge.mqtt import Connection, Incoming
from tests.support.bridge import BridgeProcess


class IntakeOfPart(BridgeProcess):
    """A bridge as any other, which takes one of several parts of the clients."""

    part: int
    of: int

    @property
    def command(self) -> tuple[str, ...]:
        """The command line's choices."""
        module = "tests.bench.intake_of_part"
        return (sys.executable, "-m", module, str(self.part), str(self.of), "serve")


def intake(part: int, of: int) -> type[IntakeOfPart]:
    """Return the kind of bridge that takes a part."""
    return type("Intake", (IntakeOfPart,), {"part": part, "of": of})


def part_of(client: str, of: int) -> int:
    """Return which part a client is in."""
    return zlib.crc32(client.encode()) % of


def _take(part: int, of: int) -> None:
    """Let every bridge of this process take a part."""
    connect, messages = Subscriber._connection, Subscriber._without_dropped

    def connection(self: Subscriber) -> Connection:
        client_id = self._settings.client_id
        self._settings = replace(self._settings, client_id=f"{client_id}-part-{part}")
        try:
            return connect(self)
        finally:
            self._settings = replace(self._settings, client_id=client_id)

    async def mine(self: Subscriber, connection: Connection) -> AsyncIterator[Incoming]:
        async for incoming in messages(self, connection):
            client = self._topics.client_of(incoming.topic)
            if client is None or part_of(client[0], of) == part:
                yield incoming
            else:
                connection.ack(incoming)

    async def wait_for_intake(_group: Group) -> None:
        """Wait for nobody."""

    async def confirm_intake(_group: Group) -> bool:
        return True

    Subscriber._connection = connection  # type: ignore[method-assign]
    Subscriber._without_dropped = mine  # type: ignore[method-assign]
    Group.wait_for_intake = wait_for_intake  # type: ignore[method-assign,assignment]
    Group.confirm_intake = confirm_intake  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    _take(int(sys.argv.pop(1)), int(sys.argv.pop(1)))
    runpy.run_module("bridge", run_name="__main__", alter_sys=True)
