"""The certificate of the page, which is read again when its files change."""

from __future__ import annotations

import ssl
from pathlib import Path


class Certificate:
    """The TLS of a server, with its certificate as it is in the files."""

    def __init__(self, certificate: Path, key: Path | None = None) -> None:
        """`key` is the key's file, None: it is in that of the certificate. Raises OSError."""
        self._files = (certificate, certificate if key is None else key)
        self._marks = self._read_marks()
        self._newest = self.context = self._load()
        """For the server, which keeps it: handshakes get the newest certificate."""
        self.context.sni_callback = self._use_newest

    def refresh(self) -> bool:
        """Read the files again if one has changed; True if one had. Call it in a thread.

        Raises OSError, also for a certificate and a key that do not belong together, as while they
        are replaced: the former certificate stays.
        """
        marks = self._read_marks()
        if marks == self._marks:
            return False
        self._newest = self._load()
        self._marks = marks
        return True

    def _use_newest(self, handshake: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        handshake.context = self._newest

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self._files)
        return context

    def _read_marks(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in self._files]
        return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]
