"""A bucket in memory with a clock of its own, whose deletions a test may let arrive late."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from obstore.store import MemoryStore


class Bucket:
    """Does what `ObjectStore` asks of a client of S3, with the library's own store in memory."""

    def __init__(self, clock: Callable[[], float] = lambda: 1e9) -> None:
        """`clock` returns the store's time, in seconds since the epoch."""
        self.store = MemoryStore()
        self.clock = clock
        self.calls: list[str] = []
        self.fault: Exception | None = None
        # What is read of an object whose disk has changed it, while it is the same to the store.
        self.rotten: dict[str, bytes] = {}
        # What the next reads give instead of what is stored: damaged on their way.
        self.garbled: list[bytes] = []
        # What was asked to be deleted and is not yet, while deletions are held back.
        self.held: list[str] | None = None
        self._put_at: dict[str, float] = {}

    def put(self, key: str, data: Any, **_: object) -> Any:
        self._note("put")
        self._put_at[key] = self.clock()
        return self.store.put(key, data)

    def get(self, key: str, **options: Any) -> Any:
        self._note("get")
        found = self.store.get(key, **options)
        if self.garbled:
            given = self.garbled.pop(0)
            return SimpleNamespace(meta=found.meta, stream=lambda _: [given])
        if key in self.rotten:
            return SimpleNamespace(meta=found.meta, stream=lambda _: [self.rotten[key]])
        return found

    def head(self, key: str) -> Any:
        self._note("head")
        return self._dated(self.store.head(key))

    def delete(self, keys: str | Sequence[str]) -> None:
        self._note("delete")
        if self.held is not None:
            self.held += [keys] if isinstance(keys, str) else keys
            return
        self.store.delete(keys)

    def let_go(self) -> None:
        """Let the deletions that were held back arrive, and hold back the next ones."""
        if self.held:
            self.store.delete(self.held)
        self.held = []

    def found(self) -> list[str]:
        """Return the names of the objects there."""
        found = [each["path"] for batch in self.store.list() for each in batch]
        return [key for key in found if key != "clock"]

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.fault is not None:
            raise self.fault

    def _dated(self, meta: Any) -> Any:
        at = datetime.fromtimestamp(self._put_at[meta["path"]], UTC)
        return {**meta, "last_modified": at}

    # The last: its name hides the type's.

    def list(self, prefix: str | None = None, chunk_size: int = 50) -> Iterator[Sequence[Any]]:
        self._note("list")
        for batch in self.store.list(prefix, chunk_size=chunk_size):
            yield [self._dated(each) for each in batch]
