"""A file that holds one secret key, made by whoever needs it first."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from bridge.atomicfile import PRIVATE, write_file
from bridge.config.checks import is_there
from bridge.config.sources import ConfigError
from bridge.text import in_quotes


def shared_key(path: Path, size: int, setting: str) -> bytes:
    """Return the key in a file, in hex there; a file that is not there gets a new one.

    Several processes may come at once: all return the same. Raises ConfigError for the setting
    that names the file.
    """
    try:
        if not path.exists():
            # Never over another's, and never seen half written.
            with suppress(FileExistsError):
                new = f"{secrets.token_hex(size)}\n".encode()
                write_file(path, new, mode=PRIVATE, overwrite=False)
        text = path.read_text()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        problem = f"{in_quotes(str(path))}: no key can be read or made there: {why}"
        raise ConfigError(problem, setting) from None
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) < size:
        raise ConfigError(
            f"{in_quotes(str(path))}: expected a file of {size} bytes in hex", setting
        )
    return key


def check_key(path: Path, size: int, setting: str) -> None:
    """Check a key's file, and make none. Raises ConfigError for the setting that names it."""
    if is_there(path.exists):
        shared_key(path, size, setting)
        return
    there = next(each for each in path.absolute().parents if is_there(each.exists))
    if not is_there(there.is_dir):
        raise ConfigError(f"{in_quotes(str(path))}: {there} is a file, not a folder", setting)
