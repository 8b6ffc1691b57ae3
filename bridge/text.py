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
