"""A bridge of a group that lacks a part: `python -m` this `PART[,PART...] serve`.

Each part is removed from the running program, to see what it costs. Such a bridge keeps no promise.
"""

from __future__ import annotations

import os
import queue
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bridge.adapters.mqtt.retained import Retained
from bridge.jobs.core import events
from bridge.jobs.database import Statements, Steps, database
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.group import Group
from bridge.jobs.journal import Notice, publication
from bridge.jobs.journal.base import Base
from bridge.jobs.queue import Key
from tests.support.bridge import BridgeProcess

MEMBERS = 3
# How long a commit waits for others to share it with.
COMPANY_S = 0.003


class LesserMember(BridgeProcess):
    """A bridge as any other, started without some parts."""

    parts: Sequence[str]

    @property
    def command(self) -> Sequence[str]:
        """The command line's choices."""
        return (sys.executable, "-m", "tests.simulation.lesser_member", *self._words)

    @property
    def _words(self) -> tuple[str, ...]:
        return (",".join(self.parts), "serve")


def lesser(*parts: str) -> type[BridgeProcess]:
    """Return the kind of bridge that lacks these parts."""
    return type("Lesser", (LesserMember,), {"parts": parts}) if parts else BridgeProcess


def _is_own(key: Key) -> bool:
    """True if a job is of a client of this bridge: each has those of every third number."""
    number = int(key.client.rpartition("-")[2])
    return number % MEMBERS == int(os.environ["COMFY2MQTT_MEMBER"].removeprefix("m"))


def _others_clients() -> None:
    """Take jobs of the bridge's own clients alone."""
    handle = Dispatcher.handle

    def own(self: Dispatcher, event: events.Event) -> None:
        if not isinstance(event, events.JobAccepted) or _is_own(event.job.key):
            handle(self, event)

    Dispatcher.handle = own  # type: ignore[method-assign]


def _notices() -> None:
    """Send and receive no notice but those of a new job of the bridge's own clients."""
    notify, noticed = Base._notify_of, Group._noticed

    def send(self: Any, db: Any, key: Key, what: Notice = Notice.CHANGED) -> None:
        if what is Notice.CHANGED and not _is_own(key):
            notify(self, db, key, what)

    def receive(self: Group, what: Notice, key: Key) -> None:
        if _is_own(key):
            noticed(self, what, key)

    Base._notify_of = send  # type: ignore[method-assign]
    Group._noticed = receive  # type: ignore[method-assign]


def _renumbering() -> None:
    """Count each result as published before any other of its client."""
    note = publication.note_published

    def as_one_alone(db: Statements, keys: Iterable[Key], life: str) -> Steps[list[Key]]:  # noqa: ARG001
        return note(db, keys, "")

    publication.note_published = as_one_alone


def _lone_commits() -> None:
    """Make each transaction wait for others that share its commit."""
    next_group = database.Database._next_group

    def gather(self: Any) -> Any:
        first = self._inbox.get()
        if first is not None:
            time.sleep(COMPANY_S)
        again: queue.SimpleQueue[Any] = queue.SimpleQueue()
        again.put(first)
        inbox, self._inbox = self._inbox, _Both(again, self._inbox)
        try:
            return next_group(self)
        finally:
            self._inbox = inbox

    database.Database._next_group = gather  # type: ignore[method-assign]


class _Both:
    """A queue of one thing, and the queue behind it."""

    def __init__(self, first: Any, rest: Any) -> None:
        self._first, self._rest = first, rest
        self.put = rest.put

    def get(self) -> Any:
        return self._first.get_nowait()

    def get_nowait(self) -> Any:
        return self._rest.get_nowait()


def _states() -> None:
    """Read no ComfyUI states of other bridges."""
    Retained.received = lambda *_: None  # type: ignore[method-assign]


def _jobs() -> None:
    """Start no job, unless the bridge is the first one."""
    if os.environ["COMFY2MQTT_MEMBER"] != "m0":
        Dispatcher._schedule = lambda _: None  # type: ignore[method-assign,assignment]


PARTS: Mapping[str, Callable[[], None]] = {
    "others' clients": _others_clients,
    "notices": _notices,
    "renumbering": _renumbering,
    "lone commits": _lone_commits,
    "states": _states,
    "jobs": _jobs,
}


if __name__ == "__main__":
    for part in sys.argv.pop(1).split(","):
        PARTS[part]()
    runpy.run_module("bridge", run_name="__main__", alter_sys=True)
