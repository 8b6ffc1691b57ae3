"""Explains why something could not be reached, in the system's words."""

from __future__ import annotations

import os


def reason_of(error: BaseException) -> str:
    """Return why a request or a connection failed, in the system's words if it has any.

    aiohttp's own texts name host and port, never user or password.
    """
    cause = getattr(error, "os_error", error)
    number = cause.errno if isinstance(cause, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror  # of name resolution, whose numbers are below zero
    return str(error) or type(error).__name__
