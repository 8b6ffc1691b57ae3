"""The uploads that were begun and not finished: how many each client has, and how large.

The files in the folder decide; this is an index of them, so that a request need not read them all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class UnfinishedUploads:
    """Sizes in bytes by client and upload. Safe to use from several threads."""

    def __init__(self, found: Iterable[tuple[str, str, int]] = ()) -> None:
        """`found` are the uploads in the folder: client, upload and announced size."""
        self._lock = threading.Lock()
        self._sizes: dict[str, dict[str, int]] = {}
        self._sums: dict[str, int] = {}
        self._count = 0
        for client, upload, size in found:
            self.add(client, upload, size)

    def __len__(self) -> int:
        return self._count

    def add(self, client: str, upload: str, size: int) -> None:
        """Note an upload that begins, or begins again."""
        self.remove(client, upload)
        with self._lock:
            self._sizes.setdefault(client, {})[upload] = size
            self._sums[client] = self._sums.get(client, 0) + size
            self._count += 1

    def remove(self, client: str, upload: str) -> None:
        """Note that an upload is finished or gone; no effect for an unknown one."""
        with self._lock:
            uploads = self._sizes.get(client)
            size = None if uploads is None else uploads.pop(upload, None)
            if uploads is None or size is None:
                return
            self._sums[client] -= size
            self._count -= 1
            if not uploads:
                del self._sizes[client], self._sums[client]

    def total_without(self, client: str, but: str | None) -> tuple[int, int]:
        """Return the number of a client's uploads without `but`, and the sum of their bytes."""
        with self._lock:
            uploads = self._sizes.get(client)
            if uploads is None:
                return 0, 0
            own = None if but is None else uploads.get(but)
            return len(uploads) - (own is not None), self._sums[client] - (own or 0)
