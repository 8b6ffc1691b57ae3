"""An output as it leaves: bytes, and what they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """One output's bytes. Width and height in pixels; 0 where there are none."""

    data: bytes
    content_type: str
    width: int = 0
    height: int = 0
