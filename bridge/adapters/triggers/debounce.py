"""Recognises that a trigger fired on a topic a short while ago. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

# Topics of one trigger; with more the one that fired first is forgotten, and may fire again.
MAX_TOPICS = 10_000


class Debounce:
    """The topics on which one trigger fired within the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order in which they end, as all last equally long. A topic may have 64 KB: hashed.
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def is_due(self, topic: str, now: float) -> bool:
        """Return whether the trigger may fire on a topic; if so the time begins again."""
        if not self._seconds:
            return True
        key = hashlib.blake2b(topic.encode(), digest_size=16).digest()
        if now < self._until.get(key, now):
            return False
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        self._until.pop(key, None)
        self._until[key] = now + self._seconds
        if len(self._until) > MAX_TOPICS:
            self._until.popitem(last=False)
        return True
