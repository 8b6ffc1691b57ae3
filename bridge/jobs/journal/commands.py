"""Commands that the bridge which takes a group's requests passes on to the others; their reports.

Both are rows of the table of what adapters keep, and every bridge is notified of them: a missed
notice loses neither. They are deleted once the command is answered, or after the bridge that passed
it on has died.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bridge.jobs.database import Database, Transaction
from bridge.jobs.journal import queries, touched

# The words of the notices: a command was passed on, one was reported about.
PASSED_ON, REPORTED = "command", "report"
_KIND = "command"
_TOUCHED = touched.kept(_KIND)


class PassedCommand(Struct, frozen=True):
    """An operator's command, and the names of the bridges that are to carry it out."""

    verb: str
    payload: bytes
    members: list[str]


class CommandEntry(NamedTuple):
    """The name of a command in the journal, and the bridges that it was passed on to."""

    name: str
    members: list[str]


class Standing(NamedTuple):
    """The other bridges that live, and what has been reported about a command, by bridge."""

    living: frozenset[str]
    reports: dict[str, bytes]


class PassedCommands:
    """The commands in a journal; all raise DatabaseError, and Fenced as the journal does."""

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
            lives = {each for (each,) in db.execute(queries.MEMBER_LIVES)}
            for (old,) in list(db.execute(queries.KEPT_NAMES, (_KIND,))):
                if old.partition(".")[0] not in lives:
                    db.execute(queries.DROP_KEPT, (_KIND, old))
            members = _others(db, life) if only is None else [only]
            if members:
                command = PassedCommand(verb, payload, members)
                db.execute(queries.KEEP, (_KIND, name, msgspec.msgpack.encode(command)))
                self._notify(db, PASSED_ON)
            return CommandEntry(name, members)

        return await self._database.run(work, _TOUCHED)

    async def of(self, member: str) -> dict[str, PassedCommand]:
        """Return the unanswered commands for a bridge by their names, the earliest first."""

        def work(db: Transaction) -> list[tuple[str, bytes]]:
            return sorted(db.execute(queries.KEPT, (_KIND,)))

        found = await self._database.run(work, touched.NOTHING)
        commands = {
            name: msgspec.msgpack.decode(value, type=PassedCommand)
            for name, value in found
            if "/" not in name  # a report has one
        }
        return {name: command for name, command in commands.items() if member in command.members}

    async def report(self, name: str, member: str, report: bytes) -> None:
        """Report what a bridge did about a command, unless that is answered."""

        def work(db: Transaction) -> None:
            if db.execute(queries.KEPT_VALUE, (_KIND, name)).fetchone() is not None:
                db.execute(queries.KEEP, (_KIND, f"{name}/{member}", report))
                self._notify(db, REPORTED)

        await self._database.run(work, _TOUCHED)

    async def look(self, entry: CommandEntry) -> Standing:
        """Return who lives and who has reported; notifies those that have not once more."""
        life = self._life()

        def work(db: Transaction) -> Standing:
            # Who lives is read first: a bridge may report, and then be gone.
            living = frozenset(_others(db, life))
            names = [f"{entry.name}/{each}" for each in entry.members]
            found = [db.execute(queries.KEPT_VALUE, (_KIND, name)).fetchone() for name in names]
            reports = {
                each: bytes(row[0])
                for each, row in zip(entry.members, found, strict=True)
                if row is not None
            }
            if len(reports) < len(entry.members):
                self._notify(db, PASSED_ON)
            return Standing(living, reports)

        return await self._database.run(work, touched.NOTHING)

    async def drop(self, entry: CommandEntry) -> None:
        """Delete a command that is answered, and the reports about it."""

        def work(db: Transaction) -> None:
            for name in (entry.name, *(f"{entry.name}/{each}" for each in entry.members)):
                db.execute(queries.DROP_KEPT, (_KIND, name))

        await self._database.run(work, _TOUCHED)


def _others(db: Transaction, life: str) -> list[str]:
    return sorted(name for (name,) in db.execute(queries.OTHER_MEMBERS, (life,)))
