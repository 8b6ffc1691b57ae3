"""Measures journals of many ended jobs: `python -m tests.simulation.rows [ROWS ...]`.

Each is in PostgreSQL, as a group leaves it that keeps everything for its usual time and has ended
so many jobs in 30 days (`tests.jobs.many`): by default a thousand and a million, side by side.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click

from bridge.jobs.journal import Journal
from bridge.mosquitto import Mosquitto
from tests.bench.writer import LEASE_S, finish, new_draft, run_one
from tests.jobs.many import BUSY, CLIENTS, REMEMBERED_S, RESULTS_S, fill
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL, running_postgresql

MAX_OUTPUTS = 20 * 1024**3
# So many have had their time when the sweep deletes some.
SWEPT = 10_000
TIMES, STARTS, QUEUED = 200, 3, 400


@asynccontextmanager
async def _opened(address: str, name: str) -> AsyncIterator[Journal]:
    journal = Journal(address)
    await journal.open()
    await journal.join(name, uuid.uuid4().hex, LEASE_S)
    await journal.beat(LEASE_S, staying=False)
    try:
        yield journal
    finally:
        await journal.leave()
        await journal.close()


class Times:
    """Durations of several things, in milliseconds, by what they were of."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    async def __call__(self, what: str, do: Awaitable[object]) -> None:
        began = time.perf_counter()
        await do
        self._found.setdefault(what, []).append(1000 * (time.perf_counter() - began))

    def summary(self) -> dict[str, str]:
        return {
            what: f"{statistics.median(each):,.1f} ms"
            + (f" ({max(each):,.0f} at most)" if len(each) > 1 else "")
            for what, each in self._found.items()
        }


async def _jobs(journal: Journal, times: Times, when: str, wanted: Callable[[int], bool]) -> None:
    """Take jobs through the journal, one after another, while they are wanted."""
    done = 0
    while wanted(done):
        draft = new_draft(f"c{done % CLIENTS}")
        await times(f"a request{when}", journal.accept(draft, journal.clock.now()))
        await times(f"a claim{when}", journal.claim(draft.job, lambda _: None))
        await times(f"an outcome{when}", finish(journal, draft.key))
        done += 1


async def _measured(address: str, rows: int, now: float) -> dict[str, str]:
    times = Times()
    async with _opened(address, "a") as one, _opened(address, "b") as other:
        await _jobs(other, times, "", lambda done: done < TIMES)
        for _ in range(TIMES):
            await times("an `ack` of a client with a tenth of all jobs", one.ack(BUSY, 10**9))
            listed = one.page(BUSY, after=0, limit=50, states=("queued", "running"))
            await times("its `list` of jobs that have not ended", listed)
        await times("results that the broker may not have", one.unpublished(now - 60))
        await times("those of dead bridges", one.unpublished(now - 60, orphans=True))
        await _swept(one, other, times, "nothing", now)
        if rows > SWEPT:
            later = now + SWEPT / rows * REMEMBERED_S
            await _swept(one, other, times, f"{SWEPT:,} of each", later)
        await _service(address, times, other)
    return times.summary()


async def _swept(one: Journal, other: Journal, times: Times, what: str, now: float) -> None:
    """Sweep by one bridge, while another one takes jobs."""
    sweep = asyncio.create_task(_sweep(one, now))
    jobs = _jobs(other, times, f" while {what} is swept", lambda _: not sweep.done())
    await asyncio.gather(times(f"a sweep of {what}", sweep), jobs)


async def _sweep(journal: Journal, now: float) -> None:
    """Sweep as a bridge does every minute."""
    await journal.sweep(
        now=now,
        results_before=now - RESULTS_S,
        forget_before=now - REMEMBERED_S,
        max_outputs=MAX_OUTPUTS,
        max_outputs_of=lambda _: MAX_OUTPUTS,
    )


async def _service(address: str, times: Times, journal: Journal) -> None:
    """Start a bridge some times, and have it list a queue."""
    for number in range(QUEUED):
        await journal.accept(new_draft(f"c{number % CLIENTS}"), journal.clock.now())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        async with Mosquitto(folder / "mosquitto") as broker, Peer(broker.url) as peer:
            await peer.subscribe("comfy2mqtt/bridge/#")
            for number in range(STARTS):
                bridge = BridgeProcess(
                    folder / f"bridge{number}",
                    mqtt_url=broker.url,
                    journal=address,
                    member=f"m{number}",
                    comfyui_url="http://127.0.0.1:9",
                    log_level="warning",
                )
                await bridge.start(ready=False)
                await times("a start of a bridge, until it takes requests", _online(peer))
                for _ in range(TIMES // STARTS):
                    await times(f"`queue/list` of {QUEUED} jobs", _queue(peer))
                await bridge.stop()


async def _online(peer: Peer) -> None:
    await peer.next("comfy2mqtt/bridge/state", lambda message: message.payload == b"online", 60.0)


async def _queue(peer: Peer) -> None:
    peer.publish("comfy2mqtt/bridge/request/queue/list", {"limit": 1000})
    await peer.next("comfy2mqtt/bridge/response/queue/list")


def _table(found: dict[int, dict[str, str]]) -> str:
    heads = ("", *(f"{rows:,} ended jobs" for rows in found))
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * len(found)}"]
    lines += [
        f"| {what} | {' | '.join(each.get(what, '') for each in found.values())} |"
        for what in dict.fromkeys(what for each in found.values() for what in each)
    ]
    return "\n".join(lines)


async def _main(server: PostgreSQL, counts: Sequence[int]) -> None:
    found = {}
    for rows in counts:
        with server.database() as address:
            began = time.monotonic()
            async with _opened(address, "first") as journal:
                key = await run_one(journal, BUSY)
                now = journal.clock.now()
            await asyncio.to_thread(fill, address, key.job_id, rows, now)
            seconds = time.monotonic() - began
            found[rows] = await _measured(address, rows, now)
            click.echo(f"{rows:,} rows, made in {seconds:.0f} s: {found[rows]}", err=True)
    click.echo(_table(found))
    click.echo(f"load {os.getloadavg()[0]:.1f} at the end")


@click.command()
@click.argument("counts", type=int, nargs=-1)
def main(counts: tuple[int, ...]) -> None:
    """Measure journals of so many ended jobs."""
    build = Path.cwd() / "build"
    build.mkdir(exist_ok=True)
    with running_postgresql(build, durable=True) as server:
        asyncio.run(_main(server, counts or (1_000, 1_000_000)))


if __name__ == "__main__":
    main()
