"""The cost of each verb in processor time, and each client's budget of it. Pure.

A request has the cost of its verb (`COSTS`); longer work is measured: making a picture smaller,
measuring media. A client that has spent more than its share is refused expensive requests, but not
cheap ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from msgspec import Struct

from bridge.contract.errors import Busy, QuotaExceeded
from bridge.contract.requests import VERBS
from bridge.contract.topics import RUN, UPLOAD
from bridge.requests.permissions import setting
from bridge.tokenbucket import TokenBucket

# After this many seconds without use a client may spend its share of them at once: a gallery.
BURST_S = 40.0
# As in the limit of requests: of too many names the one longest silent is forgotten.
MAX_CLIENTS = 10_000
# What may be made at a time, of one client and of all: the others are to ask again.
MAX_WORKS_OF_ONE = 16
MAX_WORKS = 64
# Seconds of the processor for one request, in the bridge, journal and broker connection included.
COSTS: Mapping[str, float] = {
    **dict.fromkeys(VERBS, 0.000_5),
    "submit": 0.001_5,
    RUN: 0.001_5,
    "list": 0.001,
    "workflows": 0.001,
    UPLOAD: 0.001,
}
# ... and for each job that a list has.
LISTED = 0.000_02
# ... and for each byte of its payload, which is received, hashed and decoded.
BYTE = 4e-9
# The verbs that may take much more than their cost; `fetch` does where a picture is made smaller.
_DEAR = frozenset(("submit", RUN, "list", "workflows"))


class _ClientBudget(Struct):
    """A client's budget; `works` is the number of works in progress for it."""

    seconds: TokenBucket
    works: int = 0


class ProcessorTime:
    """Each client's budget of processor time, by a clock in seconds."""

    def __init__(self, per_s: Callable[[str], float], clock: Callable[[], float]) -> None:
        """`per_s` returns a client's share: seconds of one processor in each second."""
        self._per_s = per_s
        self._clock = clock
        self._clients: OrderedDict[str, _ClientBudget] = OrderedDict()
        self._works = 0

    def spend(self, client: str, seconds: float) -> None:
        """Take note of processor time that was spent for a client."""
        self._of(client).seconds.take(self._clock(), seconds)

    def request(self, client: str, verb: str, size: int = 0) -> None:
        """Spend the cost of a verb with `size` bytes. Raises QuotaExceeded for an expensive one."""
        if verb in _DEAR:
            self.check(client)
        self.spend(client, COSTS.get(verb, 0.0) + BYTE * size)

    def check(self, client: str) -> None:
        """Raise QuotaExceeded, with `retry_after_s`, for a client that has spent its share."""
        wait_s = self._of(client).seconds.wait_s(self._clock(), 0.0)
        if wait_s > 0:
            share = self._per_s(client)
            raise QuotaExceeded(
                f"what this client asks for takes more than {share:g} s of processor time a second",
                limit=share,
                setting=setting(client, "processor_per_s"),
                retry_after_s=round(wait_s + 0.001, 3),
            )

    def begin(self, client: str) -> None:
        """Begin a longer work for a client; call `end` after it.

        Raises QuotaExceeded, and Busy if too many are in progress.
        """
        self.check(client)
        spent = self._of(client)
        if spent.works >= MAX_WORKS_OF_ONE or self._works >= MAX_WORKS:
            limit = MAX_WORKS_OF_ONE if spent.works >= MAX_WORKS_OF_ONE else MAX_WORKS
            raise Busy(
                f"{limit} pictures are being made smaller: ask again", retry=True, limit=limit
            )
        spent.works += 1
        self._works += 1

    def end(self, client: str, seconds: float) -> None:
        """End a work that took `seconds`."""
        spent = self._of(client)
        spent.works = max(0, spent.works - 1)
        self._works -= 1
        self.spend(client, seconds)

    def _of(self, client: str) -> _ClientBudget:
        found = self._clients.pop(client, None)
        if found is None:
            found = _ClientBudget(TokenBucket.full(self._per_s(client), BURST_S, self._clock()))
            found.seconds.burst = found.seconds.tokens = self._per_s(client) * BURST_S
        self._clients[client] = found
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return found
