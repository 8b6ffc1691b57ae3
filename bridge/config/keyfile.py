"""A file that holds one secret key, made by whoever needs it first."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bridge.config.settings import ConfigError


def shared_key(path: Path, size: int) -> bytes:
    """Return the key in a file, in hex there; a file that is not there gets a new one.

    Several processes may come at once: all return the same. Raises ConfigError.
    """
    try:
        if not path.exists():
            _make(path, secrets.token_bytes(size))
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no key can be read or made there: {error}") from None
    if len(key) < size:
        raise ConfigError(f"{path}: expected {size} bytes in hex, found {len(key)}")
    return key


def _make(path: Path, key: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"{key.hex()}\n")
    try:
        # Never over another's, and never seen half written.
        os.link(part, path)
    except FileExistsError:
        pass
    finally:
        part.unlink(missing_ok=True)
