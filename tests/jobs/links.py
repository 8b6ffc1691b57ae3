"""The simulated world's broker: links of bridges that stall and break, and clients that ack.

The publisher is the real one, and so are the journal's functions of what was published and what is
acked, on a database in memory.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from typing import Any

from msgspec import Struct

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.topics import Topics
from bridge.jobs.database import complete
from bridge.jobs.journal import Unpublished, publication, queries, rows, sets
from bridge.jobs.journal.sequence import NextNumber, number
from bridge.jobs.queue import Key
from bridge.mqtt import ConnectionLost, PubAck, Publish, PublishRefused
from tests.support.journals import empty_journal

TOPICS = Topics()
PAGE = 3
REPEAT_S = 60.0


def tables(owner: object) -> sqlite3.Connection:
    """Return the journal's tables, empty and in memory, which go with their owner."""
    # The garbage collector closes it, on whatever thread it runs.
    db = sqlite3.connect(":memory:", check_same_thread=False)
    # However a run ends: Pythons from 3.13 on warn of one that is left open.
    weakref.finalize(owner, db.close)
    db.deserialize(empty_journal())
    return db


class Ledger:
    """The journal's tables of numbers and results: what is on disk, and nothing else."""

    def __init__(self) -> None:
        self._db = tables(self)

    def draw(self, client: str, life: str) -> int:
        return number(self._db, NextNumber(client, drawer=life))

    def finish(self, key: Key, n: int, now: float, owner: str | None) -> bytes:
        result = b'{"n":%d}' % n
        self._db.execute(
            "INSERT INTO jobs (client, job_id, workflow, workflow_version, fingerprint, state, "
            "priority, attempt, prompt_id, accepted_at, envelope, n, finished_at, result, owner) "
            "VALUES (?, ?, '', '', '', 'succeeded', 0, 0, '', 0, '{}', ?, ?, ?, ?)",
            (*key, n, now, result, owner),
        )
        return result

    def inherit(self, life: str, before: str) -> None:
        self._db.execute(queries.INHERIT_JOBS, (life, before))
        self._db.execute(queries.INHERIT_SETS, (life, before))

    def finish_set(self, key: Key, n: int, now: float, owner: str | None) -> bytes:
        result = b'{"n":%d}' % n
        self._db.execute(
            "INSERT INTO sets (client, set_id, workflow, fingerprint, state, total, made, waits, "
            "accepted_at, envelope, n, finished_at, result, owner) "
            "VALUES (?, ?, '', '', 'succeeded', 0, 0, 0, 0, '{}', ?, ?, ?, ?)",
            (*key, n, now, result, owner),
        )
        return result

    def unpublished(self, life: str, since: float) -> list[Unpublished]:
        return self._found(queries.UNPUBLISHED, (life, since, life) * 2)

    def orphans(self, members: Collection[str], since: float) -> list[Unpublished]:
        self._db.execute("DELETE FROM members")
        for life in members:
            self._db.execute("INSERT INTO members VALUES (?, ?, 0)", (life, life))
        return self._found(queries.UNPUBLISHED_OF_THE_DEAD, (since, since))

    def _found(self, sql: str, values: tuple[Any, ...]) -> list[Unpublished]:
        return [rows.unpublished(row) for row in self._db.execute(sql, values)]

    def note_published(self, key: Key, life: str) -> list[Key]:
        return complete(publication.note_published(self._db, [key], life))

    def note_set_published(self, key: Key) -> None:
        self._db.execute(queries.SET_PUBLISHED, key)

    def pass_over(self, key: Key) -> None:
        publication.pass_over(self._db, key)

    def renumber(self, keys: Collection[Key], life: str, *, published: bool) -> None:
        draws = [(key, NextNumber(key.client, drawer=life)) for key in keys]
        publication.renumber(self._db, draws, published=published)

    def ack(self, client: str, up_to: int, life: str) -> None:
        publication.ack(self._db, client, up_to, life)
        sets.ack(self._db, client, up_to)

    def resume(self, client: str, after: int, life: str) -> list[tuple[Key | None, int]]:
        """Do as a `list` does; return the results in it, by rising number."""
        self.ack(client, after, life)
        missed = publication.passed_over(self._db, client, after, PAGE)
        self.renumber(missed, life, published=False)
        return self.page(client, after)

    def page(self, client: str, after: int) -> list[tuple[Key | None, int]]:
        """Return the results with higher numbers, by rising number, up to a page of them."""
        found = self._db.execute(
            "SELECT job_id, n FROM jobs WHERE client = ? AND n > ? ORDER BY n LIMIT ?",
            (client, after, PAGE),
        )
        return [(Key(client, job_id), n) for job_id, n in found]

    def acked(self) -> set[Key]:
        jobs = self._db.execute("SELECT client, job_id FROM jobs WHERE acked = 1")
        of_sets = self._db.execute("SELECT client, set_id FROM sets WHERE acked = 1")
        return {Key(*row) for row in jobs} | {set_key(Key(*row)) for row in of_sets}


def set_key(key: Key) -> Key:
    """Return the name of a set's result among those of jobs."""
    return Key(key.client, f"set/{key.job_id}")


class Sent:
    """A connection's return value for a message: a future without a loop."""

    def __init__(self, key: Key | None) -> None:
        self.key = key
        """The job, if it is a result."""
        self.error: Exception | None = None
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def end(self, error: Exception | None = None) -> None:
        self.error = error
        for callback in self._callbacks:
            callback(self)

    def cancelled(self) -> bool:
        return False

    def exception(self) -> Exception | None:
        return self.error

    def result(self) -> PubAck:
        return PubAck()


class Message(Struct):
    """A status or result on its way."""

    client: str
    n: int
    key: Key | None
    """The job, if it is a result."""
    sent: Sent


class Link:
    """A bridge's connection: what it was given, in order, and what the broker has acknowledged."""

    packet_limit = None
    buffered = 0

    def __init__(self, on_send: Callable[[Message], None]) -> None:
        self.going: deque[Message] = deque()
        """Messages that have yet to reach the broker."""
        self.unacked: deque[Message] = deque()
        """Messages that the broker has, and has not acknowledged yet."""
        self._on_send = on_send

    def send(self, publish: Publish) -> Sent:
        *_, client, kind, name, what = publish.topic.split("/")
        key = Key(client, name) if what == "result" else None
        if key is not None and kind == "set":
            key = set_key(key)
        sent = Sent(key)
        n = json.loads(bytes(publish.payload))["n"]
        message = Message(client, n, key, sent)
        self._on_send(message)
        self.going.append(message)
        return sent

    def puback(self, *, refused: bool = False) -> None:
        """Acknowledge the oldest message that the broker has, or refuse it."""
        if not self.unacked:
            return
        message = self.unacked.popleft()
        message.sent.end(PublishRefused("", 0x97) if refused and message.key else None)

    def lose(self) -> None:
        """End: what the broker has not acknowledged is lost, as far as the bridge knows."""
        lost = [*self.unacked, *self.going]
        self.unacked.clear()
        self.going.clear()
        for message in lost:
            message.sent.end(ConnectionLost("gone"))


def publisher(delivered: Callable[[Key], None], **changes: Any) -> Publisher:
    """Return a real publisher."""
    return Publisher(TOPICS, delivered=delivered, keep_results_s=100, keep_outputs_s=100, **changes)


class Client:
    """A client that trusts the numbers: what it was sent says that it has all with a lower one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.there = True
        self.has: set[Key] = set()
        self.n = 0
        # After an absence, until it got what it missed.
        self._missing = False

    def leave(self) -> None:
        self.there = False

    def come_back(self) -> None:
        self._missing |= not self.there
        self.there = True

    def receive(self, message: Message) -> None:
        if not self.there:
            return
        if message.key is not None:
            self.has.add(message.key)
        if not self._missing:
            self.n = max(self.n, message.n)

    def take_list(self, found: list[tuple[Key | None, int]]) -> None:
        """Take the answer to `list` after `n`; it has all once nothing more comes."""
        self.has |= {key for key, _ in found if key is not None}
        self.n = max([self.n, *(n for _, n in found)])
        self._missing &= len(found) == PAGE


class Broker:
    """All links, those of killed bridges too, and all clients."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.ghosts: list[Link] = []
        # In the order in which they were given to a connection for the first time.
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.meant: dict[tuple[str, int], Key | None] = {}

    def client(self, name: str) -> Client:
        return self.clients.setdefault(name, Client(name))

    def note(self, message: Message) -> None:
        """Note what a bridge gives to its connection, and check that it may."""
        about = (message.client, message.n)
        if about not in self.meant:
            self.numbers[message.client].append(message.n)
            self.meant[about] = message.key
        else:
            assert message.key is not None, "a status is published twice"
            assert self.meant[about] == message.key, "a number is used twice"

    def receive(self, link: Link) -> None:
        """Let the broker receive one message, if there is one, and pass it on."""
        if not link.going:
            return
        message = link.going.popleft()
        link.unacked.append(message)
        self.client(message.client).receive(message)
