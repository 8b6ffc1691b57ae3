"""The journal's table of webhooks: results on their way to somebody's server.

One is written down in the transaction of the result that it is about, and is deleted once it was
sent or given up.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Collection, Sequence

import msgspec
from msgspec import Struct

from bridge.contract.messages import State
from bridge.jobs.database import Database, Transaction
from bridge.jobs.job import ResultWebhook
from bridge.jobs.journal import queries, touched
from bridge.jobs.queue import Key

# How many webhooks of a client may wait. With more, nobody seems to receive them.
MOST_OF_CLIENT = 10_000


class PendingWebhook(Struct, frozen=True):
    """A webhook that waits. `name` is the id of the job or set that it is about.

    `own`: the operator's, which needs no right of the client's. `attempts` have failed.
    """

    id: str
    client: str
    name: str
    url: str
    own: bool
    body: bytes
    attempts: int


class NewHooks(Struct, frozen=True):
    """The webhooks of one outcome, before its result has its number; `at` as `timestamp` has it."""

    key: Key
    ids: tuple[str, ...]
    hooks: Sequence[ResultWebhook]
    type: str
    at: str
    now: float

    def write(self, db: Transaction, result: bytes) -> None:
        """Write them down, in the transaction of the result."""
        for message_id, hook in zip(self.ids, self.hooks, strict=True):
            body = _body(self.type, self.at, self.key.client, result)
            values = (message_id, *self.key, hook.url, int(hook.own), body, self.now)
            db.execute(queries.INSERT_WEBHOOK, (*values, self.key.client, MOST_OF_CLIENT))


def new(
    kind: str, key: Key, state: State, hooks: Sequence[ResultWebhook], *, now: float, shown: float
) -> NewHooks:
    """Return the webhooks of a `job` or `set` in its last state.

    `now` is the journal's time, `shown` the wall clock's.
    """
    at = dt.datetime.fromtimestamp(shown, dt.UTC).isoformat(timespec="milliseconds")
    ids = tuple(f"msg_{uuid.uuid4().hex}" for _ in hooks)
    return NewHooks(key, ids, hooks, f"{kind}.{state}", at.replace("+00:00", "Z"), now)


class Webhooks:
    """The webhooks of a journal; its methods are handed to the database as the journal's are."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Called when some were written down here.
        self.on_new: Callable[[], None] = lambda: None

    def note_new(self) -> None:
        """Wake the sender: a transaction of this process has written webhooks."""
        self.on_new()

    async def due(self, now: float, busy: Collection[str], most: int) -> list[PendingWebhook]:
        """Return the webhooks to send now: at most `most` of each client that is not `busy`."""

        def work(db: Transaction) -> list[PendingWebhook]:
            clients = [client for (client,) in db.execute(queries.CLIENTS_OF_WEBHOOKS, (now,))]
            return [
                PendingWebhook(message_id, client, name, url, bool(own), body, attempts)
                for client in clients
                if client not in busy
                for message_id, name, url, own, body, attempts in list(
                    db.execute(queries.DUE_WEBHOOKS, (client, now, most))
                )
            ]

        return await self._database.run(work, touched.NOTHING)

    async def next_due(self, now: float) -> float | None:
        """Return when the next webhook is due that is not due yet; None if none waits."""
        found: float | None
        ((found,),) = await self._database.rows(queries.NEXT_WEBHOOK, (now,))
        return found

    async def remove(self, hook: PendingWebhook) -> None:
        """Delete one that was sent or given up."""
        await self._database.change(queries.DROP_WEBHOOK, (hook.id,), touched.client(hook.client))

    async def postpone(self, hook: PendingWebhook, due: float) -> None:
        """Note that an attempt failed, and when the next one is due."""
        values = (hook.attempts + 1, due, hook.id)
        await self._database.change(queries.POSTPONE_WEBHOOK, values, touched.client(hook.client))


def forget(db: Transaction, key: Key) -> None:
    """Delete what waits about a job or set."""
    db.execute(queries.DROP_WEBHOOKS_OF, key)


def _body(kind: str, at: str, client: str, result: bytes) -> bytes:
    head = msgspec.json.encode({"type": kind, "timestamp": at, "client": client})
    return b'%b,"data":%b}' % (head[:-1], result)
