"""How many requests each client may send in a time: a bucket that fills at its rate. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from bridge.contract.errors import QuotaExceeded
from bridge.requests.permissions import setting

# Who was silent for so long may send so many seconds' worth at once.
BURST_S = 10.0
# Where names are free, a flood may use a new one each time: the one longest silent is forgotten.
MAX_CLIENTS = 10_000


class Flood(QuotaExceeded):
    """So far above the rate that not even a refusal is worth its answer."""


class _Bucket(Struct, frozen=True):
    """What is left of requests, and of refusals that are answered."""

    requests: float
    refusals: float
    at: float

    def filled(self, now: float, rate: float, most: float) -> _Bucket:
        more = (now - self.at) * rate
        return _Bucket(min(most, self.requests + more), min(most, self.refusals + more), now)


class Rates:
    """All clients' rates, by a clock in seconds."""

    def __init__(self, per_s: Callable[[str], float], clock: Callable[[], float]) -> None:
        """`per_s` tells a client's rate."""
        self._per_s = per_s
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def floods(self, client: str) -> bool:
        """Whether a request of this client would be a Flood; it is not counted."""
        bucket = self._buckets.get(client)
        if bucket is None:
            return False
        rate = self._per_s(client)
        now = bucket.filled(self._clock(), rate, max(1.0, rate * BURST_S))
        return now.requests < 1.0 and now.refusals < 1.0

    def count(self, client: str) -> None:
        """Count a request.

        Raises QuotaExceeded, which tells when to come again; Flood once that was told as often as
        requests would have been granted.
        """
        rate, now = self._per_s(client), self._clock()
        most = max(1.0, rate * BURST_S)
        bucket = self._buckets.pop(client, _Bucket(most, most, now)).filled(now, rate, most)
        granted, told = bucket.requests >= 1.0, bucket.refusals >= 1.0
        self._buckets[client] = _Bucket(
            bucket.requests - granted, bucket.refusals - (told and not granted), now
        )
        if len(self._buckets) > MAX_CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        if not granted:
            kind = QuotaExceeded if told else Flood
            raise kind(
                f"more than {rate:g} requests a second",
                limit=rate,
                setting=setting(client, "requests_per_s"),
                retry_after_s=round((1.0 - bucket.requests) / rate, 3),
            )
