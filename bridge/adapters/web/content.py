"""Content served from memory: the page's files, and the last picture of each display."""

from __future__ import annotations

import gzip
import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

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
# Smaller ones fit in a packet anyway.
_WORTH_COMPRESSING: Final = 1024
# Below it a file's address changes with the page, so that a browser may keep it for ever.
VERSIONED: Final = "v"
_LINKED: Final = re.compile(rb'(?P<before>(?:src|href)=")(?P<name>[\w-]+\.\w+)(?=")')
# The bytes at an offset that identify a picture.
_PICTURES: Final = (
    (0, b"\x89PNG", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
    (0, b"GIF8", "image/gif"),
)


class Page(Struct, frozen=True):
    """A page's files by name, `index.html` also as ""; `version` changes with any of them."""

    files: Mapping[str, Content]
    version: str


def read_page(folder: Path = PAGE) -> Page:
    """Read a folder's files; other kinds are left out.

    `index.html` names the others below `v/<version>/`, and has the browser load all modules at
    once: each names others, which it would find out about one after the other.
    """
    read = {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if path.suffix in _TYPES and path.is_file()
    }
    digest = hashlib.sha256()
    for name, data in read.items():
        digest.update(f"{name} {len(data)} ".encode() + data)
    version = digest.hexdigest()[:12]
    if "index.html" in read:
        read["index.html"] = _linked(read, version)
    files = {name: _content(data, _TYPES[Path(name).suffix]) for name, data in read.items()}
    if "index.html" in files:
        files[""] = files["index.html"]
    return Page(files, version)


def _linked(files: Mapping[str, bytes], version: str) -> bytes:
    """Return `index.html` with the addresses of this version."""
    below = f"{VERSIONED}/{version}/".encode()

    def address(found: re.Match[bytes]) -> bytes:
        known = found["name"].decode() in files
        return found["before"] + (below if known else b"") + found["name"]

    modules = [name.encode() for name in files if name.endswith(".js")]
    links = b"".join(
        b'<link rel="modulepreload" href="%s%s" />' % (below, name) for name in modules
    )
    linked = _LINKED.sub(address, files["index.html"])
    return linked.replace(b"</head>", links + b"</head>", 1)


class DisplayPictures:
    """The last picture of each display, as it is retained at the broker."""

    def __init__(self) -> None:
        self._pictures: dict[str, Content] = {}

    def show(self, name: str, data: bytes, content_type: str | None) -> None:
        """Take a picture; no bytes: the display has none any more."""
        new = _content(data, content_type or _shown_type(data), int(time.time()))
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
    text = content_type.startswith(("text/", "image/svg", "application/"))
    gzipped = gzip.compress(data, mtime=0) if text and len(data) > _WORTH_COMPRESSING else None
    return Content(data, content_type, tag, modified_at, gzipped)


def picture_type(data: bytes) -> str | None:
    """Return the Content Type of a picture by its bytes, None for what else it may be."""
    return next((name for at, mark, name in _PICTURES if data.startswith(mark, at)), None)


def _shown_type(data: bytes) -> str:
    # Only of a display's picture: a text may begin with these letters.
    bitmap = "image/bmp" if data.startswith(b"BM") else "application/octet-stream"
    return picture_type(data) or bitmap
