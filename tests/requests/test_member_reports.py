"""Commands in a group, by a real PostgreSQL: what is passed on, reported and answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from bridge.contract.errors import Forbidden
from bridge.contract.operator import ReleaseReport
from bridge.jobs.database import DatabaseError
from bridge.jobs.database.notices import listen
from bridge.jobs.journal import CHANNEL
from bridge.requests import member_reports
from bridge.requests.context import Answer
from bridge.requests.member_reports import MemberReports
from tests.jobs.members import Member
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql

VERB = "queue/release"
DONE = Answer(data=ReleaseReport(released=1))


class Operator:
    """Carries out commands when its test lets it."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.answer = DONE
        self.may = asyncio.Event()
        self.may.set()
        self.began = asyncio.Event()

    async def handle(self, verb: str, _payload: bytes, _correlation: bytes | None) -> Answer:
        self.commands.append(verb)
        self.began.set()
        await self.may.wait()
        return self.answer


class Bridge(Member):
    """A member, with what it does about an operator's commands."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(address, name)
        self.operator = Operator()
        self.reports = MemberReports(
            name,
            self.operator.handle,
            self.journal.commands,
            owner={"b-one": "b"}.get,
            gpu_owner=lambda _: None,
        )
        self.address = address
        self._listens = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.journal.open()
        await self.join()
        tasks = [asyncio.create_task(self.reports.run()), asyncio.create_task(self._listen())]
        await self._listens.wait()
        yield
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.journal.close()

    async def _listen(self) -> None:
        """Pass notices on, as `Group` does."""

        async def nothing(_: Any) -> None: ...

        def received(_: str | None) -> None:
            self._listens.set()
            self.reports.look_for_commands()
            self.reports.look_for_reports()

        await listen(self.address, CHANNEL, received, began=nothing, poll=nothing, every_s=60.0)

    async def ask(self, payload: bytes = b"", verb: str = VERB) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reports.handle(verb, payload, None)

    async def passed_on(self) -> list[str]:
        return await self.journal.adapter_store.names("command")


@pytest.fixture
async def group(postgresql: PostgreSQL) -> AsyncIterator[list[Bridge]]:
    """Three bridges, of which the first one takes the requests."""
    bridges: list[Bridge] = []
    async with AsyncExitStack() as stack:
        address = stack.enter_context(postgresql.database())
        for name in "abc":
            bridges.append(Bridge(address, name))
            await stack.enter_async_context(bridges[-1].running())
        yield bridges


def failed(answer: Answer) -> dict[str, str]:
    return {name: error.code for name, error in (answer.data.failed or {}).items()}


async def test_all_carry_a_command_out_and_one_answer_has_what_they_did(
    group: list[Bridge],
) -> None:
    a, b, c = group
    b.operator.answer = Answer(data=ReleaseReport(released=5))
    c.operator.answer = Answer(error=Forbidden("not here"))
    answer = await a.ask(b'{"transaction": "t1"}')
    assert answer.transaction == "t1"
    assert (answer.data.released, failed(answer)) == (6, {"c": "forbidden"})
    assert [each.operator.commands for each in group] == [[VERB]] * 3
    assert await a.passed_on() == []


async def test_a_command_that_cannot_be_read_delays_no_other(group: list[Bridge]) -> None:
    a = group[0]
    await a.journal.adapter_store.keep("command", {f"{a.life}.0": b"no command"})
    assert (await a.ask()).data.released == 3


async def test_a_bridge_that_dies_while_its_report_is_due_is_named_in_the_answer(
    group: list[Bridge],
) -> None:
    a, b, c = group
    c.operator.may.clear()
    asked = asyncio.create_task(a.ask())
    await c.operator.began.wait()
    await c.journal.leave()  # as whoever misses it deletes its row
    answer = await asked
    assert (answer.data.released, failed(answer)) == (2, {"c": "comfyui_unavailable"})
    assert b.operator.commands == [VERB]


async def test_a_bridge_that_runs_and_does_not_report_is_not_waited_for_without_end(
    group: list[Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = group
    monkeypatch.setattr(member_reports, "REPORT_S", 0.0)
    for each in group:
        each.operator.may.clear()
    asked = asyncio.create_task(a.ask())
    for each in group:
        await each.operator.began.wait()
    a.operator.may.set()
    answer = await asked
    assert (answer.data.released, failed(answer)) == (1, {"b": "timeout", "c": "timeout"})
    # What one reports later is not kept: nobody waits for it.
    report, reported = b.journal.commands.report, asyncio.Event()

    async def is_reported(*values: Any) -> None:
        await report(*values)
        reported.set()

    monkeypatch.setattr(b.journal.commands, "report", is_reported)
    b.operator.may.set()
    async with asyncio.timeout(PATIENCE_S):
        await reported.wait()
    assert await a.passed_on() == []


async def test_a_command_for_another_bridge_is_answered_as_that_one_did(
    group: list[Bridge],
) -> None:
    a, b, c = group
    b.operator.answer = Answer(error=Forbidden("attached", instance="b-one"))
    answer = await a.ask(b"b-one", "comfyui/restart")
    assert answer.error is not None
    assert (answer.error.code, answer.error.details) == ("forbidden", {"instance": "b-one"})
    assert (a.operator.commands, c.operator.commands) == ([], [])


@pytest.mark.parametrize("begun", [False, True])
async def test_a_command_for_a_bridge_that_dies_is_answered(
    group: list[Bridge],
    begun: bool,  # noqa: FBT001
) -> None:
    a, b, _ = group
    b.operator.may.clear()
    if not begun:
        await b.journal.leave()
    asked = asyncio.create_task(a.ask(b"b-one", "comfyui/restart"))
    if begun:
        await b.operator.began.wait()
        await b.journal.leave()
    answer = await asked
    assert answer.error is not None
    assert (answer.error.code, answer.error.details) == ("comfyui_unavailable", {"member": "b"})


async def test_a_bridge_executor_report_was_lost_carries_the_command_out_again(
    group: list[Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = group
    report = b.journal.commands.report
    lost = 0

    async def loses_the_first(*values: Any) -> None:
        nonlocal lost
        lost += 1
        if lost == 1:
            raise DatabaseError("away")
        await report(*values)

    monkeypatch.setattr(b.journal.commands, "report", loses_the_first)
    answer = await a.ask()
    assert (answer.data.released, failed(answer)) == (3, {})
    assert b.operator.commands == [VERB] * 2


async def test_a_command_goes_with_the_bridge_that_passed_it_on(group: list[Bridge]) -> None:
    a, b, c = group
    for each in (b, c):
        each.operator.may.clear()
    asked = asyncio.create_task(a.ask())
    await b.operator.began.wait()
    await c.operator.began.wait()
    asked.cancel()
    await a.journal.leave()
    assert len(await b.passed_on()) == 1
    for each in (b, c):
        each.operator.may.set()
    answer = await b.ask()  # the broker gives the command to the next one
    assert (answer.data.released, failed(answer)) == (2, {})
    assert await b.passed_on() == []


async def test_a_bridge_that_was_started_since_does_not_do_what_it_had_to_before(
    group: list[Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = group

    async def fails(_: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(a.journal.commands, "drop", fails)
    b.operator.may.clear()
    asked = asyncio.create_task(a.ask(b"b-one", "comfyui/stop"))
    await b.operator.began.wait()
    await b.journal.leave()
    again = Bridge(b.address, "b")
    async with again.running():
        answer = await asked
        assert answer.error is not None
        assert (answer.error.code, answer.error.details) == ("comfyui_unavailable", {"member": "b"})
        assert len(await a.passed_on()) == 1  # nor later, though it is still there
        assert await again.journal.commands.unanswered() == {}
    assert again.operator.commands == []


async def test_what_is_for_nobody_else_is_left_to_the_bridge_itself(group: list[Bridge]) -> None:
    a, b, _ = group
    for verb, payload in (("queue/pause", b""), ("comfyui/restart", b"a-one"), ("nonsense", b"{")):
        assert (await a.ask(payload, verb)).data == DONE.data
    assert b.operator.commands == []
