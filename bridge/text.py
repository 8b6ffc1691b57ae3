"""Texts of others in a line of ours. Pure."""

from __future__ import annotations


def clip(text: str, longest: int, mark: str = "...") -> str:
    """Return a text in at most `longest` characters; `mark` ends one that was longer."""
    return text if len(text) <= longest else text[: longest - len(mark)] + mark


def one_line(text: str) -> str:
    """Return a text in one line, its white space as single spaces."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """Return a text that cannot steer a terminal: what is not printable is a space."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
