"""Downloads of what a request names by URL, which never reach the operator's own networks.

Only http and https; only public addresses that are not of this machine's own networks, unless the
operator allows a host by name: an address of a kind that is not known to be public is refused. The
address that was checked is the one that is connected to, at every redirect too, so that a name
which says something else the second time gains nothing. Time and bytes are bounded, and so are the
attempts at a server that fails for the moment.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
import ifaddr
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from bridge.contract.errors import BridgeError, DependencyFailed, Forbidden, TooLarge
from bridge.retry import Backoff, retry
from bridge.text import problem_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 6052: where a network has IPv6 alone, names of IPv4 hosts resolve to these.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# All that IANA has given out for hosts in the internet. `is_global` says yes to more: to the old
# site-local addresses (fec0::/10), and to whatever kind comes next.
_UNICAST = ipaddress.IPv6Network("2000::/3")
# Within it, and no hosts' of the internet whatever a Python's tables say: protocols' own, such as
# Teredo, which tunnels to an IPv4 host behind somebody's firewall; and two for documents.
_NOT_HOSTS = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))


def parsed(text: str) -> Address | None:
    """Return the address that a text is, without an IPv6 zone; None for any other text."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def is_outside(address: Address, own: Iterable[Network]) -> bool:
    """True for one public machine's address, in none of the networks that are our `own`.

    An IPv6 address that stands for an IPv4 one is as that is, and must not be ours itself.
    """
    meant = _stands_for(address)
    if any(each in network for network in own for each in (address, meant)):
        return False
    if isinstance(meant, ipaddress.IPv6Address) and (
        meant not in _UNICAST or any(meant in network for network in _NOT_HOSTS)
    ):
        return False
    return meant.is_global and not meant.is_multicast and not meant.is_reserved


def own_networks() -> Collection[Network]:
    """Return the networks of this machine's interfaces, its own addresses among them, as of now.

    A machine does not know the address that a router or a cloud gives it outside.
    """
    found: set[Network] = set()
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            with suppress(ValueError):
                found.add(ipaddress.ip_network(text))
                # A prefix of nothing would be all addresses.
                if each.network_prefix:
                    found.add(ipaddress.ip_network((text, each.network_prefix), strict=False))
    return found


def _stands_for(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


MAX_REDIRECTS = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.3, 2.0
MAX_ATTEMPTS = 3
# Answers below 500 by which a server asks to be asked again.
_PASSING = (408, 425, 429)
_STEP = 64 * 1024


class AllowedHosts(Struct, frozen=True):
    """The hosts that a request may go to besides public ones, and the setting that allows more."""

    hosts: Sequence[str]
    setting: str = "url_hosts"


class DownloadRules(AllowedHosts, frozen=True, kw_only=True):
    """The same, with the bounds of a download: bytes, and seconds for all of one URL."""

    max_bytes: int
    timeout_s: float


async def download(url: str, rules: DownloadRules) -> bytes:
    """Fetch a URL's body.

    Raises Forbidden for an address that is not allowed, TooLarge, and DependencyFailed for a
    server that does not give it.
    """
    try:
        async with asyncio.timeout(rules.timeout_s):
            return await retry(
                lambda: _follow(url, rules),
                passes,
                backoff=Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S),
                attempts=MAX_ATTEMPTS,
            )
    except TimeoutError:
        raise DependencyFailed(
            f"{_shown(url)} took longer than {rules.timeout_s:g} s", url=_shown(url)
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise DependencyFailed(
            f"{_shown(url)} could not be fetched: {problem_of(error)}",
            url=_shown(url),
        ) from None


def passes(error: BaseException) -> bool:
    """True if another attempt may succeed: not what a server says about the request."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in _PASSING or error.status >= 500  # noqa: PLR2004 - HTTP's
    return isinstance(error, aiohttp.ClientError | OSError) and not isinstance(error, ValueError)


async def _follow(url: str, rules: DownloadRules) -> bytes:
    # Read once, by the reader of the library that connects: two readers may see two hosts.
    at = URL(url)
    for _ in range(MAX_REDIRECTS + 1):
        async with (
            guarded_session(checked_host(at, rules), rules) as session,
            session.get(at, allow_redirects=False) as response,
        ):
            location = response.headers.get("Location")
            if location is not None and 300 <= response.status < 400:  # noqa: PLR2004 - HTTP's
                at = at.join(URL(location))
                continue
            response.raise_for_status()
            return await _read(response, rules.max_bytes)
    raise DependencyFailed(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects", url=_shown(url))


def guarded_session(host: str, reach: AllowedHosts) -> aiohttp.ClientSession:
    """Return a session for one host. What it connects to has the last word, whatever led there."""

    def guarded(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not allowed(host, str(address[0]), reach.hosts):
            raise _forbidden(host, reach)
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        resolver=_Resolver(reach), use_dns_cache=False, socket_factory=guarded
    )
    return aiohttp.ClientSession(
        connector=connector,
        # No proxy, .netrc or cookies: what is checked is what is connected to and asked.
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        # Pictures are not compressed once more; a bomb would be unpacked before it is measured.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    )


def checked_host(url: URL, reach: AllowedHosts) -> str:
    """Return a URL's host, after all checks that need no network. Raises Forbidden.

    A host of digits, such as 2130706433 or 127.1, is an address to some and a name to others.
    """
    host = url.raw_host
    if url.scheme not in ("http", "https") or not host:
        raise Forbidden(f"{_shown(str(url))}: only http and https", url=_shown(str(url)))
    if parsed(host) is None:
        if ":" in host or host.replace(".", "").isdigit():
            raise _forbidden(host, reach)
        return host
    # An address in the URL never meets the resolver.
    if not allowed(host, host, reach.hosts):
        raise _forbidden(host, reach)
    return host


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    if (response.content_length or 0) > limit:
        raise TooLarge("the URL's body is too large", size=response.content_length, limit=limit)
    body = bytearray()
    async for step in response.content.iter_chunked(_STEP):
        body += step
        if len(body) > limit:
            raise TooLarge("the URL's body is too large", limit=limit)
    return bytes(body)


def allowed(host: str, address: str, hosts: Sequence[str]) -> bool:
    """True if a host may be connected to at an address: one outside, or named by the operator."""
    if host.lower().rstrip(".") in {each.lower() for each in hosts}:
        return True
    found = parsed(address)
    return found is not None and is_outside(found, own_networks())


class _Resolver(AbstractResolver):
    """Resolves names to addresses that are allowed; others are an error, not left out."""

    def __init__(self, reach: AllowedHosts) -> None:
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises Forbidden if one of them is not allowed."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results: list[ResolveResult] = []
        for family_found, _, protocol, _, address in found:
            if not allowed(host, str(address[0]), self._reach.hosts):
                raise _forbidden(host, self._reach)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=family_found,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _forbidden(host: str, reach: AllowedHosts) -> BridgeError:
    return Forbidden(
        f"{host} is not a public address, or one of this machine's networks",
        host=host,
        setting=reach.setting,
        allowed="public hosts",
    )


def _shown(url: str) -> str:
    """Return a URL as it may be shown: without user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"[:200]
