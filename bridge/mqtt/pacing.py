"""Limits the rate of publishes, which it learns from a broker's refusals. Pure.

Cloud brokers take a number of messages a second, and refuse the others (0x97, quota exceeded). They
do not announce that number, so it is found out: nothing bounds the rate until the first refusal;
each refusal then holds all messages back for a while and lowers the rate; a time without one raises
it again.
"""

from __future__ import annotations

from typing import Final

from bridge.tokenbucket import TokenBucket

# After the first refusal: what the smallest quotas of clouds allow, 100 a second, less a margin.
FIRST_RATE: Final = 80.0
_LOWEST_RATE: Final = 0.2
_LOWER_BY: Final = 0.7
_RAISE_BY: Final = 1.1
_RAISE_AFTER_S: Final = 10.0
_RAISE_AFTER_AT_MOST_S: Final = 600.0
# No quota that is known is above this: as if there were none.
_UNBOUNDED: Final = 2_000.0
_FIRST_HOLD_S: Final = 0.25
_LONGEST_HOLD_S: Final = 15.0
# Bursts are what quotas count: a fifth of a second's messages at most.
_BURST_S: Final = 0.2


class Pacer:
    """The rate of one connection. Times are seconds of one monotonic clock."""

    def __init__(self, most_per_s: float | None = None) -> None:
        """`most_per_s` bounds the rate whatever the broker takes; None: only refusals bound it."""
        self._most = most_per_s
        self._bucket = None if most_per_s is None else TokenBucket.full(most_per_s, _BURST_S, 0.0)
        self._held_until = 0.0
        self._hold_s = _FIRST_HOLD_S
        # Doubled by each refusal: the closer to the quota, the more a raise costs.
        self._raise_after_s = _RAISE_AFTER_S
        self._raise_at = 0.0

    @property
    def rate(self) -> float | None:
        """Messages a second; None: unbounded."""
        return None if self._bucket is None else self._bucket.rate

    def wait_s(self, now: float) -> float:
        """Return for how many seconds no message may leave; 0 if one may, which takes its turn."""
        if now < self._held_until:
            return self._held_until - now
        self._raise(now)
        if self._bucket is None:
            return 0.0
        return 0.0 if self._bucket.try_take(now) else self._bucket.wait_s(now)

    def refused(self, now: float) -> None:
        """Note that the broker refused a message for its quota."""
        if now < self._held_until:
            return  # it left before the hold began: one cause, one consequence
        self._raise_at = now + self._raise_after_s
        self._raise_after_s = min(2 * self._raise_after_s, _RAISE_AFTER_AT_MOST_S)
        self._held_until = now + self._hold_s
        self._hold_s = min(2 * self._hold_s, _LONGEST_HOLD_S)
        rate = FIRST_RATE if self.rate is None else max(_LOWEST_RATE, self.rate * _LOWER_BY)
        self._set(min(rate, self._most or rate), now)

    def accepted(self) -> None:
        """Note that the broker took a message: the next hold is short again."""
        self._hold_s = _FIRST_HOLD_S

    def _raise(self, now: float) -> None:
        bucket = self._bucket
        if bucket is None or bucket.rate == self._most or now < self._raise_at:
            return
        self._raise_at = now + self._raise_after_s
        rate = bucket.rate * _RAISE_BY
        if self._most is None and rate > _UNBOUNDED:
            self._bucket = None
            self._raise_after_s = _RAISE_AFTER_S
        else:
            self._set(min(rate, self._most or rate), now)

    def _set(self, rate: float, now: float) -> None:
        self._bucket = TokenBucket.full(rate, _BURST_S, now)
        self._bucket.tokens = 0.0
