"""Limits by network and key: places, bytes that nobody has taken, wrong keys. Pure."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from msgspec import Struct

# Seconds' worth of a connection's rate that may come at once.
BURST_S: Final = 4.0
# Wrong keys that cost nothing; from then on each one doubles the wait.
FREE_FAILURES: Final = 5
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
# Messages of full size that may be unfinished: with one key, from one network, of all.
OF_A_KEY: Final = 4
# Full buffers that may wait for the readers with one key together.
BUFFERS_OF_A_KEY: Final = 4
OF_A_NETWORK: Final = 8
OF_ALL: Final = 32
_FORGET_AFTER_S: Final = 600.0
_MOST_ADDRESSES: Final = 10_000

T = TypeVar("T")


def network_of(address: str) -> str:
    """Return a network that is one party: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
        found = found.ipv4_mapped
    return str(found)


class ConnectionPlaces(Generic[T]):
    """Places of connections: `most` in all, `most_of_one` for one network.

    Those that are not known yet have some, and requests that are being answered. Whoever comes when
    all are taken gets the place of the one that has had its place longest, in the network that has
    most: one network cannot shut out another.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._networks: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._networks.values()))

    def __iter__(self) -> Iterator[T]:
        for there in self._networks.values():
            yield from there

    def full(self, network: str) -> bool:
        """Return whether a network has all the places that it may have."""
        return len(self._networks.get(network, ())) >= self._most_of_one

    def enter(self, who: T, network: str, *, shared: bool = False) -> T | None:
        """Assign a place, and return who has to leave for it, if anybody.

        `shared`: the network is a proxy's, behind which there are many: only `most` bounds it.
        """
        there = self._networks.setdefault(network, {})
        there[who] = None
        crowd = there
        if shared or len(there) <= self._most_of_one:
            if len(self) <= self._most:
                return None
            crowd = max(self._networks.values(), key=len)
        victim = next(iter(crowd))
        del crowd[victim]
        return victim

    def leave(self, who: T, network: str) -> None:
        """Free a place; does nothing for one that has lost it."""
        there = self._networks.get(network)
        if there is not None:
            there.pop(who, None)
            if not there:
                del self._networks[network]


class ByteBudget(Struct):
    """Bytes received and not taken yet, of one connection or of all with one key."""

    limit: int
    used: int = 0


def heaviest_above(waiting: Iterable[tuple[T, str, int]], limit: int) -> list[T]:
    """Return who has to leave, so that no key has more than `limit` bytes waiting for its readers.

    `waiting` are readers with their key and what waits for each; those with most go first.
    """
    by_key: dict[str, list[tuple[int, T]]] = {}
    for who, key, size in waiting:
        if size:
            by_key.setdefault(key, []).append((size, who))
    leaving = []
    for readers in by_key.values():
        total = sum(size for size, _ in readers)
        for size, who in sorted(readers, key=lambda each: each[0], reverse=True):
            if total <= limit:
                break
            total -= size
            leaving.append(who)
    return leaving


class UnfinishedBudgets:
    """The budgets of what sockets that have registered may have unfinished.

    Each socket counts against three: its key's, its network's, and that of all.
    """

    def __init__(self, max_message: int) -> None:
        """`max_message` is the bytes of the largest message."""
        self._of_key = OF_A_KEY * max_message
        self._of_network = OF_A_NETWORK * max_message
        self._all = ByteBudget(OF_ALL * max_message)
        # With how many sockets share each: a budget that nobody has is gone.
        self._shared: dict[tuple[str, str], tuple[ByteBudget, int]] = {}

    def __len__(self) -> int:
        return len(self._shared)

    def enter(self, key: str, network: str) -> Sequence[ByteBudget]:
        """Return the budgets of one more socket."""
        return (
            self._one("key", key, self._of_key, 1),
            self._one("network", network, self._of_network, 1),
            self._all,
        )

    def leave(self, key: str, network: str) -> None:
        """Note that a socket has ended."""
        self._one("key", key, self._of_key, -1)
        self._one("network", network, self._of_network, -1)

    def _one(self, kind: str, name: str, limit: int, change: int) -> ByteBudget:
        budget, count = self._shared.pop((kind, name), (ByteBudget(limit), 0))
        if count + change > 0:
            self._shared[kind, name] = budget, count + change
        return budget


class _Failed(Struct):
    count: int
    at: float


class Failures:
    """Wrong keys by network; of too many networks the one longest silent is forgotten."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, _Failed] = OrderedDict()

    def note(self, address: str, now: float) -> None:
        """Count a wrong key."""
        network = network_of(address)
        found = self._failed.pop(network, None)
        if found is None or now - found.at > _FORGET_AFTER_S:
            found = _Failed(0, now)
        self._failed[network] = _Failed(found.count + 1, now)
        if len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)

    def wait_s(self, address: str, now: float) -> float:
        """Return how long this address has to wait before it may try again."""
        found = self._failed.get(network_of(address))
        if found is None or found.count < FREE_FAILURES:
            return 0.0
        # A power of ten thousand failures is no float.
        doublings = min(found.count - FREE_FAILURES, 10)
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**doublings)
        return max(0.0, found.at + wait - now)
