"""A token bucket: how often something may happen, with room for bursts. Pure."""

from __future__ import annotations

from msgspec import Struct


class TokenBucket(Struct):
    """Holds up to `burst` tokens, and gains `rate` a second. Times are in seconds, of any clock."""

    rate: float
    burst: float
    tokens: float
    at: float

    @classmethod
    def full(cls, rate: float, burst_s: float, now: float) -> TokenBucket:
        """Return a full one: it holds what comes in `burst_s` seconds, and one token at least."""
        burst = max(1.0, rate * burst_s)
        return cls(rate, burst, burst, now)

    def wait_s(self, now: float, tokens: float = 1.0) -> float:
        """Return the seconds until there are `tokens`; 0 if there are."""
        self._fill(now)
        return max(0.0, (tokens - self.tokens) / self.rate)

    def try_take(self, now: float) -> bool:
        """Take a token if there is one; return whether there was."""
        self._fill(now)
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def take(self, now: float, tokens: float = 1.0) -> float:
        """Take tokens, on credit if there are none; return the seconds until that is paid back."""
        self._fill(now)
        self.tokens -= tokens
        return max(0.0, -self.tokens / self.rate)

    def _fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
