"""The page: the files of a folder as they are, by their names."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Final

from msgspec import Struct

from bridge.adapters.web import answers, web
from bridge.adapters.web.answers import Answer, Headers

FOLDER: Final = Path(__file__).with_name("page")
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
# Nothing from elsewhere, nothing inline; images that were received, or are about to be sent.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class _File(Struct, frozen=True):
    content: bytes
    content_type: str
    tag: str


class Site:
    """Reads the folder once; a file of another kind than these is not served."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, _File] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            content_type = _TYPES.get(path.suffix)
            if content_type is not None and path.is_file():
                content = path.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                self._files[f"/{path.name}"] = _File(content, content_type, tag)
        if "/index.html" in self._files:
            self._files["/"] = self._files["/index.html"]

    def get(self, path: str, if_none_match: str | None) -> Answer | None:
        """Answer a request for a file; None if there is none of that name."""
        found = self._files.get(path)
        if found is None:
            return None
        headers: Headers = (
            ("ETag", found.tag),
            ("Cache-Control", "no-cache"),
            ("Content-Security-Policy", _POLICY),
        )
        if web.has(found.tag, if_none_match):
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        return answers.whole(HTTPStatus.OK, found.content, found.content_type, headers)
