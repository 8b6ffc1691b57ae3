"""An operator's commands in a group of bridges: the one that takes requests answers for all.

It passes on by the journal what others are to carry out, carries out its own part, and waits for
their reports. One answer comes also if a bridge dies meanwhile: a bridge that is no member of the
group any more is not waited for. If this bridge dies itself, the broker delivers the command to the
next one that takes requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from bridge.aio import wait_set
from bridge.contract.errors import BridgeError
from bridge.contract.operator import Report, decode
from bridge.contract.requests import transaction_of
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal.commands import CommandEntry, CommandStatus, PassedCommand, PassedCommands
from bridge.jobs.presence import OBSERVE_S
from bridge.requests.context import Answer
from bridge.requests.errors import refusal
from bridge.requests.group_answer import (
    Executor,
    Reply,
    carried_out_by,
    group_report,
    read_report,
    replies,
    reply_of,
    report_of,
)

log = logging.getLogger(__name__)

# A bridge that lives is not waited for any longer: `comfy2mqtt comfyui` waits for 10 seconds. One
# that died is missed sooner.
REPORT_S = 8.0


class MemberReports:
    """Answers commands for all bridges, and carries out what another bridge passes on.

    `handle` is for while this bridge takes the requests, `run` for all the time.

    Call `look_for_commands` and `look_for_reports` when there may be new ones in the journal.
    """

    def __init__(
        self,
        member: str,
        carry_out: Callable[[str, bytes, bytes | None], Awaitable[Answer]],
        commands: PassedCommands,
        *,
        owner: Callable[[str], str | None],
        gpu_owner: Callable[[str], str | None],
    ) -> None:
        """`carry_out` executes a command at this bridge, whose name in the group is `member`.

        It is called with verb, payload and correlation data, as `handle`. `owner` and `gpu_owner`
        are as in `carried_out_by`.
        """
        self._member = member
        self._handle = carry_out
        self._commands = commands
        self._owner = owner
        self._gpu_owner = gpu_owner
        self._passed_on = asyncio.Event()
        # The commands of others that this bridge has begun to carry out.
        self._begun: set[str] = set()
        # One for each answer that waits for reports.
        self._waiting: set[asyncio.Event] = set()

    def look_for_commands(self) -> None:
        """Look for commands that were passed on to this bridge."""
        self._passed_on.set()

    def look_for_reports(self) -> None:
        """Look for reports about commands that this bridge passed on."""
        for each in self._waiting:
            each.set()

    # While this bridge takes the requests.

    async def handle(self, verb: str, payload: bytes, correlation: bytes | None) -> Answer:
        """Pass a command on to the bridges that it is for; returns its one answer."""
        executor = self._executor(verb, payload)
        if executor is Executor.THIS:
            return await self._handle(verb, payload, correlation)
        transaction = transaction_of(payload, correlation)
        try:
            if isinstance(executor, str):
                report = await self._by_another(executor, verb, payload)
            else:
                report = await self._by_all(verb, payload, correlation)
            return Answer(data=report, transaction=transaction)
        except Exception as error:  # noqa: BLE001 - answered, and logged where it is ours
            return refusal(error, transaction, f"the operator's {verb}")

    def _executor(self, verb: str, payload: bytes) -> Executor | str:
        try:
            command = decode(verb, payload)
        except BridgeError:
            return Executor.THIS  # to refuse it
        return carried_out_by(command, self._owner, self._gpu_owner)

    async def _by_another(self, member: str, verb: str, payload: bytes) -> Report:
        entry = await self._commands.pass_on(verb, payload, only=member)
        reply = (await self._replies(entry, verb, time.monotonic()))[member]
        if isinstance(reply, BridgeError):
            raise reply
        return reply

    async def _by_all(self, verb: str, payload: bytes, correlation: bytes | None) -> Report:
        entry = await self._commands.pass_on(verb, payload)
        passed_at = time.monotonic()
        own = reply_of(await self._handle(verb, payload, correlation))
        others = await self._replies(entry, verb, passed_at)
        return group_report(self._member, {self._member: own, **others})

    async def _replies(self, entry: CommandEntry, verb: str, passed_at: float) -> dict[str, Reply]:
        """Wait for the replies of all bridges that a command was passed on to."""
        if not entry.members:
            return {}
        changed = asyncio.Event()
        self._waiting.add(changed)
        found, again = None, False
        while found is None:
            changed.clear()
            over = time.monotonic() - passed_at >= REPORT_S
            living, reports = await self._status(entry, again=again)
            replied = {name: read_report(verb, each) for name, each in reports.items()}
            found = replies(entry.members, living, replied, waited_s=REPORT_S if over else None)
            if found is None:
                # Whether a bridge died is only seen by looking; a notice may have been missed.
                again = not await wait_set(changed, OBSERVE_S)
        self._waiting.discard(changed)
        with suppress(DatabaseError):  # it goes with this bridge
            await self._commands.drop(entry)
        return found

    async def _status(self, entry: CommandEntry, *, again: bool) -> CommandStatus:
        try:
            return await self._commands.status(entry, again=again)
        except DatabaseError as error:
            log.warning("cannot read the other bridges' reports of a command: %s", error)
            return CommandStatus(frozenset(entry.members), {})

    # All along.

    async def run(self) -> None:
        """Carry out what the bridge that takes requests passes on, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._passed_on.wait()
                self._passed_on.clear()
                try:
                    commands = await self._commands.unanswered()
                except DatabaseError as error:  # it notifies again
                    log.warning("cannot read an operator's command: %s", error)
                    continue
                for name, command in commands.items():
                    if name not in self._begun:
                        tasks.create_task(self._carry_out(name, command))
                self._begun = set(commands)

    async def _carry_out(self, name: str, command: PassedCommand) -> None:
        answer = await self._handle(command.verb, command.payload, None)
        try:
            await self._commands.report(name, self._member, report_of(reply_of(answer)))
        except DatabaseError as error:
            # It is passed on again: twice has the same effect as once.
            log.warning(
                "cannot store the report of %s, it is carried out again: %s", command.verb, error
            )
            self._begun.discard(name)
