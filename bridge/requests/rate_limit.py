"""The limit of requests that each client may send in a time. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from bridge.contract.errors import QuotaExceeded
from bridge.requests.permissions import setting
from bridge.tokenbucket import TokenBucket

# A client that was silent for so long may send so many seconds' worth at once.
BURST_S = 10.0
# Where names are free, a flood may use a new one each time: the one longest silent is forgotten.
MAX_CLIENTS = 10_000


class Flood(QuotaExceeded):
    """So far above the rate that not even a refusal is worth its answer."""


class _Allowance(Struct, frozen=True):
    """A client's remaining requests, and remaining answers to refused ones."""

    requests: TokenBucket
    refusals: TokenBucket


class RateLimiter:
    """Limits each client's requests, by a clock in seconds."""

    def __init__(self, per_s: Callable[[str], float], clock: Callable[[], float]) -> None:
        """`per_s` returns a client's rate."""
        self._per_s = per_s
        self._clock = clock
        self._clients: OrderedDict[str, _Allowance] = OrderedDict()

    def floods(self, client: str) -> bool:
        """True if a request of this client would be a Flood; it is not counted."""
        allowance = self._clients.get(client)
        if allowance is None:
            return False
        now = self._clock()
        return allowance.requests.wait_s(now) > 0 and allowance.refusals.wait_s(now) > 0

    def count(self, client: str) -> None:
        """Count a request.

        Raises QuotaExceeded, with `retry_after_s`; Flood once that was answered as often as
        requests would have been granted.
        """
        rate, now = self._per_s(client), self._clock()
        allowance = self._clients.pop(client, None) or _Allowance(
            TokenBucket.full(rate, BURST_S, now), TokenBucket.full(rate, BURST_S, now)
        )
        self._clients[client] = allowance
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        if allowance.requests.try_take(now):
            return
        kind = QuotaExceeded if allowance.refusals.try_take(now) else Flood
        raise kind(
            f"more than {rate:g} requests a second",
            limit=rate,
            setting=setting(client, "requests_per_s"),
            retry_after_s=round(allowance.requests.wait_s(now), 3),
        )
