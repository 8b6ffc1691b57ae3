"""A bridge among others on one journal, with a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import psycopg
import pytest

from bridge.contract.numbering import Numbered
from bridge.contract.sources import JobOutput
from bridge.jobs import group as groups
from bridge.jobs import runner
from bridge.jobs.core import JobLimits
from bridge.jobs.database import DatabaseError
from bridge.jobs.dependencies import Dependencies, Sources
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.finalizer import Finalizer
from bridge.jobs.group import Group
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.media.files import Folder
from tests.jobs import members as journal_members
from tests.jobs.dispatching import Recorder, SteeredComfyUI, waits_for
from tests.jobs.drafts import KEPT_PICTURE, draft
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql


class Member(NamedTuple):
    """A bridge of a group."""

    journal: Journal
    dispatcher: Dispatcher
    group: Group
    silent: list[bool]
    """Of each heartbeat, whether it came after a silence."""


@asynccontextmanager
async def member(
    address: str,
    folder: Path,
    name: str = "one",
    comfyui: SteeredComfyUI | None = None,
    *,
    lease_s: float = 2.0,
    intake: bool = True,
) -> AsyncIterator[Member]:
    journal, files, recorder = Journal(address), Folder(folder / "blobs"), Recorder()
    await journal.open()
    files.open()
    dispatcher = Dispatcher(
        journal=journal,
        files=files,
        instances=[] if comfyui is None else [cast("Any", comfyui)],
        listener=recorder,
        dependencies=Dependencies(
            journal, files, Sources(cast("Any", None), cast("Any", None)), cast("Any", None)
        ),
        can_run=lambda _name, _needs: True,
        limits=JobLimits(3, 60.0, 60.0, 60.0),
        finalizer=Finalizer(
            journal, files, recorder, 60.0, show=cast("Any", None), transcoder=cast("Any", None)
        ),
    )
    group = Group(address, name, lease_s, journal=journal, dispatcher=dispatcher, listener=recorder)
    await group.join()
    await dispatcher.recover()
    silent: list[bool] = []
    following = group.run(lambda _: silent.append(group.was_silent))
    tasks = [asyncio.create_task(following), asyncio.create_task(dispatcher.run())]
    try:
        if intake:
            await group.wait_for_intake()
        yield Member(journal, dispatcher, group, silent)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await journal.close()


async def state_is(journal: Journal, key: Key, wanted: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await journal.get(key)).job.state != wanted:  # noqa: ASYNC110 - another process's row
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("cut", [False, True])
async def test_a_job_learns_the_end_of_what_it_waits_for_though_the_notice_was_missed(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cut: bool
) -> None:
    monkeypatch.setattr(groups, "COMPARE_S", 0.5)
    with postgresql.database() as address:
        async with member(address, tmp_path) as one:
            other, life = Journal(address), uuid.uuid4().hex
            await other.open()
            await other.join("two", life, 100.0)
            other.member(life)
            source = (await one.journal.accept(draft("source"), 1.0)).record.job
            assert await other.claim(source)  # bridge two runs it
            waiter = draft("waiter", plan=waits_for(JobOutput("source")))
            job = (await one.journal.accept(waiter, 1.0)).record.job
            one.dispatcher.accept(job, waiter.plan)
            while not one.dispatcher.awaited():  # noqa: ASYNC110 - nothing reports it
                await asyncio.sleep(0.01)
            if cut:
                cut_notices(address)
            await other.finish(
                source.key,
                state="succeeded",
                result=Numbered(b"{}", b""),
                now=1.0,
                outputs=[KEPT_PICTURE],
                keep_until=9e12,
            )
            await state_is(one.journal, job.key, "queued")
            await other.close()


async def test_a_bridge_that_released_the_requests_leaves_them_to_others_for_two_leases(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()

    def once(*_: float, **__: bool) -> bool:
        was_released = released.is_set()
        released.set()
        return not was_released

    with postgresql.database() as address:
        async with member(address, tmp_path, lease_s=0.5) as one:
            before = time.monotonic()
            monkeypatch.setattr(one.group.refused, "gives_up", once)
            async with asyncio.timeout(PATIENCE_S):
                await released.wait()
                await one.group.wait_for_intake()
            assert time.monotonic() - before >= 2 * one.group.lease_s


async def test_a_heartbeat_that_has_begun_does_not_take_the_requests_back_that_are_handed_over(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    with postgresql.database() as address:
        async with member(address, tmp_path) as one:
            beat = one.journal.beat

            async def slow(*words: Any, **more: Any) -> Any:
                begun.set()
                await go_on.wait()
                return await beat(*words, **more)

            monkeypatch.setattr(one.journal, "beat", slow)
            async with asyncio.timeout(PATIENCE_S):
                await begun.wait()
                handed_over = asyncio.create_task(one.group.hand_over())
                await asyncio.wait((handed_over,), timeout=0.5)
                beats = len(one.silent)
                go_on.set()
                await handed_over
                while len(one.silent) == beats:  # noqa: ASYNC110 - a list has no event
                    await asyncio.sleep(0.01)
            assert not await one.journal.holds_intake()
            assert not one.group.has_intake


async def test_a_damaged_row_of_a_bridge_that_has_left_costs_that_job_alone(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with postgresql.database() as address:
        other = Journal(address)
        await other.open()
        await other.join("two", uuid.uuid4().hex, 100.0)
        job = (await other.accept(draft("j1"), 1.0)).record.job
        assert await other.claim(job)
        await other.accept(draft("sound"), 2.0)
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute("UPDATE jobs SET envelope = '{' WHERE job_id = 'j1'")
        await other.leave()
        await other.close()
        async with member(address, tmp_path, comfyui=SteeredComfyUI()) as one:
            await state_is(one.journal, job.key, "failed")
            await state_is(one.journal, Key("alice", "sound"), "running")


def cut_notices(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'comfy2mqtt notices'"
        )


async def test_a_bridge_whose_heartbeats_fail_holds_nothing_once_its_lease_is_over(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql.database() as address:
        async with member(address, tmp_path) as one, asyncio.timeout(PATIENCE_S):
            # From then on the session counts: the lease alone is cut.
            while len(one.silent) < 4:  # noqa: ASYNC110 - a heartbeat tells
                await asyncio.sleep(0.02)
            assert one.group.holds_lease()
            with monkeypatch.context() as cut:

                async def beat(*_: object, **__: object) -> NoReturn:
                    raise DatabaseError("cut off")

                cut.setattr(one.journal, "beat", beat)
                await asyncio.sleep(one.group.lease_s)
                assert not one.group.holds_lease()
            await one.group.wait_for_lease()
            while True not in one.silent:  # noqa: ASYNC110 - a heartbeat tells
                await asyncio.sleep(0.02)


async def test_a_waiting_job_that_the_last_life_had_claimed_is_released(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with postgresql.database() as address:
        before, life = Journal(address), uuid.uuid4().hex
        await before.open()
        await before.join("one", life, 0.01)
        await before.accept(draft("source"), 1.0)
        waiter = draft("waiter", plan=waits_for(JobOutput("source")))
        job = (await before.accept(waiter, 1.0)).record.job
        assert await before.claim(job)  # to cancel it; then the bridge is killed
        await before.close()
        async with member(address, tmp_path) as one:
            source = Key("alice", "source")
            await one.journal.finish(
                source,
                state="succeeded",
                result=Numbered(b"{}", b""),
                now=1.0,
                outputs=[KEPT_PICTURE],
                keep_until=9e12,
            )
            one.dispatcher.ended_elsewhere(source)
            await state_is(one.journal, job.key, "queued")


@pytest.mark.parametrize("at_hand", [runner._PLANS_AT_HAND, 0], ids=["room", "full"])
async def test_a_job_of_another_bridge_starts_by_the_plan_that_came_with_its_claim(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_hand: int
) -> None:
    monkeypatch.setattr(runner, "_PLANS_AT_HAND", at_hand)
    comfyui = SteeredComfyUI()
    with postgresql.database() as address:
        async with member(address, tmp_path, comfyui=comfyui) as one:

            async def plan(_: Key) -> NoReturn:
                raise AssertionError("read for itself")

            monkeypatch.setattr(one.journal, "plan", plan)
            other = journal_members.Member(address, "two")
            await other.journal.open()
            await other.join()
            await other.accept()
            async with asyncio.timeout(PATIENCE_S):
                await comfyui.began.get()
            await other.journal.close()


async def test_a_cancel_reaches_the_bridge_that_has_the_job_though_the_notice_was_missed(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "COMPARE_S", 0.5)
    comfyui = SteeredComfyUI()
    with postgresql.database() as address:
        async with member(address, tmp_path, comfyui=comfyui) as one:
            wanted = draft("j1")
            job = (await one.journal.accept(wanted, 1.0)).record.job
            one.dispatcher.accept(job, wanted.plan)
            async with asyncio.timeout(PATIENCE_S):
                prompt_id = await comfyui.began.get()
            await state_is(one.journal, job.key, "running")  # that is written a little later
            only_time_lets_it_compare(one, monkeypatch)
            other = Journal(address)
            await other.open()
            await other.join("two", uuid.uuid4().hex, 100.0)
            # As another bridge asks for it, but for the notice.
            monkeypatch.setattr(other, "_notify_of", lambda *_: None)
            assert await other.claim_to_cancel(job.key) == "running"
            await other.close()
            await state_is(one.journal, job.key, "cancelled")
            assert comfyui.cancelled == [prompt_id]


async def test_a_new_job_is_seen_though_the_notice_was_missed(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "COMPARE_S", 0.5)
    with postgresql.database() as address:
        async with member(address, tmp_path) as one:
            only_time_lets_it_compare(one, monkeypatch)
            await asyncio.sleep(2 * groups.COMPARE_S)  # what its start let it compare is over
            other = Journal(address)
            await other.open()
            monkeypatch.setattr(other, "_notify_of", lambda *_: None)
            job = (await other.accept(draft("j1"), 1.0)).record.job
            await other.close()
            async with asyncio.timeout(PATIENCE_S):
                while job.key not in one.dispatcher.book:  # noqa: ASYNC110 - nothing reports it
                    await asyncio.sleep(0.02)


def only_time_lets_it_compare(one: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep notices, such as that a bridge has joined, from making a bridge compare all."""
    monkeypatch.setattr(one.group, "_compare_all", lambda: None)


async def test_another_bridge_may_ask_which_nodes_there_are(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    asked = asyncio.Event()
    with postgresql.database() as address:
        await _asks(address, tmp_path, asked)


async def _asks(address: str, tmp_path: Path, asked: asyncio.Event) -> None:
    other = journal_members.Member(address, "two")
    await other.journal.open()
    await other.join()
    async with member(address, tmp_path) as one:
        one.group.on_asked = asked.set
        async with asyncio.timeout(PATIENCE_S):
            while not asked.is_set():  # its ears may not be open yet
                await other.journal.ask_nodes()
                await asyncio.sleep(0.05)
    await other.journal.close()


async def test_a_bridge_whose_session_was_cut_stays_a_member(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with postgresql.database() as address:
        async with (
            member(address, tmp_path, "one", lease_s=100.0) as one,
            member(address, tmp_path, "two", lease_s=100.0, intake=False) as two,
        ):
            for _ in range(3):
                cut_notices(address)
                await asyncio.sleep(1.0)  # less than it takes to be missed
            async with asyncio.timeout(PATIENCE_S):
                await one.group.wait_for_lease()
                await two.group.wait_for_lease()
            assert one.group.has_intake
            assert await one.group.confirm_intake()
            assert not await two.group.confirm_intake()


async def test_a_bridge_without_its_session_holds_nothing_though_its_lease_runs(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql.database() as address:
        async with member(address, tmp_path, lease_s=100.0) as one, asyncio.timeout(PATIENCE_S):
            while one.group._presence.session is None:  # noqa: ASYNC110 - nothing reports it
                await asyncio.sleep(0.02)
            with monkeypatch.context() as cut:
                # The journal's connection stays.
                cut.setattr("bridge.jobs.database.notices._connected", _no_connection)
                one.silent.clear()
                cut_notices(address)
                while one.group.holds_lease():  # noqa: ASYNC110 - it is over by itself
                    await asyncio.sleep(0.02)
                await one.journal.accept(draft("j1"), 1.0)
            await one.group.wait_for_lease()
            while True not in one.silent:  # noqa: ASYNC110 - a heartbeat tells
                await asyncio.sleep(0.02)


async def _no_connection(_: str) -> NoReturn:
    raise psycopg.OperationalError("cut off")
