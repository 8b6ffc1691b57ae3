"""Requests that wait for each other, since nothing distinguishes their answers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

from bridge.adapters.web.requests import Reply


class Turns:
    """One request at a time for each key; the others wait, in their order."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}

    def take(self, key: Hashable, again: Callable[[], None]) -> bool:
        """Return True if nobody has the turn, which is taken; otherwise `again` is called later."""
        if key in self._waiting:
            self._waiting[key].append(again)
            return False
        self._waiting[key] = deque()
        return True

    def until(self, key: Hashable, answered: Callable[[Reply], None]) -> Callable[[Reply], None]:
        """Return an `answered` that ends the turn, too."""

        def both(reply: Reply) -> None:
            answered(reply)
            self._end(key)

        return both

    def _end(self, key: Hashable) -> None:
        waiting = self._waiting.pop(key)
        # One that fails at once has not taken its turn.
        while waiting and key not in self._waiting:
            waiting.popleft()()
        if waiting:
            self._waiting[key].extend(waiting)
