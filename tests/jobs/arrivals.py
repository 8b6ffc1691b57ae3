"""The simulated world's requests: what the broker keeps for who takes them, and delivers again.

The journal's functions that recognise a request which comes again are the real ones.
"""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from msgspec import Struct

from bridge.jobs.database import complete
from bridge.jobs.job import Draft
from bridge.jobs.journal import acceptance
from tests.jobs.links import tables

# So many requests are under way at a time, each with a packet id that is used again after it.
PACKETS = 3


class Request(Struct, eq=False):
    """A request without a job id: the delivery alone says which one it is."""

    client: str
    content: str
    packet: int = 0
    given_to: str | None = None
    """The connection that the broker gave it to last."""
    acknowledged: bool = False
    refused: bool = False
    jobs: int = 0


class Session:
    """The session of the intake at the broker: it outlives every connection."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._waiting: deque[Request] = deque()
        self._under_way: list[Request] = []

    def publish(self, client: str) -> None:
        request = Request(client, f"request {len(self.requests)}")
        self.requests.append(request)
        self._waiting.append(request)

    def deliver(self, connection: str) -> tuple[Request, bool] | None:
        """Give a connection its next request, and whether it came before; None if it has all."""
        for request in self._under_way:
            if request.given_to != connection:
                request.given_to = connection
                return request, True
        if not self._waiting or len(self._under_way) == PACKETS:
            return None
        request = self._waiting.popleft()
        taken = {each.packet for each in self._under_way}
        request.packet = next(number for number in range(1, PACKETS + 1) if number not in taken)
        request.given_to = connection
        self._under_way.append(request)
        return request, False

    def acknowledge(self, connection: str, request: Request) -> None:
        """Take a PUBACK; one by a connection that is gone never came."""
        if request.given_to == connection and request in self._under_way:
            self._under_way.remove(request)
            request.acknowledged = True

    @property
    def is_empty(self) -> bool:
        return not (self._waiting or self._under_way)


class Arrivals:
    """The journal's table of what was accepted, and by which delivery."""

    def __init__(self) -> None:
        self._db = cast("Any", tables(self))

    def knows(self, draft: Draft) -> bool:
        return complete(acceptance.find_existing(self._db, draft)) is not None

    def write(self, draft: Draft, n: int) -> None:
        acceptance.insert(self._db, acceptance.Encoded(draft, 0.0), n)()
