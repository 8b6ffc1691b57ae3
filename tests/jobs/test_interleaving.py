"""Two bridges' transactions on one PostgreSQL, one of them paused before each of its statements.

Whatever the other one does meanwhile, the journal keeps its promises: as if one had waited for the
other, which is what docs/several-bridges.md proves.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, cast

import psycopg
import pytest
from msgspec import Struct
from msgspec.structs import replace

from bridge.contract.errors import Expired
from bridge.jobs.database import LeaseLost
from bridge.jobs.database.pipeline import Pipeline
from bridge.jobs.database.postgresql import PostgreSQL as Engine
from bridge.jobs.job import Blob, Job, KeptOutput, MediaInput
from bridge.jobs.journal import KeptUpload
from bridge.jobs.queue import Key
from tests.jobs.drafts import PLAN, draft
from tests.jobs.members import OVER_S, Member
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql

# As versions before wrote it.
WHOLE_JOURNAL = 0x63326D_01

Act = Callable[[], Awaitable[Any]]


class Gate:
    """Stops a member's transaction before one of its statements, when those before are done."""

    def __init__(self, member: Member) -> None:
        engine = cast("Engine", member.journal._database._engine)
        self.pipeline = cast("Pipeline", engine._pipeline)
        self.pid = self.pipeline._connection.info.backend_pid
        self._before = 0
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self._go = threading.Event()
        for name in ("execute", "command"):
            setattr(self.pipeline, name, self._gated(getattr(self.pipeline, name)))

    def _gated(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*values: Any) -> Any:
            self._before -= "pg_notify" not in values[0]  # those come after the commit
            if self._before == 0:
                self.pipeline.settle()
                self._loop.call_soon_threadsafe(self.reached.set)
                self._go.wait(PATIENCE_S)
            return send(*values)

        return gated

    def stop_before(self, statement: int) -> None:
        self._before = statement
        self.reached.clear()
        self._go.clear()

    def open(self) -> None:
        self._before = 0
        self._go.set()


class Pair(Struct):
    """Two transactions of two members, and what holds once both are over.

    `check` is given what each returned or raised.
    """

    first: Act
    second: Act
    check: Callable[[Any, Any], Awaitable[None]]


class Two:
    """Two members, and somebody who watches what they wait for."""

    def __init__(self, a: Member, b: Member, address: str) -> None:
        self.a, self.b = a, b
        self._watcher = psycopg.connect(address, autocommit=True)
        self._gates = {id(each): Gate(each) for each in (a, b)}
        self.client = ""
        self.overtaken = False
        """True if the second one ended before the first one, a's, continued."""

    def close(self) -> None:
        self._watcher.close()

    def key(self, job_id: str = "j1") -> Key:
        return Key(self.client, job_id)

    async def accept(self, job_id: str = "j1", by: Member | None = None, **changes: Any) -> Job:
        journal = (by or self.a).journal
        return (await journal.accept(draft(job_id, self.client, **changes), 1000.0)).record.job

    async def claimed(self, by: Member, job_id: str = "j1") -> Job:
        job = await self.accept(job_id)
        assert await by.journal.claim(job)
        return job

    def delete_jobs(self) -> None:
        """Delete the client's jobs, as the sweep does once their ids are forgotten."""
        self._watcher.execute(b"DELETE FROM jobs WHERE client = %s", (self.client,))

    async def revive(self) -> None:
        """Make both of them new members, whose leases have not expired."""
        self._watcher.execute(b"DELETE FROM members")
        self._watcher.execute(b"DELETE FROM intake")
        for each in (self.a, self.b):
            each.journal._database.guard("SELECT 1")
            each.life = uuid.uuid4().hex
            assert await each.join() is None

    async def run(self, pair: Pair, paused: Member, statement: int) -> bool:
        """Run both, the first one stopped before a statement; False if it has not so many."""
        gate = self.stop(paused, before=statement)
        first = asyncio.ensure_future(_outcome(pair.first))
        stopped = asyncio.ensure_future(gate.reached.wait())
        await asyncio.wait((first, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        reached = gate.reached.is_set()
        second = asyncio.ensure_future(_outcome(pair.second))
        if reached:
            await self.until_waiting(self._other(paused), second)
        self.overtaken = second.done() and paused is self.a
        gate.open()
        async with asyncio.timeout(PATIENCE_S):
            await pair.check(await first, await second)
        return reached

    def stop(self, member: Member, before: int) -> Gate:
        """Stop a member's next transaction before a statement."""
        gate = self._gates[id(member)]
        gate.stop_before(before)
        return gate

    async def until_waiting(self, member: Member, asked: asyncio.Future[Any]) -> None:
        """Wait until a member's transaction is over or waits for a lock."""
        while not asked.done() and not self._waits(self._gates[id(member)].pid):
            await asyncio.wait((asked,), timeout=0.002)  # there is no event of a wait for a lock

    async def is_over_while_stopped(self, first: Act, second: Act) -> None:
        """Stop a's transaction while it holds its locks; b's waits for none of them."""
        gate = self.stop(self.a, before=5)
        under_way = asyncio.ensure_future(first())
        await gate.reached.wait()
        asked = asyncio.ensure_future(second())
        await self.until_waiting(self.b, asked)
        gate.open()
        assert asked.done()
        await asyncio.gather(under_way, asked)

    def _other(self, member: Member) -> Member:
        return self.b if member is self.a else self.a

    def _waits(self, pid: int) -> bool:
        row = self._watcher.execute(
            b"SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", (pid,)
        ).fetchone()
        return row == ("Lock",)


async def _outcome(act: Act) -> Any:
    try:
        return await act()
    except Exception as error:  # noqa: BLE001 - it is the outcome
        return error


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
async def two(address: str) -> AsyncIterator[Two]:
    members = [Member(address, name) for name in "ab"]
    for each in members:
        await each.journal.open()
        await each.journal._rows(
            "SELECT set_config('idle_in_transaction_session_timeout', '0', false)"
        )
    two = Two(members[0], members[1], address)
    yield two
    two.close()
    for each in members:
        await each.journal.close()


async def same_request(two: Two) -> Pair:
    """Two bridges are given one request, of one delivery: while the intake changes hands."""
    delivery = f"{uuid.uuid4().hex}:1:press"

    def accept(by: Member, name: str) -> Act:
        new = draft(name, two.client, delivery=delivery, redelivered=True)
        return lambda: by.journal.accept(new, 1000.0)

    async def check(first: Any, second: Any) -> None:
        assert sorted((first.new, second.new)) == [False, True]
        assert first.record.job.key == second.record.job.key
        assert len(await two.a.journal.page(two.client, after=0, limit=9)) == 1

    return Pair(accept(two.a, "one"), accept(two.b, "two"), check)


async def same_id(two: Two) -> Pair:
    """Two bridges are given the same job id."""

    async def check(first: Any, second: Any) -> None:
        assert sorted((first.new, second.new)) == [False, True]

    new = draft("j1", two.client)
    return Pair(
        lambda: two.a.journal.accept(new, 1000.0), lambda: two.b.journal.accept(new, 1000.0), check
    )


async def two_claims(two: Two) -> Pair:
    """Two bridges want one job."""
    job = await two.accept()

    async def check(first: Any, second: Any) -> None:
        assert sorted((first, second)) == [False, True]
        owner = (await two.a.journal.get(job.key)).owner
        assert owner == (two.a if first else two.b).life

    return Pair(lambda: two.a.journal.claim(job), lambda: two.b.journal.claim(job), check)


async def cancel_and_claim(two: Two) -> Pair:
    """One bridge cancels a job that another one wants."""
    job = await two.accept()

    async def check(first: Any, second: Any) -> None:
        record = await two.a.journal.get(job.key)
        if second:
            assert (first, record.owner) == ("queued", two.b.life)
            assert record.cancelling
        else:
            assert isinstance(first, Job)
            assert record.owner == two.a.life

    return Pair(
        lambda: two.a.journal.claim_to_cancel(job.key), lambda: two.b.journal.claim(job), check
    )


async def two_ends(two: Two) -> Pair:
    """Two bridges end jobs of one client: a higher number is not on disk before a lower one."""
    await two.claimed(two.a, "j1")
    await two.claimed(two.b, "j2")

    async def check(first: Any, second: Any) -> None:
        assert int(first) != int(second)
        assert not two.overtaken or int(second) < int(first)

    return Pair(lambda: two.a.finish(two.key("j1")), lambda: two.b.finish(two.key("j2")), check)


async def end_and_delete_dead(two: Two) -> Pair:
    """A bridge ends its job while another one counts it as dead."""
    job = await two.claimed(two.a)
    await two.b.beat()
    await two.a.beat(OVER_S, staying=False)

    async def check(first: Any, second: Any) -> None:
        record = await two.b.journal.get(job.key)
        if isinstance(first, LeaseLost):
            assert [each.job.key for each in second.requeued] == [job.key]
            assert (record.job.state, record.owner, record.ended) == ("queued", None, False)
        else:
            assert second.requeued == []
            assert (record.job.state, record.n) == ("succeeded", int(first))

    return Pair(lambda: two.a.finish(job.key), lambda: two.b.beat(OVER_S), check)


async def accept_and_delete_dead(two: Two) -> Pair:
    """A bridge that receives requests accepts one while another one counts it as dead."""
    await two.b.beat()
    await two.a.beat(OVER_S, staying=False)

    async def check(first: Any, _second: Any) -> None:
        there = await two.b.journal.page(two.client, after=0, limit=9)
        assert len(there) == (not isinstance(first, LeaseLost))
        assert not two.overtaken or isinstance(first, LeaseLost)

    return Pair(two.accept, lambda: two.b.beat(OVER_S), check)


async def renew_and_delete_dead(two: Two) -> Pair:
    """A bridge whose lease is over renews it while another one counts it as dead."""
    job = await two.claimed(two.a)
    await two.b.beat()
    await two.a.beat(OVER_S, staying=False)

    async def check(first: Any, second: Any) -> None:
        removed = isinstance(first, LeaseLost)
        assert [each.job.key for each in second.requeued] == [job.key] * removed
        assert (await two.b.journal.get(job.key)).owner == (None if removed else two.a.life)
        assert (await two.b.beat()).others == (set() if removed else {"a"})
        assert not two.overtaken or removed

    return Pair(two.a.beat, lambda: two.b.beat(OVER_S), check)


async def two_intakes(two: Two) -> Pair:
    """Two bridges see that nobody has the intake."""
    await two.a.journal.hand_over()
    await two.b.journal.hand_over()

    async def check(first: Any, second: Any) -> None:
        assert sorted((first.intake, second.intake)) == [False, True]

    return Pair(two.a.beat, two.b.beat, check)


async def forget_and_end(two: Two) -> Pair:
    """A client forgets a job that ends: it is gone, or it is there, but not half of it."""
    job = await two.claimed(two.b)
    output = kept(two.client)

    async def check(first: Any, _second: Any) -> None:
        result = (await two.a.journal.get(job.key)).result
        there = await two.a.journal.output(job.key, 0)
        assert (result is None, there is None) == (first, first)

    return Pair(
        lambda: two.a.journal.forget(job.key), lambda: two.b.finish(job.key, [output]), check
    )


async def sweep_and_accept(two: Two) -> Pair:
    """Bytes are swept that a request names."""
    output = kept(two.client)
    upload = KeptUpload("image", "image/png", "png", output.sha256, output.size, output.data)
    await two.a.journal.keep_upload(two.client, "picture", upload, keep_until=100.0)
    picture = Blob(output.sha256, output.size, "image/png", "png")
    plan = replace(PLAN, media=[MediaInput("i", "image", "1", "image", "media", [picture])])

    async def check(first: Any, second: Any) -> None:
        there = await two.a.journal.blob(output.sha256) is not None
        assert first is None
        assert isinstance(second, Expired) == (not there)

    return Pair(
        lambda: two.a.journal.sweep(now=200.0, results_before=0.0, forget_before=0.0),
        lambda: two.accept("late", two.b, plan=plan),
        check,
    )


async def drop_and_end(two: Two) -> Pair:
    """Bytes that nothing refers to are deleted while a job ends with the same."""
    await two.claimed(two.a, "j1")
    job = await two.claimed(two.b, "j2")
    output = kept(two.client)
    await two.a.finish(two.key("j1"), [output])
    await two.a.journal.forget(two.key("j1"))

    async def check(first: Any, second: Any) -> None:
        assert first is None
        assert isinstance(second, bytes)
        stored = await two.a.journal.output(job.key, 0)
        assert stored is not None
        assert stored.data == output.data

    return Pair(
        lambda: two.a.journal._drop_blobs([output.sha256]),
        lambda: two.b.finish(job.key, [output]),
        check,
    )


async def crosswise_drop(two: Two) -> Pair:
    """Bytes that nothing refers to are deleted while a job ends with the same, the last one first.

    Without a lock each would wait for the other: who deletes, for the row that the job's output
    refers to, and who ends the job, for the row that is being deleted.
    """
    await two.claimed(two.a, "j1")
    job = await two.claimed(two.b, "j2")
    pictures = [kept(f"{two.client}-{number}") for number in range(2)]
    await two.a.finish(two.key("j1"), numbered(pictures))
    await two.a.journal.forget(two.key("j1"))
    turned = numbered(pictures[::-1])

    async def check(first: Any, second: Any) -> None:
        assert first is None
        assert isinstance(second, bytes)
        for output in turned:
            stored = await two.a.journal.output(job.key, output.index)
            assert stored is not None
            assert stored.data == output.data

    return Pair(
        lambda: two.a.journal._drop_blobs([each.sha256 for each in pictures]),
        lambda: two.b.finish(job.key, turned),
        check,
    )


async def forget_and_accept(two: Two) -> Pair:
    """A client without jobs is forgotten while it returns: it gets no number again."""
    job = await two.claimed(two.a)
    seen = int(await two.a.finish(job.key))
    two.delete_jobs()

    async def check(first: Any, _second: Any) -> None:
        assert first is None
        n = (await two.a.journal.get(two.key("late"))).n
        assert n > seen
        row = await two.a.journal._rows(
            "SELECT reserved FROM clients WHERE client = ?", (two.client,)
        )
        assert row == [(n,)]

    return Pair(
        lambda: two.a.journal._forget_clients([two.client]),
        lambda: two.accept("late", two.b),
        check,
    )


async def crosswise_bytes(two: Two) -> Pair:
    """Jobs of two clients give the same pictures, in another order."""
    one, other = two.client, f"other-{two.client}"
    await two.claimed(two.a)
    two.client = other
    await two.claimed(two.b)
    pictures = [kept(f"{one}-{number}") for number in range(2)]

    def end(by: Member, client: str, outputs: list[KeptOutput]) -> Act:
        return lambda: by.finish(Key(client, "j1"), numbered(outputs))

    async def check(first: Any, second: Any) -> None:
        assert isinstance(first, bytes)
        assert isinstance(second, bytes)

    return Pair(end(two.a, one, pictures), end(two.b, other, pictures[::-1]), check)


def kept(name: str) -> KeptOutput:
    """Return a picture that is like no other."""
    data = name.encode()
    return KeptOutput(
        index=0,
        content_type="image/png",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        data=data,
    )


def numbered(outputs: Iterable[KeptOutput]) -> list[KeptOutput]:
    """Return pictures as the outputs of one job, in their order."""
    return [replace(each, index=index) for index, each in enumerate(outputs)]


PAIRS = (
    same_request,
    same_id,
    two_claims,
    cancel_and_claim,
    two_ends,
    end_and_delete_dead,
    accept_and_delete_dead,
    renew_and_delete_dead,
    two_intakes,
    forget_and_end,
    sweep_and_accept,
    drop_and_end,
    crosswise_drop,
    forget_and_accept,
    crosswise_bytes,
)


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize("prepare", PAIRS, ids=lambda each: each.__name__)
async def test_transactions_of_two_bridges_are_as_one_after_the_other(
    two: Two,
    prepare: Callable[[Two], Awaitable[Pair]],
    turned: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    statement = 0
    reached = True
    while reached:
        statement += 1
        two.client = f"c{statement}"
        await two.revive()
        pair = await prepare(two)
        paused = two.a
        if turned:
            paused, check = two.b, pair.check
            pair = Pair(pair.second, pair.first, _turned(check))
        reached = await two.run(pair, paused, statement)
    assert statement > 5  # it has stopped at some
    assert "deadlock" not in caplog.text


async def test_a_bridge_of_the_version_before_is_alone_while_it_writes(
    two: Two, address: str
) -> None:
    """It takes the whole journal's lock for each transaction, as all did once."""
    with psycopg.connect(address) as old:
        old.execute(b"SELECT pg_advisory_xact_lock(%s)", (WHOLE_JOURNAL,))
        asked = asyncio.ensure_future(two.accept())
        await two.until_waiting(two.a, asked)
        assert not asked.done()
        old.commit()
        await asked
        gate = two.stop(two.a, before=4)
        asked = asyncio.ensure_future(two.accept("j2"))
        await gate.reached.wait()
        taken = old.execute(b"SELECT pg_try_advisory_xact_lock(%s)", (WHOLE_JOURNAL,)).fetchone()
        assert taken == (False,)
        gate.open()
        await asked


async def test_a_heartbeat_stops_nobody_and_waits_for_nobody(two: Two) -> None:
    await two.revive()
    assert (await two.a.beat()).intake
    assert (await two.b.beat()).others == {"a"}
    two.client = "alice"
    job = await two.accept()

    await two.is_over_while_stopped(two.a.beat, lambda: two.b.journal.claim(job))
    await two.is_over_while_stopped(lambda: two.accept("j2"), two.b.beat)
    await two.is_over_while_stopped(two.a.beat, two.b.beat)


async def test_bridges_write_for_different_clients_at_the_same_time(two: Two) -> None:
    await two.revive()
    acts: list[list[Act]] = []
    for each in (two.a, two.b):
        two.client = f"client-{each.name}"
        running = await two.claimed(each, "running")
        queued = await two.accept("queued", each)
        new = draft("new", two.client)
        acts.append(
            [
                partial(each.journal.accept, new, 1000.0),
                partial(each.journal.claim, queued),
                partial(each.finish, running.key),
            ]
        )
    for first, second in zip(*acts, strict=True):
        await two.is_over_while_stopped(first, second)


def _turned(check: Callable[[Any, Any], Awaitable[None]]) -> Any:
    async def turned(first: Any, second: Any) -> None:
        await check(second, first)

    return turned
