"""Measures what the simulation's database costs: `python -m tests.simulation.costs`.

Processor time is the server's own, of all its processes: unlike seconds, it depends little on what
else the machine does.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import click
import psycopg

from bridge.jobs.journal import Journal
from tests.bench.processes import processor_s
from tests.bench.writer import LEASE_S, new_draft, run_one
from tests.support.postgresql import PostgreSQL, running_postgresql

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_JOBS, _READS, _BEATS, _NOTICES = 400, 400, 400, 4000
_AT_ONCE = 100
_LISTENERS = (0, 20)


def server_s(server: PostgreSQL) -> float:
    """Return the processor time that a server and its processes have used, in seconds."""
    process = server._process
    assert process is not None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    # "pid (name) state ...": of the children that have ended, the 14th and 15th after the name.
    fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / _TICKS_A_SECOND
    return processor_s(process.pid) + ended + sum(processor_s(int(child)) for child in children)


async def _measured(
    server: PostgreSQL, what: str, times: int, do: Callable[[], Awaitable[object]]
) -> float:
    """Do something; returns the server's processor time for each of so many, in microseconds."""
    used, began = server_s(server), time.monotonic()
    await do()
    seconds = time.monotonic() - began
    each = (server_s(server) - used) / times
    click.echo(
        f"{what}: {each * 1e6:.0f} us of the server's, {seconds / times * 1e6:.0f} us in all"
    )
    return each


async def _main(server: PostgreSQL) -> None:
    with server.database() as address:
        journal = Journal(address)
        await journal.open()
        with psycopg.connect(address) as connection:
            connection.execute("CHECKPOINT")
            began = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        await journal.join("a", uuid.uuid4().hex, LEASE_S)
        await journal.beat(LEASE_S, staying=True)
        found = await _writes(server, journal)
        _bytes(address, began)
        found |= await _reads(server, journal)
        await journal.close()
        alone, heard = [await _notices(server, address, count) for count in _LISTENERS]
    found["notice_s"] = (heard - alone) / _LISTENERS[-1]
    parameters = ", ".join(f"{name}={each * 1e6:.2g}e-6" for name, each in found.items())
    click.echo(f"for the simulation: {parameters}; load {os.getloadavg()[0]:.1f} at the end")


def _bytes(address: str, began: tuple[str] | None) -> None:
    """Return how many bytes a job takes in the table with its indexes, and in the server's log."""
    with psycopg.connect(address) as connection:
        found = connection.execute(
            "SELECT pg_total_relation_size('jobs') / COUNT(*), "
            "pg_wal_lsn_diff(pg_current_wal_lsn(), %s) / COUNT(*) FROM jobs",
            began,
        ).fetchone()
    if found is not None:
        click.echo(
            f"a job: {found[0]} bytes in the table and its indexes, {found[1]:.0f} in the log"
        )


async def _writes(server: PostgreSQL, journal: Journal) -> dict[str, float]:
    """Measure writes; returns the parameters of the simulation."""

    async def jobs() -> None:
        for _ in range(_JOBS):
            await run_one(journal, "one")

    async def together() -> None:
        for _ in range(_JOBS // _AT_ONCE):
            await asyncio.gather(*(run_one(journal, f"c{each}") for each in range(_AT_ONCE)))

    async def beats() -> None:
        for _ in range(_BEATS):
            await journal.beat(LEASE_S, staying=True)

    before = journal.commits
    each = await _measured(server, "a job, one after another", _JOBS, jobs)
    transactions = (journal.commits - before) / _JOBS
    click.echo(f"  in {transactions:.2f} transactions: {each / transactions * 1e6:.0f} us each")
    before = journal.commits
    of_many = await _measured(server, f"a job, {_AT_ONCE} at a time", _JOBS, together)
    click.echo(f"  in {(journal.commits - before) / _JOBS:.2f} transactions")
    beat = await _measured(server, "a heartbeat", _BEATS, beats)
    # Of a hundred at a time each is a work of a transaction that all share.
    work_s = of_many / transactions
    return {"transaction_s": each / transactions - work_s, "work_s": work_s, "beat_s": beat}


async def _reads(server: PostgreSQL, journal: Journal) -> dict[str, float]:
    """Measure reads; returns the parameters of the simulation."""

    async def compare() -> None:
        for _ in range(_READS):
            await journal.paused()
            await journal.unowned(waiting=True)
            await journal.to_cancel()

    compare_s = await _measured(server, "a comparison with none queued", _READS, compare)
    keys = [
        (await journal.accept(new_draft(f"c{number % 50}"), time.time())).record.job.key
        for number in range(_JOBS)
    ]

    async def records() -> None:
        for _ in range(_READS):
            await journal.records(keys[:_AT_ONCE])

    async def one_each() -> None:
        for key in keys:
            await journal.records([key])

    look_s = await _measured(server, "a job looked at, of many", _READS * _AT_ONCE, records)
    await _measured(server, "a job looked at alone", len(keys), one_each)
    queued = f"a comparison with {len(keys)} queued"
    row_s = (await _measured(server, queued, _READS, compare) - compare_s) / len(keys)
    await _measured(server, "the backlog", _READS, lambda: _backlogs(journal))
    return {"look_s": look_s, "compare_s": compare_s, "row_s": row_s}


async def _backlogs(journal: Journal) -> None:
    for _ in range(_READS):
        await journal.backlog()


async def _notices(server: PostgreSQL, address: str, count: int) -> float:
    async with AsyncExitStack() as stack:
        heard = []
        for _ in range(count):
            listener = await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(address, autocommit=True)
            )
            await listener.execute("LISTEN costs")
            heard.append(asyncio.create_task(_count_notices(listener)))
        sender = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(address, autocommit=True)
        )

        async def notify() -> None:
            for _ in range(_NOTICES):
                await sender.execute("SELECT pg_notify('costs', 'a notice of usual length')")
            await asyncio.gather(*heard)

        return await _measured(server, f"a notice to {count}", _NOTICES, notify)


async def _count_notices(listener: psycopg.AsyncConnection[object]) -> None:
    seen = 0
    async for _ in listener.notifies():
        seen += 1
        if seen == _NOTICES:
            return


if __name__ == "__main__":
    BUILD = Path.cwd() / "build"
    BUILD.mkdir(exist_ok=True)
    with running_postgresql(BUILD, durable=True) as postgresql:
        asyncio.run(_main(postgresql))
