"""The meaning of HTTP headers: origins, forwarded addresses, ranges, entity tags, codings. Pure."""

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


class ClientAddress(Struct, frozen=True):
    """The client's address, and the scheme and host that it used to reach the server."""

    address: str
    scheme: str
    host: str


def client_address(
    *,
    peer: str,
    scheme: str,
    host: str,
    forwarded: Sequence[str | None],
    trusted: Sequence[Network],
) -> ClientAddress:
    """Return a request's client address; `forwarded` are X-Forwarded-For, -Proto and -Host.

    They count only if the peer is a trusted proxy. Of the addresses the last one that is no trusted
    proxy is the client's: anybody can have written those before it.
    """
    if not is_in(peer, trusted):
        return ClientAddress(peer, scheme, host)
    chain, proto, name = forwarded
    address = peer
    for each in reversed([part.strip() for part in (chain or "").split(",") if part.strip()]):
        address = each
        if not is_in(each, trusted):
            break
    return ClientAddress(address, _last(proto) or scheme, _last(name) or host)


def origin_allowed(origin: str | None, client: ClientAddress, allowed: Sequence[str]) -> bool:
    """Return whether a page from `origin` may open a socket. None: the client is no browser."""
    if origin is None or "*" in allowed:
        return True
    given = _origin(origin)
    ours = _origin(f"{client.scheme}://{client.host}")
    return given is not None and (given == ours or given in {_origin(each) for each in allowed})


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a Range header asks for.

    None for all bytes: no header, or one that may be ignored (RFC 9110, 14.2). Raises ValueError
    for a range outside of `size`.
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


def etag_matches(tag: str, if_none_match: str | None) -> bool:
    """Return whether an If-None-Match header names this entity tag; compared weakly."""
    if if_none_match is None:
        return False
    given = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return "*" in given or tag in given


def accepts_gzip(header: str | None) -> bool:
    """Return whether an Accept-Encoding header takes gzip (RFC 9110, 12.5.3)."""
    qualities: dict[str, float] = {}
    for each in (header or "").split(","):
        coding, _, parameter = each.partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            quality = 0.0
        qualities[coding.strip().lower()] = quality
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Return whether an address lies in one of some networks; False for what is no address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)


def _last(header: str | None) -> str | None:
    return header.rpartition(",")[2].strip() or None if header is not None else None


def _origin(origin: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port, None for what is no origin."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.hostname is None or port is None:
        return None
    return parts.scheme, parts.hostname, port
