"""The numbers `n` of the statuses and results of each client.

Within a client a bridge publishes nothing with a higher number before what has a lower one: a
client that asks for what comes after n says that it has all up to n. That holds if a number is
drawn when its transaction is handed to the database, and published as soon as that is answered,
with nothing awaited between: the database answers in the order in which it was asked. Several
bridges publish side by side; what an ack counts then, `publication` says.

No number is used twice. Of several bridges each transaction counts in the table itself, alone with
the client until its commit, so that a higher number is never on disk before a lower one. One bridge
alone counts in memory, and the table says up to which number it may have counted: `reserved`. A
number above what is known to be on disk carries a reservation in its own transaction; so a number
is never published whose reservation is not on disk, and a restart continues above. That costs no
write of its own, but for one in so many messages that change no row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable

from msgspec import Struct

from bridge.jobs.database import Statements
from bridge.jobs.journal import queries

# How many numbers a client is given ahead at a time.
NUMBER_BLOCK = 1000

# How far above those of a backup the numbers continue: more than any client had messages since.
RESTORED_ABOVE = 1_000_000
# No client has this name. Its row is what the numbers of clients without a row begin above.
_FLOOR = ""


class NextNumber(Struct, frozen=True):
    """A client's next number, for the transaction that is handed over next.

    `n` is None where the transaction itself counts, for the bridge `drawer`. `reserve` is the
    reservation to write with it; None if what is on disk suffices.
    """

    client: str
    n: int | None = None
    reserve: int | None = None
    drawer: str | None = None


class _Block(Struct):
    """One client's numbers: the next one, and up to which the disk is known to know of them."""

    next: int
    reserved: int = 0


class ClientNumbers:
    """All clients' numbers in memory, for one bridge alone. Not for use from several threads."""

    def __init__(self, reserved: Iterable[tuple[str, int]] = ()) -> None:
        """`reserved` are the rows of the table `clients`."""
        rows = dict(reserved)
        self._floor = rows.pop(_FLOOR, 0)
        self._blocks = {name: _Block(max(up_to, self._floor) + 1) for name, up_to in rows.items()}

    def draw(self, client: str) -> NextNumber:
        """Draw a client's next number."""
        block = self._blocks.get(client)
        if block is None:
            block = self._blocks[client] = _Block(self._floor + 1)
        n = block.next
        block.next += 1
        return NextNumber(client, n, None if n <= block.reserved else n + NUMBER_BLOCK)

    def written(self, draw: NextNumber) -> None:
        """Note that a draw's transaction is on disk, and its reservation with it."""
        block = self._blocks.get(draw.client)
        if block is not None and draw.reserve is not None:
            block.reserved = max(block.reserved, draw.reserve)

    def forget(self, clients: Collection[tuple[str, int]]) -> None:
        """Forget clients that `forget_clients` has forgotten: they begin again above all of them.

        One that was given a number above that meanwhile is kept.
        """
        self._floor = max(self._floor, *(up_to for _, up_to in clients), 0)
        for client, _ in clients:
            block = self._blocks.get(client)
            if block is not None and block.next <= self._floor + 1:
                del self._blocks[client]


def number(db: Statements, draw: NextNumber) -> int:
    """Return the number that was drawn, or draw it now; called once, in its transaction."""
    return drawn(db, draw)()


def drawn(db: Statements, draw: NextNumber) -> Callable[[], int]:
    """Draw the number now if it was not drawn before; the function returned returns it.

    It waits for it the first time that it is called.
    """
    if draw.n is None:
        counted = db.execute(queries.NEXT_NUMBER, (draw.client, _FLOOR, draw.drawer))
        return functools.cache(lambda: int(counted.fetchone()[0]))
    n = draw.n
    if draw.reserve is not None:
        db.execute(queries.RESERVE, (draw.client, draw.reserve))
    return lambda: n


def raise_above_seen(db: Statements) -> None:
    """Raise all numbers far above those that there are: clients may have seen higher ones."""
    (highest,) = db.execute(queries.HIGHEST_RESERVED).fetchone()
    db.execute(queries.RESERVE, (_FLOOR, highest))
    db.execute(queries.RESERVE_FOR_ALL, (highest + RESTORED_ABOVE,))


def forget_clients(db: Statements, clients: Iterable[str]) -> list[tuple[str, int]]:
    """Forget the numbers of those clients that have no job; returns them as they were.

    The floor is raised above theirs, so that none of them is used again under the same name.
    """
    found = [db.execute(queries.FORGET_CLIENT, (client,)) for client in clients]
    forgotten = [row for each in found for row in each]
    if forgotten:
        db.execute(queries.RESERVE, (_FLOOR, max(up_to for _, up_to in forgotten)))
    return forgotten
