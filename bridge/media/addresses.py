"""Tells public addresses of the internet from those of this machine and its networks.

Only what is known to be public is: an address of a kind that is not named here is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from contextlib import suppress

import ifaddr

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
