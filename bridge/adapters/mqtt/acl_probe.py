"""Probes whether the broker's ACL confines each client to its own tree.

Only a probe with a client's own credentials can show that it does. Without them the probe can only
show that it does not: the bridge connects without a user name, or an anonymous connection reaches a
client's tree. The probe makes two connections besides the bridge's own: as the bridge, and as the
client. It publishes in the client's tree and in that of a client that does not exist.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from msgspec.structs import replace

from bridge.aio import succeeded
from bridge.contract.retained import Isolation
from bridge.contract.topics import Topics, is_id
from bridge.mqtt import Address, Connection, MqttError, SubscribeRefused, Subscription

log = logging.getLogger(__name__)

# What is let through comes at once; what is not never does.
_PATIENCE_S = 2.0
# A broker that comes and goes is not asked each time.
_PAUSE_S = 60.0


class AclProbe:
    """Probes after each connection. Use `run` as a task."""

    def __init__(
        self,
        bridge: Address,
        client: Address | None,
        topics: Topics,
        found: Callable[[Isolation], None],
    ) -> None:
        """`client` has a client's credentials; `found` is called with each result."""
        self._bridge = bridge
        self._client = client
        self._topics = topics
        self._found = found
        self._connected = asyncio.Event()

    def connected(self) -> None:
        """Note a new connection, perhaps to another broker."""
        self._connected.set()

    async def run(self) -> None:
        """Probe after each `connected`, at most once a minute, until cancelled."""
        while True:
            await self._connected.wait()
            self._connected.clear()
            self._found(await isolation(self._bridge, self._client, self._topics))
            await asyncio.sleep(_PAUSE_S)


async def isolation(bridge: Address, client: Address | None, topics: Topics) -> Isolation:
    """Probe whether the broker separates clients; `client` has a client's credentials.

    Takes up to 2 s if a message does not pass.
    """
    if client is None:
        if bridge.username is None and bridge.cert is None:
            return "none"
        client = replace(bridge, username=None, password=None, cert=None, key=None)
    try:
        async with Connection(bridge) as ours, Connection(client) as theirs:
            return await _IsolationTrial(ours, theirs, topics, client.username).result()
    except MqttError as error:
        log.debug("cannot test whether the broker isolates clients: %s", error)
        return "unknown"


class _IsolationTrial:
    """The topics that a client reaches in its own tree and in another client's."""

    def __init__(
        self, bridge: Connection, client: Connection, topics: Topics, name: str | None
    ) -> None:
        mark = secrets.token_hex(8)
        own = name if name is not None and is_id(name) else None
        # The stranger's first: what is let through of it comes before our own.
        self._names = [f"stranger-{mark}", *([own] if own is not None else [])]
        self._bridge = bridge
        self._client = client
        # No verb: the bridge itself passes over it.
        self._requests = [topics.request(each, "$isolation", mark) for each in self._names]
        self._replies = [f"{topics.reply(each)}isolation-{mark}" for each in self._names]

    async def result(self) -> Isolation:
        await self._bridge.subscribe([Subscription(filter=each) for each in self._requests])
        for each in self._replies:
            try:
                await self._client.subscribe([Subscription(filter=each)])
            except SubscribeRefused:
                continue
        for sender, topics in ((self._client, self._requests), (self._bridge, self._replies)):
            for each in topics:
                # A refusal is as good as silence, and on many brokers looks the same.
                sender.publish(each, b"").add_done_callback(succeeded)
        written, read = await asyncio.gather(
            _received(self._bridge, self._requests), _received(self._client, self._replies)
        )
        if self._requests[0] in written or self._replies[0] in read:
            return "none"
        tried = len(self._names) > 1
        return "enforced" if tried and written and read else "unknown"


async def _received(connection: Connection, topics: list[str]) -> set[str]:
    """Return which messages came, until the last of them did."""
    found: set[str] = set()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while topics[-1] not in found:
                message = await anext(connection.messages)
                connection.ack(message)
                found.add(message.topic)
    except TimeoutError:
        pass
    return found
