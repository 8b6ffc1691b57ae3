"""How long to wait before the next attempt: longer each time, never in step with others. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(*, first_s: float, cap_s: float, rng: random.Random | None = None) -> Iterator[float]:
    """Give delays in seconds without end: each between half and all of a doubling, capped span."""
    draw = rng or random.Random()  # noqa: S311 - jitter, nothing to guess
    span = first_s
    while True:
        yield draw.uniform(span / 2, span)
        span = min(span * 2, cap_s)
