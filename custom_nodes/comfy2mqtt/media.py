"""Media for the input nodes, held in memory by the SHA-256 of their bytes.

A prompt names its media by hash, so ComfyUI's own cache works by content, and no image ends up
inside a prompt, where history and the metadata of saved files would repeat it. Within a budget
of bytes the least recently used go first; whoever needs them again sends them again.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass

from .errors import MediaNotHeld, MediaTooLarge

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """True if the text is a SHA-256 in lower-case hex: 64 digits."""
    return _SHA256.fullmatch(text) is not None


def split_hashes(text: str) -> list[str]:
    """The hashes in an input's value: one, several with commas between them, or a JSON list.

    What is none of these comes back as it is, for is_sha256 to refuse.
    """
    if text.lstrip().startswith("["):
        try:
            parts = json.loads(text)
        except (ValueError, RecursionError):
            return [text]
        return [str(part) for part in parts]
    return [part.strip() for part in text.split(",")] if text else []


@dataclass(frozen=True, slots=True)
class Media:
    """Encoded bytes and what their sender calls them."""

    data: bytes
    content_type: str


class HeldMedia:
    """Media by hash, least recently used first. Safe to use from any thread."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._size = 0
        self._lock = threading.Lock()
        self._media: dict[str, Media] = {}

    def put(self, sha256: str, media: Media) -> None:
        """Hold `media`, whose bytes the caller has checked against `sha256`.

        Raises MediaTooLarge where it is above the whole budget.
        """
        size = len(media.data)
        if size > self.budget:
            raise MediaTooLarge(size, self.budget)
        with self._lock:
            self._drop(sha256)
            while self._size + size > self.budget:
                self._drop(next(iter(self._media)))
            self._media[sha256] = media
            self._size += size

    def get(self, sha256: str) -> Media:
        """The media with this hash, now the most recently used. Raises MediaNotHeld."""
        with self._lock:
            media = self._touch(sha256)
        if media is None:
            raise MediaNotHeld(sha256)
        return media

    def holds(self, sha256: str) -> bool:
        """True if it is held. Counts as a use: who asks is about to need it."""
        with self._lock:
            return self._touch(sha256) is not None

    def _touch(self, sha256: str) -> Media | None:
        media = self._media.pop(sha256, None)
        if media is not None:
            self._media[sha256] = media
        return media

    def _drop(self, sha256: str) -> None:
        media = self._media.pop(sha256, None)
        if media is not None:
            self._size -= len(media.data)
