"""Commands that the bridge which takes a group's requests passes on to the others; their reports.

Both are rows of the table of what adapters keep, and every bridge is notified of them: a missed
notice loses neither. They are deleted once the command is answered, or after the bridge that passed
it on has died. That may be late, so a command is for a bridge's life: a bridge that was started
since does not do what the one before it had to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bridge.contract.reading import UNREADABLE
from bridge.jobs.database import Database, Transaction
from bridge.jobs.journal import queries, touched

log = logging.getLogger(__name__)

# The words of the notices: a command was passed on, one was reported about.
PASSED_ON, REPORTED = "command", "report"
_KIND = "command"
_TOUCHED = touched.adapter_store(_KIND)


class PassedCommand(Struct, frozen=True):
    """An operator's command, and the lives of the bridges that are to carry it out."""

    verb: str
    payload: bytes
    lives: list[str]


class CommandEntry(NamedTuple):
    """The name of a command in the journal, and the lives of those it is for, by bridge."""

    name: str
    members: dict[str, str | None]


class CommandStatus(NamedTuple):
    """The bridges of a command that live, and what was reported about it, by bridge."""

    living: frozenset[str]
    reports: dict[str, bytes]


class PassedCommands:
    """The commands in a journal; all raise DatabaseError, and LeaseLost as the journal does."""

    def __init__(
        self,
        database: Database,
        life: Callable[[], str],
        notify: Callable[[Transaction, str], None],
    ) -> None:
        """`life` names this bridge since its start; `notify` sends a word once it is committed."""
        self._database = database
        self._life = life
        self._notify = notify
        self._passed_on = 0

    async def pass_on(self, verb: str, payload: bytes, only: str | None = None) -> CommandEntry:
        """Pass a command on to all other bridges that live, or to one alone.

        Deletes the commands of bridges that are gone: nobody waits for reports about them.
        """
        life = self._life()
        self._passed_on += 1
        name = f"{life}.{self._passed_on:08d}"

        def work(db: Transaction) -> CommandEntry:
            there = _members(db)
            for (old,) in list(db.execute(queries.KEPT_NAMES, (_KIND,))):
                if old.partition(".")[0] not in there.values():
                    db.execute(queries.DROP_KEPT, (_KIND, old))
            names = sorted(there) if only is None else [only]
            members = {each: there.get(each) for each in names if there.get(each) != life}
            lives = [each for each in members.values() if each is not None]
            if lives:
                command = PassedCommand(verb, payload, lives)
                db.execute(queries.KEEP, (_KIND, name, msgspec.msgpack.encode(command)))
                self._notify(db, PASSED_ON)
            return CommandEntry(name, members)

        return await self._database.run(work, _TOUCHED)

    async def unanswered(self) -> dict[str, PassedCommand]:
        """Return the unanswered commands for this bridge by their names, the earliest first."""
        life = self._life()
        found = sorted(await self._database.rows(queries.KEPT, (_KIND,)))
        commands = {}
        for name, value in found:
            if "/" in name:
                continue  # a report
            try:
                command = msgspec.msgpack.decode(value, type=PassedCommand)
            except UNREADABLE as error:
                log.warning("a command in the journal cannot be read: %s", error)
                continue
            if life in command.lives:
                commands[name] = command
        return commands

    async def report(self, name: str, member: str, report: bytes) -> None:
        """Report what a bridge did about a command, unless that is answered."""

        def work(db: Transaction) -> None:
            if db.execute(queries.KEPT_VALUE, (_KIND, name)).fetchone() is not None:
                db.execute(queries.KEEP, (_KIND, f"{name}/{member}", report))
                self._notify(db, REPORTED)

        await self._database.run(work, _TOUCHED)

    async def status(self, entry: CommandEntry, *, again: bool) -> CommandStatus:
        """Return who lives and who has reported; `again` notifies all if one has not."""

        def work(db: Transaction) -> CommandStatus:
            # Who lives is read first: a bridge may report, and then be gone.
            there = _members(db)
            living = frozenset(
                each
                for each, life in entry.members.items()
                if life is not None and there.get(each) == life
            )
            found = {
                each: db.execute(queries.KEPT_VALUE, (_KIND, f"{entry.name}/{each}"))
                for each in entry.members
            }
            # All are sent before the first is waited for.
            rows = {each: result.fetchone() for each, result in found.items()}
            reports = {each: bytes(row[0]) for each, row in rows.items() if row is not None}
            if again and len(reports) < len(entry.members):
                self._notify(db, PASSED_ON)
            return CommandStatus(living, reports)

        return await self._database.run(work, touched.NOTHING)

    async def drop(self, entry: CommandEntry) -> None:
        """Delete a command that is answered, and the reports about it."""

        def work(db: Transaction) -> None:
            for name in (entry.name, *(f"{entry.name}/{each}" for each in entry.members)):
                db.execute(queries.DROP_KEPT, (_KIND, name))

        await self._database.run(work, _TOUCHED)


def _members(db: Transaction) -> dict[str, str]:
    """Return all members' lives by their names; one whose lease is over may yet renew it."""
    return dict(db.execute(queries.MEMBERS))
