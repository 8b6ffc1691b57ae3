"""How many requests each client may send in a time: a bucket that fills at its rate. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from bridge.contract.errors import QuotaExceeded
from bridge.doors.rights import setting

# Who was silent for so long may send so many seconds' worth at once.
BURST_S = 10.0
# Where names are free, a flood may use a new one each time: the one longest silent is forgotten.
MAX_CLIENTS = 10_000


class _Bucket(Struct, frozen=True):
    left: float
    at: float


class Rates:
    """All clients' rates, by a clock in seconds."""

    def __init__(self, per_s: Callable[[str], float], clock: Callable[[], float]) -> None:
        """`per_s` tells a client's rate."""
        self._per_s = per_s
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def count(self, client: str) -> None:
        """Count a request. Raises QuotaExceeded, which tells when to come again."""
        rate, now = self._per_s(client), self._clock()
        most = max(1.0, rate * BURST_S)
        before = self._buckets.pop(client, None)
        left = most if before is None else min(most, before.left + (now - before.at) * rate)
        granted = left >= 1.0
        self._buckets[client] = _Bucket(left - granted, now)
        if len(self._buckets) > MAX_CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        if not granted:
            raise QuotaExceeded(
                f"more than {rate:g} requests a second",
                limit=rate,
                setting=setting(client, "requests_per_s"),
                retry_after_s=round((1.0 - left) / rate, 3),
            )
