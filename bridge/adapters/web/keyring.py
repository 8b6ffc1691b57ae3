"""Keys: which client a connection may speak for, in a file that is read again when it changes.

A key is `c2m_<id>_<secret>`: 256 random bits, so that a plain SHA-256 of them is as good as the
slow hashes that passwords need. The file holds hashes alone, and is for its owner's eyes.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from bridge.atomicfile import PRIVATE, write_file
from bridge.contract.messages import Id
from bridge.contract.reading import UNREADABLE
from bridge.text import plain_problem

log = logging.getLogger(__name__)

PREFIX: Final = "c2m"
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32
_NOTHING: Final = "0" * 64

KeyId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}\Z")]


class KeyringError(Exception):
    """The file of keys cannot be read, or written; the text is one line for the operator."""


class AccessKey(Struct, frozen=True, kw_only=True):
    """One key as it stands in the file; `made_at` in seconds since the epoch."""

    id: KeyId
    client: Id
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    made_at: int
    name: str = ""


_FILE: Final = msgspec.json.Decoder(list[AccessKey])
# Changes when a file is replaced: device, inode, time in nanoseconds, size.
_Mark = tuple[int, int, int, int]


class Keyring:
    """The keys in a file; without a file there are none.

    `find`, `holds` and `keys` look at what was read last. `refresh`, `add` and `revoke` block on
    the disk, and may be called from any thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reading = threading.Lock()
        self._mark: _Mark | None = None
        self._keys: dict[str, AccessKey] = {}

    @property
    def keys(self) -> list[AccessKey]:
        """All keys, as they were last read."""
        return list(self._keys.values())

    def refresh(self) -> bool:
        """Read the file again if it has changed; True if it had. Raises KeyringError."""
        with self._reading:
            mark = self._read_mark()
            if mark == self._mark:
                return False
            self._keys = {key.id: key for key in self._read()} if mark is not None else {}
            self._mark = mark
            return True

    def find(self, text: str) -> AccessKey | None:
        """Return the key that a text is, None for one that is no key of ours.

        Takes as long for an id that there is as for one that there is not.
        """
        _, _, rest = text.partition("_")
        given, _, secret = rest.partition("_")
        found = self._keys.get(given)
        wanted = _NOTHING if found is None else found.sha256
        same = hmac.compare_digest(_sha256(secret), wanted)
        return found if same and text.startswith(f"{PREFIX}_") else None

    def holds(self, key_id: str) -> bool:
        """Return whether a key is still valid."""
        return key_id in self._keys

    def add(self, client: str, name: str, now: float) -> tuple[AccessKey, str]:
        """Make a key for a client; return it with its text, which is stored nowhere.

        Raises KeyringError.
        """
        key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
        key = AccessKey(
            id=key_id, client=client, sha256=_sha256(secret), made_at=int(now), name=name
        )
        with self._changing():
            self._write([*self.keys, key])
        return key, f"{PREFIX}_{key_id}_{secret}"

    def revoke(self, key_id: str) -> AccessKey | None:
        """Take a key away; None if there is none of that id. Raises KeyringError."""
        with self._changing():
            found = self._keys.get(key_id)
            if found is not None:
                self._write([key for key in self.keys if key.id != key_id])
        return found

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Exclude every other process and thread that changes the file; read it first."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._path.parent):
                self.refresh()
                yield
        except (FileExistsError, NotADirectoryError):
            raise KeyringError(f"{self._path.parent}: it is a file, not a folder") from None
        except OSError as error:
            raise KeyringError(f"{self._path}: {error.strerror}") from None

    def _read_mark(self) -> _Mark | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyringError(f"{self._path}: {error.strerror}") from None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> list[AccessKey]:
        try:
            return _FILE.decode(self._path.read_bytes())
        except OSError as error:
            raise KeyringError(f"{self._path}: {error.strerror}") from None
        except UNREADABLE as error:
            raise KeyringError(
                f"{self._path}: not a file of keys ({plain_problem(str(error))}): restore it from "
                "a backup, or move it away and make new keys with `comfy2mqtt keys add`"
            ) from None

    def _write(self, keys: list[AccessKey]) -> None:
        """Replace the file, whole or not at all. Raises OSError."""
        encoded = msgspec.json.format(msgspec.json.encode(keys), indent=1)
        write_file(self._path, encoded + b"\n", mode=PRIVATE)
        self.refresh()


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder: it needs no file of its own, and ends with the process."""
    if sys.platform == "win32":
        yield  # it has no locks of folders: change keys one at a time
        return
    import fcntl  # noqa: PLC0415 - absent on Windows, where this module is still imported

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems lock no folders
            log.warning("%s cannot be locked (%s): change keys one at a time", folder, error)
        yield
    finally:
        os.close(handle)
