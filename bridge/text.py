"""Texts of others: their encodings, and how they stand in a line of ours. Pure."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress


def clip(text: str, longest: int, mark: str = "...") -> str:
    """Return a text in at most `longest` characters; `mark` ends one that was longer."""
    return text if len(text) <= longest else text[: longest - len(mark)] + mark


def one_line(text: str) -> str:
    """Return a text in one line, its white space as single spaces."""
    return " ".join(text.split())


def as_utf8(data: bytes) -> bytes:
    """Return text as UTF-8 without a byte order mark and trailing NULs.

    UTF-16 is known by its byte order mark, or by the `{` that JSON begins with. Bytes that are no
    text in a known encoding are returned as they are, but for NULs at their end.
    """
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8).rstrip(b"\0")
    for mark, begins, encoding in _UTF_16:
        if data.startswith((mark, begins)):
            with suppress(UnicodeDecodeError):
                text = data.removeprefix(mark).decode(encoding).rstrip("\0")
                if not _CONTROLS.search(text):
                    return text.encode()
    return data.rstrip(b"\0")


_UTF_16 = (
    (codecs.BOM_UTF16_LE, b"{\0", "utf-16-le"),
    (codecs.BOM_UTF16_BE, b"\0{", "utf-16-be"),
)
# No text has these; what was no UTF-16 often does.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")


def printable(text: str) -> str:
    """Return a text that cannot steer a terminal: what is not printable is a space."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def without_folders(text: str) -> str:
    """Return a text in which files of a machine are named without the folders that they lie in.

    Absolute paths, of POSIX and of Windows, of two parts and more; also with spaces, in quotes.
    """
    return _PATH.sub(_last_part, _QUOTED_PATH.sub(_last_part, text))


_FEWEST = 2
_ROOT = r"(?:/|[A-Za-z]:[\\/]|\\\\)"
_QUOTED_PATH = re.compile(rf"(?<=[\"'`]){_ROOT}[^\"'`\n]+(?=[\"'`])")
# A URL is left as it is, and what is within a word or a longer path.
_PATH = re.compile(
    rf"(?<!\w)\w{{1,20}}://\S+|(?<![\w:/\\.~-]){_ROOT}[^\s\"'`/\\]+(?:[/\\][^\s\"'`/\\]*)+"
)


def _last_part(found: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[/\\]", found[0]) if part]
    return found[0] if "://" in found[0] or len(parts) < _FEWEST else f".../{parts[-1]}"
