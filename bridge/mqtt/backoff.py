"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """Delays that double up to a cap, each drawn from the upper half of its bound.

    The jitter keeps the many clients of a restarted broker from coming back all at once; the
    lower half is left out so that no attempt follows the last one at once.
    """

    def __init__(
        self,
        first: float = 0.5,
        cap: float = 30.0,
        *,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Start at `first` seconds, never wait longer than `cap`; `draw(low, high)` picks."""
        self._first = first
        self._cap = cap
        self._draw = draw
        self._bound = first

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        bound = min(self._bound, self._cap)
        self._bound = bound * 2
        return self._draw(bound / 2, bound)

    def reset(self) -> None:
        """Begin anew: call it once a connection has proved to be good."""
        self._bound = self._first
