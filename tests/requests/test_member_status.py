"""Looks and notices of the bridge that answers a command to a group, without a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from bridge.contract.messages import encode, ok
from bridge.contract.operator import ReleaseReport
from bridge.jobs.journal.commands import CommandEntry, CommandStatus
from bridge.requests import member_reports
from bridge.requests.context import Answer
from bridge.requests.member_reports import MemberReports

DONE = ReleaseReport(released=1)


class Operator:
    async def handle(self, *_: Any) -> Answer:
        return Answer(data=DONE)


class Commands:
    """Passed commands, about which one bridge after another reports, each before the next look."""

    def __init__(self, members: str, silent: int = 0) -> None:
        """Before the first report so many looks find none."""
        self._members: dict[str, str | None] = dict(zip(members, members, strict=True))
        self._silent = silent
        self.reported: Callable[[], None] = lambda: None
        self.looks: list[bool] = []

    async def pass_on(self, *_: Any) -> CommandEntry:
        return CommandEntry("life.1", self._members)

    async def status(self, _: CommandEntry, *, again: bool) -> CommandStatus:
        self.looks.append(again)
        reports = list(self._members)[: max(0, len(self.looks) - self._silent)]
        if reports:
            self.reported()
        return CommandStatus(frozenset(self._members), {each: encode(ok(DONE)) for each in reports})

    async def drop(self, _: CommandEntry) -> None: ...


async def looks(commands: Commands) -> list[bool]:
    """Return for each look whether the bridges were notified once more."""
    reports = MemberReports(
        "a",
        Operator().handle,
        cast("Any", commands),
        owner=lambda _: None,
        gpu_owner=lambda _: None,
    )
    commands.reported = reports.look_for_reports
    answer = await reports.handle("queue/release", b"", None)
    assert answer.data == ReleaseReport(released=5)
    return commands.looks


async def test_a_report_notifies_nobody_once_more() -> None:
    assert await looks(Commands("bcde")) == [False] * 4


async def test_bridges_that_do_not_report_are_notified_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(member_reports, "OBSERVE_S", 0.0)
    assert await looks(Commands("bcde", silent=2)) == [False, True, True, False, False, False]
