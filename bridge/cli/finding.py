"""What `comfy2mqtt doctor` finds."""

from __future__ import annotations

from msgspec import Struct


class Finding(Struct, frozen=True):
    """One line of the report, and what to do."""

    good: bool
    what: str
    advice: str = ""
