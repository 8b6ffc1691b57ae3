"""Content served from memory: the page's files, and the last picture of each display."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bridge.adapters.web.responses import Content

PAGE: Final = Path(__file__).with_name("page")
# All pictures together take so much; that of the display longest unchanged goes first.
MAX_PICTURES: Final = 64 * 1024 * 1024
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
    ".webmanifest": "application/manifest+json",
}
_MAGIC: Final = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"BM", "image/bmp"))


def read_page(folder: Path = PAGE) -> Mapping[str, Content]:
    """Return a folder's files by name, `index.html` also as ""; other kinds are left out."""
    files = {
        path.name: _content(path.read_bytes(), _TYPES[path.suffix])
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix in _TYPES and path.is_file()
    }
    if "index.html" in files:
        files[""] = files["index.html"]
    return files


class DisplayPictures:
    """The last picture of each display, as it is retained at the broker."""

    def __init__(self) -> None:
        self._pictures: dict[str, Content] = {}

    def show(self, name: str, data: bytes, content_type: str | None) -> None:
        """Take a picture; no bytes: the display has none any more."""
        new = _content(data, content_type or _sniff(data), int(time.time()))
        before = self._pictures.get(name)
        if before is not None and before.tag == new.tag:
            return  # retained, and received again
        self._pictures.pop(name, None)
        if data:
            self._pictures[name] = new
        while sum(len(each.data) for each in self._pictures.values()) > MAX_PICTURES:
            del self._pictures[next(iter(self._pictures))]

    def get(self, name: str) -> Content | None:
        """Return a display's picture, None if it shows nothing."""
        return self._pictures.get(name)


def _content(data: bytes, content_type: str, modified_at: int | None = None) -> Content:
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return Content(data, content_type, tag, modified_at)


def _sniff(data: bytes) -> str:
    found = (media for magic, media in _MAGIC if data.startswith(magic))
    return next(found, "application/octet-stream")
