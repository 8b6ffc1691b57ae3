"""What HTTP's headers mean: origins, forwarded addresses, ranges, entity tags. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

_RANGE: Final = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
_PORTS: Final = {"http": 80, "https": 443}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Came(Struct, frozen=True):
    """Where a request came from, and what its sender calls us."""

    address: str
    scheme: str
    host: str


def came(
    *,
    peer: str,
    scheme: str,
    host: str,
    forwarded: Sequence[str | None],
    trusted: Sequence[Network],
) -> Came:
    """Tell where a request came from; `forwarded` are X-Forwarded-For, -Proto and -Host.

    They are believed from trusted proxies only, and of the addresses the last one that is none
    of those: whatever stands before it, anybody can have written.
    """
    if not _is_trusted(peer, trusted):
        return Came(peer, scheme, host)
    chain, proto, name = forwarded
    address = peer
    for each in reversed([part.strip() for part in (chain or "").split(",") if part.strip()]):
        address = each
        if not _is_trusted(each, trusted):
            break
    return Came(address, _last(proto) or scheme, _last(name) or host)


def may_open(origin: str | None, here: Came, allowed: Sequence[str]) -> bool:
    """Whether a page from `origin` may open the socket; who names none is no browser."""
    if origin is None or "*" in allowed:
        return True
    given = _place(origin)
    ours = _place(f"{here.scheme}://{here.host}")
    return given is not None and (given == ours or given in {_place(each) for each in allowed})


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a Range header asks for.

    None for all: no header, or one that need not be understood (RFC 9110, 14.2). Raises ValueError
    for a range that lies outside.
    """
    found = _RANGE.fullmatch(header.strip()) if header is not None else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise ValueError("the range lies outside")
    return start, end


def has(tag: str, header: str | None) -> bool:
    """Whether a client has what bears this entity tag (If-None-Match)."""
    if header is None:
        return False
    given = [each.strip().removeprefix("W/") for each in header.split(",")]
    return "*" in given or tag in given


def _last(header: str | None) -> str | None:
    return header.rpartition(",")[2].strip() or None if header is not None else None


def _place(origin: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port, None for what is no origin."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.hostname is None or port is None:
        return None
    return parts.scheme, parts.hostname, port


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in trusted)
