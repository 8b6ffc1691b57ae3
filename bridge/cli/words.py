"""A job's state in words, for the progress bar, `jobs` and `show`. Pure."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400


def waiting(
    state: str,
    position: int | UnsetType = UNSET,
    reason: str | UnsetType = UNSET,
    eta_s: float | UnsetType = UNSET,
) -> str:
    """Return a state with what is known about why it lasts, and for how long."""
    parts = [state]
    if position is not UNSET and position > 0:
        parts.append(f"{position} before it")
    if reason is not UNSET:
        parts.append(reason)
    if eta_s is not UNSET:
        parts.append(f"done in about {duration(eta_s)}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time in the one unit, or two, that say enough."""
    seconds = max(0.0, seconds)
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        minutes, rest = divmod(round(seconds), _MINUTE_S)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"  # noqa: PLR2004
    if seconds < _DAY_S:
        hours, rest = divmod(round(seconds / _MINUTE_S), _MINUTE_S)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{seconds / _DAY_S:.0f} days"


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
