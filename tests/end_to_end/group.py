"""Groups of bridges on one journal, for the tests of what they do together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.peer import Message, Peer

BRIDGE = "comfy2mqtt/bridge"
# Long enough for a machine that is busy with other tests.
LEASE_S = 2
WORKFLOWS = {"slow": graphs.slow(0.6), "colour": graphs.colour(), "echo": graphs.echo()}

Start = Callable[..., Coroutine[Any, Any, BridgeProcess]]


def is_usable(message: Message) -> bool:
    return bool(message.payload) and message.json["state"] in ("ready", "busy")


async def member(watcher: Peer, name: str, state: bytes) -> Message:
    return await watcher.next(f"{BRIDGE}/member/{name}", lambda m: m.payload == state)
