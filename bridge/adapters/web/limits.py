"""How often: messages of a connection, and wrong keys of an address. Pure; the clock is outside."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from msgspec import Struct

# Messages that may come at once, in seconds' worth of the rate.
BURST_S: Final = 4.0
# Wrong keys that are nobody's business; from then on each one doubles the wait.
FREE_FAILURES: Final = 5
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
_FORGET_AFTER_S: Final = 600.0
_MOST_ADDRESSES: Final = 10_000


class _Failed(Struct):
    count: int
    at: float


class Failures:
    """Wrong keys, by the address that they came from; the one longest silent is forgotten."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, _Failed] = OrderedDict()

    def note(self, address: str, now: float) -> None:
        """Take note of a wrong key."""
        network = _network(address)
        found = self._failed.pop(network, None)
        if found is None or now - found.at > _FORGET_AFTER_S:
            found = _Failed(0, now)
        self._failed[network] = _Failed(found.count + 1, now)
        if len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)

    def wait_s(self, address: str, now: float) -> float:
        """Return how long this address has to wait before it may try again."""
        found = self._failed.get(_network(address))
        if found is None or found.count < FREE_FAILURES:
            return 0.0
        # A power of ten thousand failures is no float.
        doublings = min(found.count - FREE_FAILURES, 10)
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**doublings)
        return max(0.0, found.at + wait - now)


def _network(address: str) -> str:
    """Return what one party has for sure: an IPv4 address, of IPv6 the first 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:  # noqa: PLR2004 - IPv4
        return address
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
