"""The releases of a ComfyUI that the bridge manages, as its state has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST = 255


@dataclass(frozen=True)
class Release:
    """The release that runs, and the newest; `error` is what went wrong last."""

    installed: str
    latest: str | None = None
    url: str | None = None
    error: str | None = None
    is_installing: bool = False


def read_release(state: Mapping[str, Any]) -> Release | None:
    """Return the releases in a ComfyUI's state; None if the bridge checks for none."""
    found = state.get("release")
    if not isinstance(found, dict) or "installed" not in found:
        return None
    error = _text(found.get("error"))
    return Release(
        installed=str(found["installed"]),
        latest=_text(found.get("latest")),
        url=_text(found.get("url")),
        error=None if error is None else error[:_LONGEST],
        is_installing="step" in found,
    )


def _text(found: Any) -> str | None:
    return None if found is None else str(found)
