"""A file that holds one secret key, made by whoever needs it first."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from bridge.atomicfile import PRIVATE, write_file
from bridge.config.settings import ConfigError


def shared_key(path: Path, size: int) -> bytes:
    """Return the key in a file, in hex there; a file that is not there gets a new one.

    Several processes may come at once: all return the same. Raises ConfigError.
    """
    try:
        if not path.exists():
            # Never over another's, and never seen half written.
            with suppress(FileExistsError):
                new = f"{secrets.token_hex(size)}\n".encode()
                write_file(path, new, mode=PRIVATE, overwrite=False)
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no key can be read or made there: {error}") from None
    if len(key) < size:
        raise ConfigError(f"{path}: expected {size} bytes in hex, found {len(key)}")
    return key
