"""Groups of bridges on one journal, for the tests of what they do together."""

from __future__ import annotations

from collections import Counter
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


class Commands:
    """Gives an operator's commands to a group, and counts their answers."""

    def __init__(self, watcher: Peer) -> None:
        """`watcher` is subscribed to `bridge/#`."""
        self._watcher = watcher
        self._given: Counter[str] = Counter()

    async def give(self, verb: str, payload: Any = b"") -> Any:
        """Send a command; returns its answer."""
        self._given[verb] += 1
        self._watcher.publish(f"{BRIDGE}/request/{verb}", payload)
        return (await self._watcher.next(f"{BRIDGE}/response/{verb}")).json

    async def done(self, verb: str, payload: Any = b"") -> Any:
        """Send a command that succeeds; returns its answer's data."""
        answer = await self.give(verb, payload)
        assert answer["status"] == "ok", answer
        return answer["data"]

    async def refused(self, verb: str, payload: Any = b"") -> Any:
        """Send a command that is refused; returns the error."""
        answer = await self.give(verb, payload)
        assert answer["status"] == "error", answer
        return answer["error"]

    def assert_one_answer_each(self) -> None:
        """Check how many answers came, once the bridges have ended and can give no more."""
        came = Counter(
            {verb: len(self._watcher.all(f"{BRIDGE}/response/{verb}")) for verb in self._given}
        )
        assert came == self._given


async def member(watcher: Peer, name: str, state: bytes) -> Message:
    return await watcher.next(f"{BRIDGE}/member/{name}", lambda m: m.payload == state)
