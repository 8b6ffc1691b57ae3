"""Chooses the results that an ack counts, though some are published late, or not at all.

A client that acks n, or asks for what comes after n, was sent the message with that number. It has
what was published before that message, and nothing else is to count. So each result keeps to three
rules, as functions of a transaction:

- What is known not to be published is not acked by a higher number: of several bridges what the
  broker has not acknowledged (another one's connection may stall), of one bridge alone what the
  broker did not take. For a bridge publishes what it draws itself in the order of the numbers, and
  after a time without a connection what is missing first (`adapters.mqtt.publisher`).
- What was published late, when a higher number may have been, is given a new number, drawn after
  the broker had it. Whoever acks that one was sent it after the result.
- What the broker did not take is given a new number by a client's next `list`, and so is in it.

The result itself stays as it is, byte for byte, with its first number; whoever acks exactly that
one was sent this very result. A set's result, which no `list` has, is acked only so.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.jobs.database import SURE, Statements, Steps
from bridge.jobs.journal import queries
from bridge.jobs.journal.sequence import NextNumber, number
from bridge.jobs.queue import Key


def note_published(db: Statements, keys: Iterable[Key], life: str) -> Steps[list[Key]]:
    """Note that the broker has these results; return those that may have been overtaken.

    `life` is the bridge that published them, empty for one alone. Those that are returned have to
    be given new numbers (`renumber`), and are not noted until then.
    """
    noted = [(key, db.execute(queries.PUBLISHED, (*key, life, life))) for key in keys]
    yield SURE
    return [key for key, changed in noted if changed.rowcount != 1]


def pass_over(db: Statements, key: Key) -> None:
    """Note that the broker did not take a result, while it takes what has higher numbers."""
    db.execute(queries.NOT_TAKEN, key)


def passed_over(db: Statements, client: str, up_to: int, limit: int) -> list[Key]:
    """Return a client's unacked results up to a number that the broker did not take."""
    return [Key(*row) for row in db.execute(queries.ALL_NOT_TAKEN, (client, up_to, limit))]


def renumber(db: Statements, draws: Iterable[tuple[Key, NextNumber]], *, published: bool) -> None:
    """Number results again, one number each; one that was acked meanwhile keeps its own."""
    for key, draw in draws:
        db.execute(queries.RENUMBER, (number(db, draw), 1 if published else 2, *key))


def ack(db: Statements, client: str, up_to: int, life: str) -> int:
    """Note that a client was sent the message with a number; return how many results it acks."""
    acked = db.execute(queries.ACK, (client, up_to, up_to, life)).rowcount
    return int(acked + db.execute(queries.ACK_BY_FIRST_NUMBER, (client, up_to)).rowcount)
