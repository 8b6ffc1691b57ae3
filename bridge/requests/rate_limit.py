"""Limits the rate of requests of each client, and of all new clients together. Pure.

On a broker where names are free, a flood may have a new name in each message, and each of them
would be within its rate. So clients that the bridge does not know yet share a rate, and a name that
asked once does not displace one that asked again: there is a table for each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from msgspec import Struct

from bridge.contract.errors import QuotaExceeded
from bridge.requests.permissions import setting
from bridge.tokenbucket import TokenBucket

# After this many seconds of silence a client may send the requests of as many seconds at once.
BURST_S = 10.0
# In each table; of more the one longest silent is forgotten.
MAX_CLIENTS = 10_000
# New clients, of all names together, and how many of those above are answered with a refusal.
NEW_PER_S = 200.0
_REFUSED_NEW_PER_S = 20.0
_NEW_BURST_S = 1.0


class RequestDropped(QuotaExceeded):
    """A request so far above the rate that it gets no answer, not even a refusal."""


class _Allowance(Struct, frozen=True):
    """A client's remaining requests, and remaining answers to refused ones."""

    requests: TokenBucket
    refusals: TokenBucket

    def is_spent(self, now: float) -> bool:
        """True if a request would get no answer."""
        return self.requests.wait_s(now) > 0 and self.refusals.wait_s(now) > 0

    def refusal(
        self, text: str, now: float, setting: str, limit: float, least_s: float = 0.0
    ) -> QuotaExceeded:
        """Return the error for a request above the rate: RequestDropped if no refusal is left."""
        kind = QuotaExceeded if self.refusals.try_take(now) else RequestDropped
        wait_s = max(least_s, self.requests.wait_s(now))
        return kind(text, limit=limit, setting=setting, retry_after_s=round(wait_s, 3))


class RateLimiter:
    """Limits each client's requests, by a clock in seconds."""

    def __init__(
        self,
        per_s: Callable[[str], float],
        clock: Callable[[], float],
        *,
        new_per_s: float = NEW_PER_S,
        listed: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`per_s` returns a client's rate; `listed`: the operator named it, so it is never new.

        `new_per_s` is how many new clients are accepted in a second.
        """
        self._per_s = per_s
        self._clock = clock
        self._listed = listed
        self._new_per_s = new_per_s
        self._known: OrderedDict[str, _Allowance] = OrderedDict()
        self._asked_once: OrderedDict[str, _Allowance] = OrderedDict()
        now = clock()
        self._new = _Allowance(
            TokenBucket.full(new_per_s, _NEW_BURST_S, now),
            TokenBucket.full(_REFUSED_NEW_PER_S, _NEW_BURST_S, now),
        )

    def know(self, clients: Iterable[str]) -> None:
        """Take note of clients that are not new, such as those that the journal has."""
        for client in clients:
            if client not in self._known:
                _keep(self._known, client, self._full(client))

    def knows(self, client: str) -> bool:
        """True if a client is not new."""
        return client in self._known or client in self._asked_once or self._listed(client)

    def would_drop(self, client: str) -> bool:
        """True if a request of this client would get no answer; it is not counted."""
        allowance = self._known.get(client) or self._asked_once.get(client)
        if allowance is None:
            if self._listed(client):
                return False
            allowance = self._new
        return allowance.is_spent(self._clock())

    def count(self, client: str) -> None:
        """Count a request.

        Raises QuotaExceeded, with `retry_after_s`; RequestDropped when as many refusals
        were answered as requests would have been allowed.
        """
        now = self._clock()
        if self.knows(client):
            table = self._known
            known = table.pop(client, None) or self._asked_once.pop(client, None)
            allowance = known or self._full(client)
        else:
            if not self._new.requests.try_take(now):
                rate = self._new_per_s
                text = f"more than {rate:g} clients a second that are new here"
                # All of them would be back at once.
                raise self._new.refusal(text, now, "new_clients_per_s", rate, _NEW_BURST_S)
            table, allowance = self._asked_once, self._full(client)
        _keep(table, client, allowance)
        if not allowance.requests.try_take(now):
            rate = self._per_s(client)
            text = f"more than {rate:g} requests a second"
            raise allowance.refusal(text, now, setting(client, "requests_per_s"), rate)

    def _full(self, client: str) -> _Allowance:
        rate, now = self._per_s(client), self._clock()
        return _Allowance(
            TokenBucket.full(rate, BURST_S, now), TokenBucket.full(rate, BURST_S, now)
        )


def _keep(table: OrderedDict[str, _Allowance], client: str, allowance: _Allowance) -> None:
    table[client] = allowance
    if len(table) > MAX_CLIENTS:
        table.popitem(last=False)
